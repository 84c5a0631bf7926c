//! An arena's memory, together with the descriptors that deliver its faults.
//!
//! This module hides the kind of memory from its callers. They name pages, counted from the arena's start; the
//! module decides how to read, fill, discard and protect them. There are two kinds ([`MemoryKind`]): shared memory,
//! a memfd; and private memory. [`SharedBacking`] and [`PrivateBacking`] have the calls that work on one of them.

mod fill;
mod memory;
mod plain;
mod private;
mod shared;

pub(crate) use fill::{Content, FillError};
pub(crate) use memory::MemoryKind;
pub(crate) use plain::PlainMemory;
pub(crate) use private::{PrivateBacking, Returned};
pub(crate) use shared::SharedBacking;

use super::error::SysError;
use super::keeper::Keeper;
use super::pagemap::{PageFilter, Pagemap};
use super::stripes::Stripes;
use super::uapi::{UFFD_FEATURE_POISON, UFFD_FEATURE_SIGBUS, UFFDIO_REGISTER_MODE_MISSING};
use super::uffd::{CallTarget, Outcome, Uffd};
use crate::prim::sync::{Mutex, MutexGuard, thread};
use crate::prim::units::index;
use crate::prim::{PAGE_SIZE, PageIndex, PageRange};
use crate::stats::Counters;
use memory::Memory;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

/// How the kernel delivers faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultDelivery {
    /// As messages, from this many descriptors in turn, stripe by stripe. There is at least one.
    Messages(usize),
    /// As SIGBUS in the faulting thread.
    Signals,
}

/// What a backing must be able to do: its kind of memory, a mask of `UFFD_FEATURE_*` and one of `UFFDIO_REGISTER_MODE_*`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abilities {
    pub(crate) memory: MemoryKind,
    pub(crate) features: u64,
    pub(crate) mode: u64,
}

/// Memory that is registered with one or more userfaultfds.
#[derive(Debug)]
pub(crate) struct Backing {
    memory: Memory,
    uffds: Box<[Uffd]>,
    stripes: Stripes,
    pagemap: Pagemap,
    mode: u64,
    /// Makes the calls of threads in whose table a descriptor's number means another file.
    keeper: Keeper,
    counters: Arc<Counters>,
    /// False from `unregister` on. A thread that registers a part anew holds the lock meanwhile, because it
    /// must not register after that.
    registered: Mutex<bool>,
}

impl Backing {
    /// Reserves `bytes` of address space, a multiple of the page size, and registers it.
    pub(crate) fn open(
        bytes: usize,
        abilities: Abilities,
        delivery: FaultDelivery,
        counters: Arc<Counters>,
    ) -> Result<Arc<Self>, SysError> {
        let Abilities { memory, features, mode } = abilities;
        let memory = Memory::new(memory, bytes)?;
        let uffds: Box<[Uffd]> = match delivery {
            FaultDelivery::Messages(count) => {
                (0..count).map(|_| Uffd::open(features)).collect::<Result<_, _>>()?
            }
            FaultDelivery::Signals => {
                [Uffd::open_for_user_mode(features | UFFD_FEATURE_SIGBUS)?].into()
            }
        };
        let pagemap = Pagemap::open()?;
        let mut kept: Vec<_> = uffds.iter().map(Uffd::descriptor).collect();
        kept.push(pagemap.descriptor());
        kept.extend(memory.descriptor());
        let keeper = Keeper::start(&kept)?;
        let stripes = Stripes::new(uffds.len());
        let registered = Mutex::new(true);
        let this = Self { memory, uffds, stripes, pagemap, mode, keeper, counters, registered };
        this.register(this.all())?;
        if let Memory::Private(memory) = &this.memory {
            // The destination of a move must be registered with the descriptor that moves.
            let (start, len) = memory.staging();
            this.uffds[0].register(start, len, UFFDIO_REGISTER_MODE_MISSING)?;
        }
        Ok(Arc::new(this))
    }

