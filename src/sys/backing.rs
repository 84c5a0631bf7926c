//! An arena's memory together with the descriptor that its faults come through.
//!
//! The seam between kinds of memory: how a batch is read, dropped and filled is decided here, for
//! pages counted from the arena's start, so that everything above speaks of pages alone. There is
//! one kind so far, the shared one.

use super::error::SysError;
use super::memory::SharedMemory;
use super::uapi::UFFD_FEATURE_POISON;
use super::uffd::{Outcome, Uffd};
use crate::prim::units::index;
use crate::prim::{PageIndex, PageRange};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared memory, registered with a userfaultfd.
#[derive(Debug)]
pub(crate) struct Backing {
    memory: Arc<SharedMemory>,
    uffd: Uffd,
    mode: u64,
    /// Held while a part is registered anew, which must not happen after all of it was unregistered.
    registered: Mutex<bool>,
}

impl Backing {
    /// Registers all of `memory` for `mode`, a mask of `UFFDIO_REGISTER_MODE_*`.
    pub(crate) fn new(memory: Arc<SharedMemory>, uffd: Uffd, mode: u64) -> Result<Self, SysError> {
        let this = Self { memory, uffd, mode, registered: Mutex::new(true) };
        let all = this.all();
        this.uffd.register(this.memory.address(all), all.bytes(), mode)?;
        Ok(this)
    }

    pub(crate) fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    pub(crate) fn uffd(&self) -> &Uffd {
        &self.uffd
    }

    pub(crate) fn all(&self) -> PageRange {
        PageRange::within(0, self.memory.len())
    }

    /// The page that an address lies in, if it lies in the arena.
    pub(crate) fn page_of(&self, address: u64) -> Option<PageIndex> {
        self.memory.offset_of(index(address)).map(PageIndex::containing)
    }

    /// Puts new pages with these bytes in place and wakes their waiters.
    pub(crate) fn fill(&self, range: PageRange, bytes: &[u8]) -> Result<Outcome, SysError> {
        debug_assert_eq!(range.bytes(), bytes.len());
        self.uffd.copy(self.memory.address(range), bytes)
    }

    /// Puts new pages of zeros in place and wakes their waiters.
    pub(crate) fn zero_fill(&self, range: PageRange) -> Result<Outcome, SysError> {
        self.uffd.zeropage(self.memory.address(range), range.bytes())
    }

    /// Wakes whoever waits for a page of the range.
    pub(crate) fn wake(&self, range: PageRange) -> Result<(), SysError> {
        self.uffd.wake(self.memory.address(range), range.bytes())
    }

    /// Makes every access to the page a SIGBUS and wakes its waiters.
    pub(crate) fn poison(&self, page: PageIndex) -> Result<(), SysError> {
        let range = page.only();
        if self.uffd.has(UFFD_FEATURE_POISON) {
            match self.uffd.poison(self.memory.address(range), range.bytes())? {
                Outcome::Done => return Ok(()),
                // Whatever page is there, or poison already: it goes.
                Outcome::Exists => {}
                _ => return Err(SysError::range_gone("ioctl(UFFDIO_POISON)")),
            }
        }
        self.memory.replace_by_nothing(range)?;
        self.wake(range)
    }

    /// Makes a poisoned page an ordinary, missing one again.
    pub(crate) fn heal(&self, page: PageIndex) -> Result<(), SysError> {
        let range = page.only();
        let registered = self.registered();
        self.memory.punch(range)?;
        self.memory.restore_view(range)?;
        if !*registered {
            return Ok(());
        }
        self.uffd.register(self.memory.address(range), range.bytes(), self.mode)
    }

    /// Lets the memory be ordinary shared memory from now on, and wakes every waiter.
    pub(crate) fn unregister(&self) -> Result<(), SysError> {
        let mut registered = self.registered();
        self.uffd.unregister(self.memory.address(self.all()), self.all().bytes())?;
        *registered = false;
        // The kernel wakes waiters too, but before it clears the registration: one that faults again
        // under the mapping's own lock can be waiting anew by then (`userfaultfd_unregister`).
        self.wake(self.all())
    }

    fn registered(&self) -> MutexGuard<'_, bool> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
