//! Memory without a userfaultfd.

use crate::prim::PageRange;
use crate::sys::SysError;
use crate::sys::memory::SharedMemory;

/// The memory of an arena that evicts nothing: the same kind as a backing's, and not registered.
#[derive(Debug)]
pub(crate) struct PlainMemory(SharedMemory);

impl PlainMemory {
    /// Reserves `bytes` of address space, a multiple of the page size, twice.
    pub(crate) fn new(bytes: usize) -> Result<Self, SysError> {
        SharedMemory::new(bytes).map(Self)
    }

    /// The first byte of the program's view.
    pub(crate) fn base(&self) -> *mut u8 {
        self.0.base()
    }

    /// Gives the memory of `range` back. It reads as zeros from then on.
    pub(crate) fn discard(&self, range: PageRange) -> Result<(), SysError> {
        self.0.punch(range)
    }

    /// Bytes of memory, or of the kernel's swap, that the pages take, by the kernel's own count.
    pub(crate) fn memory_bytes(&self) -> Result<u64, SysError> {
        self.0.allocated_bytes()
    }

    /// Whether pages can be locked as [`SharedBacking::lock`](super::SharedBacking::lock) locks them.
    pub(crate) fn try_lock(&self, range: PageRange) -> Result<(), SysError> {
        self.0.lock(range)?;
        self.0.unlock(range)
    }
}
