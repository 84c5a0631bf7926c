//! Eviction of private memory: the evictor moves pages away.
//!
//! A page that is away cannot be touched. A thread that touches it faults, and brings the page back, unless the
//! evictor has published its copy by then. So no other page waits, and no copy gets stale: a page that is away
//! when the evictor publishes its copy has not changed since the copy.
//!
//! A device that writes to a page holds a pin on it, and the kernel refuses to move such a page. It refuses the
//! same for a page that is shared with another process since a fork.

use super::DetachedPages;
use crate::prim::sync::{AtomicUsize, Ordering, thread};
use crate::prim::{PAGE_SIZE, PageIndex, PageRange, REGION_PAGES};
use crate::sys::SysError;
use crate::sys::backing::{PrivateBacking, Returned};

/// Moves pages of one region at a time to the staging area, and back.
#[derive(Debug)]
pub(crate) struct Moving {
    private: PrivateBacking,
    /// For each place of the staging area which page it has, and what happens to it.
    places: Box<[AtomicUsize]>,
    /// Whether pages may be read-write protected.
    rwp: bool,
}

/// The states of a place.
///
/// No page has the place.
const FREE: usize = 0;
/// The evictor is moving the page out, or reading it.
const BUSY: usize = 1;
/// The page is away.
const AWAY: usize = 2;
/// A thread is putting the page in its place in the arena.
const RETURNING: usize = 3;
/// The page is back, and a copy of it is left, which no thread needs.
const LEFT: usize = 4;

/// Bits for the state.
const STATE_BITS: u32 = 3;

/// The word of a place that has `page`.
fn place(page: PageIndex, state: usize) -> usize {
    page.0 << STATE_BITS | state
}

impl Moving {
    pub(super) fn new(private: PrivateBacking, rwp: bool) -> Self {
        let count = REGION_PAGES.min(private.all().pages());
        let places = (0..count).map(|_| AtomicUsize::new(FREE)).collect();
        Self { private, places, rwp }
    }

    fn place_of(&self, page: PageIndex) -> &AtomicUsize {
        &self.places[page.0 % REGION_PAGES]
    }

    /// Takes the place of a page from the state `from`, unless it has another state.
    fn take(&self, page: PageIndex, from: usize, state: usize) -> bool {
        // SeqCst: the evictor takes the place and then reads the page's word; a faulting thread changes the word and
        // then reads the place. One of them sees the other.
        let (next, order) = (place(page, state), Ordering::SeqCst);
        self.place_of(page).compare_exchange(from, next, order, Ordering::Relaxed).is_ok()
    }

    fn give_up_place(&self, page: PageIndex, next: usize) {
        self.place_of(page).store(next, Ordering::Release);
    }

    /// Takes the place of a page for the evictor, if the page is still claimed then.
    fn take_for_eviction(&self, page: PageIndex, is_claimed: &dyn Fn(PageIndex) -> bool) -> bool {
        let is_taken = self.take(page, FREE, BUSY) || self.take_left(page);
        if is_taken && !is_claimed(page) {
            self.give_up_place(page, FREE);
            return false;
        }
        is_taken
    }

    #[cold]
    fn take_left(&self, page: PageIndex) -> bool {
        let at = self.place_of(page).load(Ordering::Acquire);
        if at & ((1 << STATE_BITS) - 1) != LEFT || !self.take(page, at, BUSY) {
            return false;
        }
        let is_dropped = self.private.discard_staged(page.only()).is_ok();
        if !is_dropped {
            self.give_up_place(page, at);
        }
        is_dropped
    }

    /// See [`super::Isolation::detach`].
    pub(super) fn detach(
        &self,
        run: PageRange,
        bytes: &mut [u8],
        is_claimed: &dyn Fn(PageIndex) -> bool,
    ) -> DetachedPages {
        let taken = run.iter().take_while(|page| self.take_for_eviction(*page, is_claimed)).count();
        let run_taken = run.first_pages(taken);
        let (moved, stopped) = self.move_out(run_taken);
        for (i, page) in run_taken.iter().enumerate() {
            if i < moved {
                let copy = &mut bytes[i * PAGE_SIZE..][..PAGE_SIZE];
                self.private.copy_staged(page.only(), copy);
                self.give_up_place(page, place(page, AWAY));
            } else {
                self.give_up_place(page, FREE);
            }
        }
        // Without an error a thread has touched the next page, or it fills the page of another region that has the
        // same place.
        (moved, stopped)
    }

    /// Moves the first pages of `run`, whose places the evictor has, to the staging area.
    fn move_out(&self, run: PageRange) -> DetachedPages {
        let mut left = run;
        loop {
            let (counted, stopped) = self.private.move_out(left);
            left.start.0 += counted;
            let Some(error) = stopped else { return (run.pages(), None) };
            let uncounted = self.private.first_staged(left);
            left.start.0 += uncounted;
            if uncounted == 0 {
                return (left.start.0 - run.start.0, Some(error));
            }
        }
    }

    /// Drops the pages of `run`, which are away and published: no thread brings them back.
    pub(super) fn drop_away(&self, run: PageRange) -> Result<(), SysError> {
        let dropped = self.private.discard_staged(run);
        if dropped.is_ok() {
            run.iter().for_each(|page| self.give_up_place(page, FREE));
        }
        dropped
    }

    /// Brings a page back that may be away, and wakes its waiters if it was. When this returns, the page is in its
    /// place. False if it was not away.
    pub(super) fn bring_back(&self, page: PageIndex) -> bool {
        let (at, mut waited) = (self.place_of(page), false);
        loop {
            // SeqCst: see `take`.
            let seen = at.load(Ordering::SeqCst);
            if seen == FREE || seen == place(page, LEFT) || seen >> STATE_BITS != page.0 {
                return waited;
            }
            if seen == place(page, AWAY) && self.take(page, seen, RETURNING) {
                let is_left = self.private.bring_back(page.only()) == Returned::Copied
                    && self.private.discard_staged(page.only()).is_err();
                self.give_up_place(page, if is_left { place(page, LEFT) } else { FREE });
                return true;
            }
            // Another thread is at the page, for some microseconds if it is not interrupted.
            waited = true;
            thread::yield_now();
        }
    }

    /// Puts a page of zeros in place of a page that is neither away nor there: the program has dropped it
    /// (`madvise(2)`). If the page is there, this wakes its waiters.
    fn fill_dropped(&self, page: PageIndex) {
        // While this thread has the place, the evictor cannot move the page out.
        while !self.take(page, FREE, RETURNING) {
            if self.bring_back(page) {
                return;
            }
            thread::yield_now();
        }
        self.private.fill_dropped(page.only());
        self.give_up_place(page, FREE);
    }

    /// See [`super::Isolation::admit`].
    pub(super) fn admit(&self, range: PageRange) -> Result<(), SysError> {
        for page in range.iter() {
            if !self.bring_back(page) {
                self.fill_dropped(page);
            }
        }
        self.lift(range)
    }

    /// See [`super::Isolation::lift`].
    pub(super) fn lift(&self, range: PageRange) -> Result<(), SysError> {
        if self.rwp { self.private.rw_protect(range, false) } else { self.private.wake(range) }
    }
}
