//! An arena's memory together with the descriptors that its faults come through.
//!
//! The seam between kinds of memory: how a batch is read, dropped and filled is decided here, for
//! pages counted from the arena's start, so that everything above speaks of pages alone. There is
//! one kind so far, the shared one.

use super::error::SysError;
use super::keeper::Keeper;
use super::memory::SharedMemory;
#[cfg(test)]
use super::pagemap::Pagemap;
use super::stripes::Stripes;
use super::uapi::UFFD_FEATURE_POISON;
use super::uffd::{Kind, Outcome, Uffd};
use crate::prim::sync::{Mutex, MutexGuard};
use crate::prim::units::index;
use crate::prim::{PageIndex, PageRange};
use crate::stats::Counters;
use std::sync::{Arc, PoisonError};

/// Shared memory, registered with one or more userfaultfds, stripe by stripe.
#[derive(Debug)]
pub(crate) struct Backing {
    memory: Arc<SharedMemory>,
    uffds: Box<[Uffd]>,
    stripes: Stripes,
    mode: u64,
    /// Makes the calls of threads in whose table a descriptor's number means another file.
    keeper: Arc<Keeper>,
    counters: Arc<Counters>,
    /// Held while a part is registered anew, which must not happen after all of it was unregistered.
    registered: Mutex<bool>,
}

impl Backing {
    /// Registers all of `memory` for `mode`, a mask of `UFFDIO_REGISTER_MODE_*`, with `uffds`, of
    /// which there is at least one and which were all opened for the same features. `keeper` keeps all
    /// descriptors.
    pub(crate) fn new(
        memory: Arc<SharedMemory>,
        uffds: Vec<Uffd>,
        mode: u64,
        keeper: Arc<Keeper>,
        counters: Arc<Counters>,
    ) -> Result<Self, SysError> {
        debug_assert!(!uffds.is_empty());
        let this = Self {
            memory,
            stripes: Stripes::new(uffds.len()),
            uffds: uffds.into(),
            mode,
            keeper,
            counters,
            registered: Mutex::new(true),
        };
        this.register(this.all())?;
        Ok(this)
    }

    fn register(&self, range: PageRange) -> Result<(), SysError> {
        self.for_parts(range, |uffd, start, len| uffd.register(start, len, self.mode))
    }

    pub(crate) fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// The descriptors. The first one stands for what they all have in common.
    pub(crate) fn uffds(&self) -> &[Uffd] {
        &self.uffds
    }

    /// Makes a call for each part of `range` that has a descriptor of its own.
    fn for_parts(
        &self,
        range: PageRange,
        call: impl Fn(&Uffd, u64, usize) -> Result<(), SysError> + Sync,
    ) -> Result<(), SysError> {
        self.stripes.parts(range).try_for_each(|(descriptor, part)| {
            let (start, len) = (self.memory.address(part), part.bytes());
            self.with_uffd(descriptor, Kind::Descriptor, |uffd| call(uffd, start, len))
        })
    }

    /// Makes a call for the first part of `range` that has a descriptor of its own. Where that is not
    /// all of it, being done is being done in part.
    fn for_first_part(
        &self,
        range: PageRange,
        kind: Kind,
        call: impl Fn(&Uffd, u64, usize) -> Result<Outcome, SysError> + Sync,
    ) -> Result<Outcome, SysError> {
        let (descriptor, part) = self.stripes.first_part(range);
        let (start, len) = (self.memory.address(part), part.bytes());
        match self.with_uffd(descriptor, kind, |uffd| call(uffd, start, len))? {
            Outcome::Done if part != range => Ok(Outcome::Partial(part.bytes())),
            outcome => Ok(outcome),
        }
    }

    /// Makes a call on a descriptor: in this thread, or, if the descriptor's number means another file in
    /// this thread's table, in the keeper's.
    #[inline]
    fn with_uffd<R: Send>(
        &self,
        descriptor: usize,
        kind: Kind,
        call: impl Fn(&Uffd) -> Result<R, SysError> + Sync,
    ) -> Result<R, SysError> {
        let uffd = &self.uffds[descriptor];
        if uffd.is_usable(kind) {
            let result = call(uffd);
            if result.is_ok() || uffd.is_ours() {
                return result;
            }
        }
        self.delegate(|| call(uffd))
    }

    /// Has the keeper make a call.
    #[cold]
    fn delegate<R: Send>(
        &self,
        call: impl Fn() -> Result<R, SysError> + Sync,
    ) -> Result<R, SysError> {
        self.counters.delegated_calls.add(1);
        self.keeper.call(&call)
    }

    pub(crate) fn keeper(&self) -> &Arc<Keeper> {
        &self.keeper
    }

    pub(crate) fn all(&self) -> PageRange {
        PageRange::within(0, self.memory.len())
    }