    /// The same memory, with the calls that work on shared memory alone, if it is shared.
    pub(crate) fn shared(self: &Arc<Self>) -> Option<SharedBacking> {
        SharedBacking::new(self)
    }

    /// The same memory, with the calls that work on private memory alone, if it is private.
    pub(crate) fn private(self: &Arc<Self>) -> Option<PrivateBacking> {
        PrivateBacking::new(self)
    }

    pub(crate) fn kind(&self) -> MemoryKind {
        match self.memory {
            Memory::Shared(_) => MemoryKind::Shared,
            Memory::Private(_) => MemoryKind::Private,
        }
    }

    fn register(&self, range: PageRange) -> Result<(), SysError> {
        self.for_parts(range, |uffd, start, len| uffd.register(start, len, self.mode))
    }

    /// The descriptors. They have the same features and route.
    pub(crate) fn uffds(&self) -> &[Uffd] {
        &self.uffds
    }

    pub(crate) fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// The first byte of the program's view.
    pub(crate) fn base(&self) -> *mut u8 {
        self.memory.base()
    }

    /// The addresses of the program's view.
    pub(crate) fn addresses(&self) -> Range<usize> {
        let start = self.base().addr();
        start..start + self.memory.len()
    }

    pub(crate) fn all(&self) -> PageRange {
        PageRange::within(0, self.memory.len())
    }

    /// The page of an address, if the address lies in the arena.
    pub(crate) fn page_of(&self, address: u64) -> Option<PageIndex> {
        self.memory.offset_of(index(address)).map(PageIndex::containing)
    }

    /// Makes a call for each part of `range` that has a descriptor of its own.
    fn for_parts(
        &self,
        range: PageRange,
        call: impl Fn(&Uffd, u64, usize) -> Result<(), SysError> + Sync,
    ) -> Result<(), SysError> {
        self.stripes.parts(range).try_for_each(|(descriptor, part)| {
            let (start, len) = (self.memory.address(part), part.bytes());
            self.with_uffd(descriptor, CallTarget::Descriptor, |uffd| call(uffd, start, len))
        })
    }

    /// Makes a call for the first part of `range` that has a descriptor of its own. If the part is shorter than
    /// the range, the outcome is [`Outcome::Partial`] instead of [`Outcome::Done`].
    fn for_first_part(
        &self,
        range: PageRange,
        target: CallTarget,
        call: impl Fn(&Uffd, u64, usize) -> Result<Outcome, SysError> + Sync,
    ) -> Result<Outcome, SysError> {
        let (descriptor, part) = self.stripes.first_part(range);
        let (start, len) = (self.memory.address(part), part.bytes());
        match self.with_uffd(descriptor, target, |uffd| call(uffd, start, len))? {
            Outcome::Done if part != range => Ok(Outcome::Partial(part.bytes())),
            outcome => Ok(outcome),
        }
    }

