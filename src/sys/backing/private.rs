//! The calls that work on private memory alone.

use super::Backing;
use super::fill::copy_zeros;
use super::memory::Memory;
use super::{Content, FillError};
use crate::prim::sync::thread;
use crate::prim::units::index;
use crate::prim::{PAGE_SIZE, PageRange};
use crate::sys::pagemap::PageFilter;
use crate::sys::private::PrivateMemory;
use crate::sys::uffd::{CallTarget, Outcome};
use crate::sys::{SysError, event};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// A backing that is known to be private memory.
///
/// A page of it is evicted by moving it to the staging area, where the program cannot touch it.
#[derive(Clone, Debug)]
pub(crate) struct PrivateBacking(Arc<Backing>);

/// How a page came back from the staging area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returned {
    Moved,
    /// A copy of it is left in the staging area.
    Copied,
}

/// The time between two tries of a call that must succeed.
const PAUSE: Duration = Duration::from_millis(2);

impl PrivateBacking {
    /// None if the memory is of another kind.
    pub(super) fn new(backing: &Arc<Backing>) -> Option<Self> {
        matches!(backing.memory, Memory::Private(_)).then(|| Self(Arc::clone(backing)))
    }

    fn memory(&self) -> &PrivateMemory {
        match &self.0.memory {
            Memory::Private(memory) => memory,
            Memory::Shared(_) => unreachable!("`new` has checked the kind"),
        }
    }

    /// Moves the pages of `range`, which lie in one region and are in memory, to the staging area, where no page is in
    /// their places. Gives how many pages of it are there, and the error that stopped it. Busy pages stay: those that
    /// a device may write to. After an error more pages may be there than it says: see
    /// [`first_staged`](Self::first_staged).
    pub(crate) fn move_out(&self, range: PageRange) -> (usize, Option<SysError>) {
        let call = |piece: PageRange| {
            let (to, from) = (self.memory().staged_address(piece), self.0.memory.address(piece));
            self.0.with_uffd(0, CallTarget::Pages, |uffd| {
                uffd.move_pages(to, from, piece.bytes(), false)
            })
        };
        Backing::in_pieces(range, call, |_, outcome| Err(Self::refusal(outcome)))
    }

    /// How many of the first pages of `range`, which lie in one region, are in the staging area.
    ///
    /// While the kernel migrates pages, for compaction for example, `UFFDIO_MOVE` of Linux 6.18 moves pages that it
    /// does not count: it finds them in their new places when it tries again, and fails with EEXIST.
    #[cold]
    pub(crate) fn first_staged(&self, range: PageRange) -> usize {
        loop {
            match self.try_first_staged(range) {
                Ok(pages) => return pages,
                Err(_) => self.0.counters.fill_retries.add(1),
            }
            thread::sleep(PAUSE);
        }
    }

    fn try_first_staged(&self, range: PageRange) -> Result<usize, SysError> {
        let start = self.memory().staged_address(range);
        let mut end = start;
        let all = start + range.bytes() as u64;
        self.0.pagemap.scan(start, all, PageFilter::Allocated, &mut |from, to| {
            if from == end {
                end = to;
            }
        })?;
        Ok(index(end - start) / PAGE_SIZE)
    }

    /// Brings a page from the staging area back to its place, and wakes its waiters. Copies the page if the
    /// kernel does not move it. Tries again until the kernel does one of them.
    pub(crate) fn bring_back(&self, page: PageRange) -> Returned {
        let mut tries = 0_u32;
        loop {
            let Err(_) = self.move_back(page) else { return Returned::Moved };
            if self.try_first_staged(page) == Ok(0) {
                // The kernel has moved it all the same, and perhaps woken no waiter.
                let _ = self.0.wake(page);
                return Returned::Moved;
            }
            let Err(error) = self.copy_back(page) else { return Returned::Copied };
            tries = tries.saturating_add(1);
            if tries == 2500 {
                event::report(format_args!("a page waits to be brought back: {error}"));
            }
            self.0.counters.fill_retries.add(1);
            thread::sleep(PAUSE);
        }
    }

    fn move_back(&self, page: PageRange) -> Result<(), SysError> {
        let from = self.memory().staged_address(page);
        let call = |piece| {
            self.0.for_first_part(piece, CallTarget::Pages, |uffd, to, len| {
                uffd.move_pages(to, from, len, true)
            })
        };
        let (_, stopped) = Backing::in_pieces(page, call, |page, outcome| match outcome {
            // A move that the kernel did not count: no other thread puts a page there. It has woken no waiter.
            Outcome::Exists => self.0.wake(page.only()).map(|()| 1),
            outcome => Err(Self::refusal(outcome)),
        });
        stopped.map_or(Ok(()), Err)
    }

    #[cold]
    #[inline(never)]
    fn copy_back(&self, page: PageRange) -> Result<(), SysError> {
        let mut bytes = [0; PAGE_SIZE];
        self.memory().copy_staged(page, &mut bytes);
        match self.0.fill(page, Content::Bytes(&bytes)).1 {
            Some(FillError::NoMemory) => Err(SysError::no_memory("ioctl(UFFDIO_COPY)")),
            Some(FillError::Sys(error)) => Err(error),
            None => Ok(()),
        }
    }

    /// The error of a move that the kernel did not make.
    fn refusal(outcome: Outcome) -> SysError {
        let name = "ioctl(UFFDIO_MOVE)";
        match outcome {
            Outcome::Busy => SysError::busy(name),
            Outcome::NoMemory => SysError::no_memory(name),
            Outcome::Exists => SysError::page_exists(name),
            _ => SysError::range_gone(name),
        }
    }

    /// Puts a page of zeros in place if no page is there, and wakes its waiters. Gives up after an error: the page
    /// faults again. Counts pages that were not there.
    pub(crate) fn fill_dropped(&self, page: PageRange) {
        match self.0.for_first_part(page, CallTarget::Pages, copy_zeros) {
            Ok(Outcome::Done) => self.0.counters.dropped_pages.add(1),
            _ => drop(self.0.wake(page)),
        }
    }

    /// Copies the bytes of a page that is in the staging area, and stays there meanwhile.
    pub(crate) fn copy_staged(&self, page: PageRange, buf: &mut [u8]) {
        debug_assert_eq!(buf.len(), PAGE_SIZE);
        self.memory().copy_staged(page, buf);
    }

    /// Gives the memory of the pages of `range` in the staging area back to the system.
    pub(crate) fn discard_staged(&self, range: PageRange) -> Result<(), SysError> {
        self.memory().discard_staged(range)
    }
}

impl Deref for PrivateBacking {
    type Target = Backing;

    fn deref(&self) -> &Backing {
        &self.0
    }
}