    /// The page that an address lies in, if it lies in the arena.
    pub(crate) fn page_of(&self, address: u64) -> Option<PageIndex> {
        self.memory.offset_of(index(address)).map(PageIndex::containing)
    }

    /// Puts new pages with these bytes in place, and wakes the threads that wait for them in the kernel, if
    /// that is asked for.
    pub(crate) fn fill(
        &self,
        range: PageRange,
        bytes: &[u8],
        wake: bool,
    ) -> Result<Outcome, SysError> {
        debug_assert_eq!(range.bytes(), bytes.len());
        let copy = |uffd: &Uffd, start, len| uffd.copy(start, &bytes[..len], wake);
        self.for_first_part(range, Kind::Pages, copy)
    }

    /// Puts new pages of zeros in place and wakes their waiters.
    pub(crate) fn zero_fill(&self, range: PageRange) -> Result<Outcome, SysError> {
        self.for_first_part(range, Kind::Pages, Uffd::zeropage)
    }

    /// Wakes the threads that wait in the kernel for a page of the range.
    pub(crate) fn wake(&self, range: PageRange) -> Result<(), SysError> {
        self.for_parts(range, Uffd::wake)
    }

    /// Sets write protection on the range, or lifts it and wakes the waiters.
    pub(crate) fn write_protect(&self, range: PageRange, on: bool) -> Result<Outcome, SysError> {
        let protect = |uffd: &Uffd, start, len| uffd.write_protect(start, len, on);
        self.for_first_part(range, Kind::Pages, protect)
    }

    /// Sets read-write protection on the present pages of the range, or lifts it and wakes the
    /// waiters (Linux 7.3).
    pub(crate) fn rw_protect(&self, range: PageRange, on: bool) -> Result<Outcome, SysError> {
        let protect = |uffd: &Uffd, start, len| uffd.rw_protect(start, len, on);
        self.for_first_part(range, Kind::Pages, protect)
    }

    /// Switches read-write protection of `range`, and of all else that has the same descriptors, to
    /// async or sync mode; see [`Uffd::set_rwp_async`].
    pub(crate) fn set_rwp_async(&self, range: PageRange, on: bool) -> Result<(), SysError> {
        self.for_parts(range, |uffd, _, _| uffd.set_rwp_async(on))
    }

    /// Makes every access to the page a SIGBUS and wakes its waiters.
    pub(crate) fn poison(&self, page: PageIndex) -> Result<(), SysError> {
        let range = page.only();
        if self.uffds[0].has(UFFD_FEATURE_POISON) {
            // Otherwise there is a page, or poison already, or the page is not registered any more, as
            // after what follows; or the kernel has no time or memory for it now. Whatever is there
            // goes.
            if self.for_first_part(range, Kind::Descriptor, Uffd::poison)? == Outcome::Done {
                return Ok(());
            }
        }
        self.keeper.call(|| self.memory.map_inaccessible(range))?;
        self.wake(range)
    }

    /// Makes a poisoned page an ordinary, missing one again.
    pub(crate) fn heal(&self, page: PageIndex) -> Result<(), SysError> {
        let range = page.only();
        let registered = self.registered();
        self.memory.punch(range)?;
        self.keeper.call(|| self.memory.restore_view(range))?;
        if *registered { self.register(range) } else { Ok(()) }
    }

    /// Whether a page that is in memory can be read at all: the kernel may have lost it when it swapped it
    /// out. Safe in a signal handler.
    pub(crate) fn try_read(&self, page: PageIndex) -> Result<(), SysError> {
        let read = || self.memory.try_read(page);
        let closed = SysError::new("pread(memfd)", libc::EBADF);
        read().unwrap_or_else(|| self.delegate(|| read().unwrap_or(Err(closed))))
    }

    /// Lets the memory be ordinary shared memory from now on, and wakes every waiter.
    pub(crate) fn unregister(&self) -> Result<(), SysError> {
        let mut registered = self.registered();
        self.for_parts(self.all(), Uffd::unregister)?;
        *registered = false;
        // The kernel wakes waiters too, but before it clears the registration: one that faults again
        // under the mapping's own lock can be waiting anew by then (`userfaultfd_unregister`).
        self.wake(self.all())
    }

    fn registered(&self) -> MutexGuard<'_, bool> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Backing {
    /// A backing with a keeper of its own, and the pagemap that the keeper keeps too.
    pub(crate) fn kept(
        memory: Arc<SharedMemory>,
        uffds: Vec<Uffd>,
        mode: u64,
    ) -> Result<(Arc<Self>, Pagemap), SysError> {
        let pagemap = Pagemap::open()?;
        let mut kept: Vec<_> = uffds.iter().map(Uffd::descriptor).collect();
        kept.extend([memory.descriptor(), pagemap.descriptor()]);
        let keeper = Arc::new(Keeper::start(&kept)?);
        Ok((Arc::new(Self::new(memory, uffds, mode, keeper, Arc::default())?), pagemap))
    }
}
