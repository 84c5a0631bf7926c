//! The calls that work on shared memory alone.

use super::Backing;
use super::memory::Memory;
use crate::prim::PageRange;
use crate::sys::SysError;
use crate::sys::memory::SharedMemory;
use std::ops::Deref;
use std::sync::Arc;

/// A backing that is known to be shared memory.
///
/// The page cache holds its pages, so a page that leaves the page table keeps its bytes. Private memory would
/// lose them. The library has no other way to call these functions, so a tracker that empties page tables
/// cannot be started on another kind of memory.
#[derive(Clone, Debug)]
pub(crate) struct SharedBacking(Arc<Backing>);

impl SharedBacking {
    /// None if the memory is of another kind.
    pub(super) fn new(backing: &Arc<Backing>) -> Option<Self> {
        matches!(backing.memory, Memory::Shared(_)).then(|| Self(Arc::clone(backing)))
    }

    fn memory(&self) -> &SharedMemory {
        match &self.0.memory {
            Memory::Shared(memory) => memory,
            Memory::Private(_) => unreachable!("`new` has checked the kind"),
        }
    }

    /// Copies the bytes of `range` to `buf`, which is as long as the range. Neither faults nor counts as a
    /// touch. Only the evictor may call this: it reads by a descriptor of its own table.
    pub(crate) fn read(&self, range: PageRange, buf: &mut [u8]) -> Result<(), SysError> {
        self.memory().read(range, buf)
    }

    /// As [`Backing::discard`], and keeps locked pages locked until they are gone. Only the evictor may call
    /// this.
    pub(crate) fn discard_locked(&self, range: PageRange) -> Result<(), SysError> {
        self.memory().punch_locked(range)
    }

    /// Takes the pages of `range` out of the page table. Their bytes stay, and the next touch of each maps it
    /// again inside the kernel.
    pub(crate) fn empty_page_table(&self, range: PageRange) -> Result<(), SysError> {
        self.memory().zap(range)
    }

    /// Maps the pages of `range`, all of which are in the page cache, into the program's view.
    pub(crate) fn map_in(&self, range: PageRange) -> Result<(), SysError> {
        self.memory().map_in(range)
    }

    /// Keeps the kernel from swapping the pages of `range` out until [`unlock`](Self::unlock). They must be in
    /// the page cache. Counts against `RLIMIT_MEMLOCK`.
    pub(crate) fn lock(&self, range: PageRange) -> Result<(), SysError> {
        self.memory().lock(range)
    }

    /// Unlocks the pages of `range`.
    pub(crate) fn unlock(&self, range: PageRange) -> Result<(), SysError> {
        self.memory().unlock(range)
    }
}

impl Deref for SharedBacking {
    type Target = Backing;

    fn deref(&self) -> &Backing {
        &self.0
    }
}
