//! Bringing pages back: for whoever touched them, ahead of a touch, or never again.
//!
//! [`Resolver::resolve`] decides by the page's word what a fault on it means; [`pages`] does what
//! has to be done to whole runs of pages; [`handler`] is the threads that read the faults from the
//! descriptor.
//!
//! Nothing here panics, allocates, or takes a lock that a thread of the application could hold
//! while it waits for a page. A thread of the application
//! that owns pages (prefetch, release) has its signals blocked for that time: a handler of its own
//! that touched one of those pages would wait for the very thread that it interrupted.

pub(crate) mod handler;
mod pages;

pub(crate) use pages::{FillError, Scratch};

use crate::alloc::Heap;
use crate::prim::sync::{AtomicU64, Ordering};
use crate::prim::units::index;
use crate::prim::{PageIndex, PageRange};
use crate::stats::Counters;
use crate::store::Store;
use crate::sys::backing::Backing;
use crate::sys::event;
use crate::table::{PageTable, State, Waiters, Word};
use crate::track::AccessTracker;
use std::sync::{Arc, Mutex};

/// What resolving a fault came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// The page was empty; zeros were put in place.
    Zeroed,
    /// The page was in memory; access was given back.
    Lifted,
    /// The page was taken from the evictor.
    TakenBack,
    /// Somebody else is at work on the page and will wake the toucher.
    Waiting,
    /// The page's bytes were brought back from the store.
    Restored,
    /// The page's bytes are gone; the toucher gets SIGBUS.
    Lost,
}

/// Brings pages back.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) backing: Arc<Backing>,
    pub(crate) table: Arc<PageTable>,
    pub(crate) store: Arc<Store>,
    pub(crate) tracker: Arc<dyn AccessTracker>,
    pub(crate) counters: Arc<Counters>,
    heap: Arc<Mutex<Heap>>,
    ahead: Ahead,
}

impl Resolver {
    pub(crate) fn new(
        backing: Arc<Backing>,
        table: Arc<PageTable>,
        store: Arc<Store>,
        tracker: Arc<dyn AccessTracker>,
        counters: Arc<Counters>,
        heap: Arc<Mutex<Heap>>,
    ) -> Self {
        Self { backing, table, store, tracker, counters, heap, ahead: Ahead::default() }
    }

    /// Serves a fault on `page`, of whatever kind: what has to be done is in the page's word. A
    /// message may be late, and its flag tell of a state long gone.
    pub(crate) fn resolve(&self, page: PageIndex, scratch: &mut Scratch) -> Resolved {
        loop {
            let seen = self.table.load(page);
            match seen.state() {
                State::Empty => {
                    let range = self.ahead.window(page, |page| self.rest_of_block(page));
                    if let Some(resolved) = self.zero_from(range) {
                        return resolved;
                    }
                }
                State::Resident | State::Claimed => {
                    if self.table.begin_lift(page, seen).is_ok() {
                        return self.lift(page, seen);
                    }
                }
                State::Dropping | State::Filling => {
                    if self.table.ask_to_be_woken(page, seen).is_ok() {
                        return Resolved::Waiting;
                    }
                }
                State::Stored => {
                    if self.table.begin_fill(page, seen).is_ok() {
                        return self.restore_one(page, seen, scratch);
                    }
                }
                State::Lost => {
                    if self.table.begin_mourning(page, seen).is_ok() {
                        self.poison(page);
                        self.wake(page.only(), self.table.finish_mourning(page));
                        return Resolved::Lost;
                    }
                }
            }
        }
    }

    /// How far memory may be given ahead: to the end of the block that the page lies in. The page
    /// alone where that is not known, or the heap's lock is not to be had at once; a fault waits
    /// for no lock.
    fn rest_of_block(&self, page: PageIndex) -> PageRange {
        let heap = self.heap.try_lock();
        heap.ok().and_then(|heap| heap.rest_of_block(page)).unwrap_or(page.only())
    }

    /// Fills the first page of `range`, and what is empty right after it. None if the first page
    /// is not empty any more, or has to be tried again because there was no memory for it.
    fn zero_from(&self, range: PageRange) -> Option<Resolved> {
        match self.zero_run(range) {
            (0, None) => None,
            (0, Some(FillError::NoMemory)) => {
                event::say(format_args!("a thread waits for memory for a page that it touched"));
                None
            }
            (0, Some(error)) => {
                self.table.begin_fill(range.start, Word::EMPTY).ok()?;
                self.lose(range.start, Word::EMPTY, &error);
                Some(Resolved::Lost)
            }
            (filled, _) => {
                self.counters.zero_fills.add(filled as u64);
                Some(Resolved::Zeroed)
            }
        }
    }

    /// Gives access to the page, which the caller has taken.
    fn lift(&self, page: PageIndex, was: Word) -> Resolved {
        if let Err(e) = self.tracker.lift(page.only()) {
            event::die("cannot give access to a page", &e);
        }
        self.wake(page.only(), self.table.finish_lift(page, was));
        if was.state() == State::Claimed {
            self.counters.taken_back.add(1);
            Resolved::TakenBack
        } else {
            self.counters.lifted.add(1);
            Resolved::Lifted
        }
    }

    /// Wakes the waiters that a page's owner has found.
    fn wake(&self, range: PageRange, waiters: Waiters) {
        if waiters.0
            && let Err(e) = self.backing.wake(range)
        {
            event::die("cannot wake the waiters of a page", &e);
        }
    }

    fn poison(&self, page: PageIndex) {
        if let Err(e) = self.backing.poison(page) {
            event::die("cannot poison a lost page", &e);
        }
    }
}

/// How many pages to give to a first touch: memory that is written from one end to the other is
/// populated ahead in growing windows; memory that is touched here and there is not.
///
/// Shared by all handlers without a lock: a race costs a window that is smaller than it could be.
#[derive(Debug, Default)]
struct Ahead {
    /// Where the last window ended.
    next: AtomicU64,
    window: AtomicU64,
}

/// Pages in the largest window: 2 MiB, one page table.
const LARGEST_WINDOW: u64 = 512;

impl Ahead {
    fn window(&self, page: PageIndex, rest: impl FnOnce(PageIndex) -> PageRange) -> PageRange {
        let sequential = self.next.load(Ordering::Relaxed) == page.0 as u64;
        let before = self.window.load(Ordering::Relaxed);
        let window = if sequential { (before * 2).clamp(2, LARGEST_WINDOW) } else { 1 };
        let range = PageRange::new(page.0, page.0 + index(window));
        let range = if sequential { range.intersection(rest(page)) } else { range };
        self.window.store(window, Ordering::Relaxed);
        self.next.store(range.end.0 as u64, Ordering::Relaxed);
        range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_with_a_run_and_end_with_it() {
        let ahead = Ahead::default();
        let all = |page: PageIndex| PageRange::new(page.0, 10_000);
        let mut at = 100;
        let mut sizes = Vec::new();
        for _ in 0..12 {
            let range = ahead.window(PageIndex(at), all);
            assert_eq!(range.start.0, at);
            sizes.push(range.pages());
            at = range.end.0;
        }
        assert_eq!(sizes, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 512, 512]);
        assert_eq!(ahead.window(PageIndex(9), all).pages(), 1);
        assert_eq!(ahead.window(PageIndex(10), |_| PageRange::new(10, 11)).pages(), 1);
    }
}