    /// Makes a call on a descriptor. The keeper makes it if the descriptor's number means another file in the
    /// calling thread's table.
    #[inline]
    fn with_uffd<R: Send>(
        &self,
        descriptor: usize,
        target: CallTarget,
        call: impl Fn(&Uffd) -> Result<R, SysError> + Sync,
    ) -> Result<R, SysError> {
        let uffd = &self.uffds[descriptor];
        if uffd.is_usable(target) {
            let result = call(uffd);
            if result.is_ok() || uffd.is_original() {
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

    /// Makes a call on `range`, in as many pieces as it takes. Returns the number of pages that are done, and
    /// the error that stopped it.
    ///
    /// The kernel may do a part of a piece, or none while the address space changes. On older kernels (6.1 for
    /// one) a call must stay within one mapping, and the program may have cut the arena's mapping to pieces
    /// (mlock, mprotect, madvise on a part of it). Then the pieces become shorter. `otherwise` decides about
    /// every other outcome at a page: to go on after the number of pages that it returns, or to stop.
    fn in_pieces<E: From<SysError>>(
        range: PageRange,
        call: impl Fn(PageRange) -> Result<Outcome, SysError>,
        mut otherwise: impl FnMut(PageIndex, Outcome) -> Result<usize, E>,
    ) -> (usize, Option<E>) {
        let mut left = range;
        let mut longest = range.pages();
        let stopped = loop {
            if left.is_empty() {
                break None;
            }
            let piece = PageRange::new(left.start.0, left.end.0.min(left.start.0 + longest));
            match call(piece) {
                Ok(Outcome::Done) => left.start = piece.end,
                Ok(Outcome::Partial(bytes)) => left.start.0 += bytes / PAGE_SIZE,
                Ok(Outcome::Again) => thread::yield_now(),
                Ok(Outcome::Gone) if piece.pages() > 1 => longest = piece.pages().div_ceil(2),
                Ok(outcome) => match otherwise(left.start, outcome) {
                    Ok(pages) => left.start.0 += pages,
                    Err(error) => break Some(error),
                },
                Err(error) => break Some(error.into()),
            }
        };
        (left.start.0 - range.start.0, stopped)
    }

    /// Makes a protection call on `range`.
    fn protect(
        &self,
        range: PageRange,
        name: &'static str,
        call: impl Fn(&Uffd, u64, usize) -> Result<Outcome, SysError> + Sync,
    ) -> Result<(), SysError> {
        let call = |piece| self.for_first_part(piece, CallTarget::Pages, &call);
        // Protection fills no pages, so every other outcome means that the range is gone.
        let (_, stopped) = Self::in_pieces(range, call, |_, outcome| match outcome {
            Outcome::NoMemory => Err(SysError::no_memory(name)),
            _ => Err(SysError::range_gone(name)),
        });
        stopped.map_or(Ok(()), Err)
    }

    /// Sets write protection on the range, or lifts it and wakes the waiters.
    pub(crate) fn write_protect(&self, range: PageRange, on: bool) -> Result<(), SysError> {
        let name = "ioctl(UFFDIO_WRITEPROTECT)";
        self.protect(range, name, |uffd, start, len| uffd.write_protect(start, len, on))
    }

    /// Sets read-write protection on the present pages of the range, or lifts it and wakes the
    /// waiters (Linux 7.3).
    pub(crate) fn rw_protect(&self, range: PageRange, on: bool) -> Result<(), SysError> {
        let name = "ioctl(UFFDIO_RWPROTECT)";
        self.protect(range, name, |uffd, start, len| uffd.rw_protect(start, len, on))
    }

    /// Switches read-write protection of `range`, and of every other range with the same descriptors, to
    /// async or sync mode; see [`Uffd::set_rwp_async`].
    pub(crate) fn set_rwp_async(&self, range: PageRange, on: bool) -> Result<(), SysError> {
        self.for_parts(range, |uffd, _, _| uffd.set_rwp_async(on))
    }

    /// Calls `visit` with each run of pages in `range` that `filter` lets through, in order.
    pub(crate) fn scan(
        &self,
        range: PageRange,
        filter: PageFilter,
        visit: &mut dyn FnMut(PageRange),
    ) -> Result<(), SysError> {
        if range.is_empty() {
            return Ok(());
        }
        let start = self.memory.address(range);
        let end = start + range.bytes() as u64;
        self.pagemap.scan(start, end, filter, &mut |from, to| {
            // The kernel reports addresses within the range that it was given.
            if let (Some(from), Some(last)) = (self.page_of(from), self.page_of(to - 1)) {
                visit(PageRange::new(from.0, last.0 + 1));
            }
        })
    }

    /// Keeps the mapping of `range` apart from the neighbouring ranges, which must not be `apart`; see
    /// [`SharedMemory::set_apart`](super::memory::SharedMemory::set_apart). Any thread may call this.
    pub(crate) fn set_apart(&self, range: PageRange, apart: bool) -> Result<(), SysError> {
        self.memory.set_apart(range, apart)
    }

    /// Whether [`make_huge`](Self::make_huge) may succeed.
    pub(crate) fn may_be_huge(&self) -> bool {
        match &self.memory {
            Memory::Shared(_) => false,
            Memory::Private(memory) => memory.may_be_huge(),
        }
    }

    /// Asks the kernel for a huge page in place of the pages of `range`, a whole region that is in memory.
    pub(crate) fn make_huge(&self, range: PageRange) -> Result<(), SysError> {
        match &self.memory {
            Memory::Shared(_) => Ok(()),
            Memory::Private(memory) => memory.make_huge(range),
        }
    }

    /// Wakes the threads that wait in the kernel for a page of the range.
    pub(crate) fn wake(&self, range: PageRange) -> Result<(), SysError> {
        self.for_parts(range, Uffd::wake)
    }

    /// Discards the pages of `range` and gives their memory back. The next touch of each is a missing fault.
    /// Wakes no thread. Any thread may call this.
    pub(crate) fn discard(&self, range: PageRange) -> Result<(), SysError> {
        self.memory.discard(range)
    }

    /// Bytes of memory, or of the kernel's swap, that the arena's pages take, by the kernel's own count. All of
    /// them are in `extent`.
    pub(crate) fn memory_bytes(&self, extent: PageRange) -> Result<u64, SysError> {
        match &self.memory {
            Memory::Shared(memory) => memory.allocated_bytes(),
            Memory::Private(_) => {
                let mut bytes = 0;
                let mut add = |run: PageRange| bytes += run.bytes() as u64;
                self.scan(extent, PageFilter::Allocated, &mut add)?;
                Ok(bytes)
            }
        }
    }

    /// Makes every access to the page a SIGBUS and wakes its waiters.
    pub(crate) fn poison(&self, page: PageIndex) -> Result<(), SysError> {
        let range = page.only();
        if self.uffds[0].has(UFFD_FEATURE_POISON) {
            // Any other outcome means that the page exists, is poisoned already, is no longer registered (as
            // after the mapping below), or that the kernel has no memory. In each case the mapping replaces
            // the page.
            if self.for_first_part(range, CallTarget::Descriptor, Uffd::poison)? == Outcome::Done {
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
        self.memory.discard(range)?;
        self.keeper.call(|| self.memory.restore_view(range))?;
        if *registered { self.register(range) } else { Ok(()) }
    }

    /// Whether a page that is in memory can be read. The kernel may have lost it when it swapped it out. Safe
    /// in a signal handler.
    pub(crate) fn check_readable(&self, page: PageIndex) -> Result<(), SysError> {
        let read = || self.memory.try_read(page);
        let closed = SysError::new("pread(memfd)", libc::EBADF);
        read().unwrap_or_else(|| self.delegate(|| read().unwrap_or(Err(closed))))
    }

    /// Makes the memory ordinary shared memory from now on, and wakes every waiter.
    pub(crate) fn unregister(&self) -> Result<(), SysError> {
        let mut registered = self.registered();
        self.for_parts(self.all(), Uffd::unregister)?;
        if let Memory::Private(memory) = &self.memory {
            let (start, len) = memory.staging();
            let unregister = |uffd: &Uffd| uffd.unregister(start, len);
            self.with_uffd(0, CallTarget::Descriptor, unregister)?;
        }
        *registered = false;
        // The kernel wakes waiters too, but before it clears the registration. A waiter that faults again
        // under the mapping's own lock can be waiting anew by then (`userfaultfd_unregister`).
        self.wake(self.all())
    }

    fn registered(&self) -> MutexGuard<'_, bool> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[cfg(not(thermocline_sim))]
impl Backing {
    /// Makes a page inaccessible as on kernels without `UFFDIO_POISON`.
    pub(crate) fn map_inaccessible(&self, page: PageIndex) {
        self.memory.map_inaccessible(page.only()).unwrap();
    }
}
