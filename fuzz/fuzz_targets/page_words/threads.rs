//! The two threads: the words that each has read, the pages that it owns, and its next step.

use crate::model::{Counted, Page, later};
use crate::prim::{Handle, PageIndex, REGION_PAGES, Tick};
use crate::table::{PageTable, Release, State, Waiters, Word};

/// The pages that both threads work on: the two on either side of a region boundary, and one before them.
const PAGES: [PageIndex; 3] = [PageIndex(3), PageIndex(REGION_PAGES - 1), PageIndex(REGION_PAGES)];
const THREADS: usize = 2;
/// Handles have the top bit set, which no count of failures reaches, so that different states never have
/// equal words.
const HANDLES: u64 = 1 << (Handle::BITS - 1);
/// The thread that may claim.
const EVICTOR: usize = 0;

/// A page word that a thread has read, and the model at that time.
#[derive(Clone, Copy)]
struct Seen {
    word: Word,
    page: Page,
}

/// A thread's part in a page.
#[derive(Clone, Copy)]
enum Business {
    None,
    Filling(Seen),
    Unprotecting(Seen),
    Poisoning,
    Releasing(Seen),
    /// Claimed. The other thread may have taken the page back since.
    InBatch,
    Dropping,
}

pub(crate) struct Threads {
    table: PageTable,
    now: u32,
    /// The last handle in use.
    handle: u64,
    extent: usize,
    pages: [Page; PAGES.len()],
    counted: [Counted; PAGES.len()],
    seen: [[Option<Seen>; PAGES.len()]; THREADS],
    business: [[Business; PAGES.len()]; THREADS],
}

impl Threads {
    pub(crate) fn new() -> Self {
        Self {
            table: PageTable::new(2 * REGION_PAGES).unwrap(),
            now: 0,
            handle: HANDLES,
            extent: 0,
            pages: [Page::EMPTY; PAGES.len()],
            counted: [Counted::Nowhere; PAGES.len()],
            seen: [[None; PAGES.len()]; THREADS],
            business: [[Business::None; PAGES.len()]; THREADS],
        }
    }

    /// One step of one thread at one page.
    pub(crate) fn step(&mut self, step: usize) {
        let (thread, step) = (step % THREADS, step / THREADS);
        let (at, how) = (step % PAGES.len(), step / PAGES.len());
        match self.business[thread][at] {
            Business::None => self.begin(thread, at, how),
            _ => self.go_on(thread, at, how),
        }
    }

    /// A step of a thread that has no part in the page yet.
    fn begin(&mut self, thread: usize, at: usize, how: usize) {
        match how % 8 {
            0 | 1 => {
                let word = self.table.load(PAGES[at]);
                self.pages[at].assert_is(word, self.now);
                self.seen[thread][at] = Some(Seen { word, page: self.pages[at] });
            }
            2 => {
                self.table.touch(PAGES[at]);
                if self.pages[at].state == State::Resident {
                    self.pages[at] = self.pages[at].touched(self.now);
                }
            }
            3 if thread == EVICTOR => {
                // Sometimes by more than half of all ticks, so that a future tick becomes a past one.
                self.now = later(self.now, 1 << (how / 2));
                self.table.set_now(Tick::new(self.now.into()));
            }
            4 => self.release(thread, at),
            _ => {
                if let Some(seen) = self.seen[thread][at] {
                    self.act(thread, at, seen, how);
                }
            }
        }
    }

    /// Acts on a word read before. Succeeds if the page has not changed since.
    fn act(&mut self, thread: usize, at: usize, seen: Seen, how: usize) {
        let page = PAGES[at];
        let claims = thread == EVICTOR && how % 8 > 5 && !seen.page.in_batch;
        let (done, next, business) = match seen.page.state {
            State::Empty | State::Stored => {
                self.extent = self.extent.max(page.0 + 1);
                let done = self.table.begin_fill(page, seen.word);
                (done, seen.page.to(State::Filling), Business::Filling(seen))
            }
            State::Resident if claims => {
                let claimed = seen.page.to(State::Claimed).in_batch(true);
                (self.table.claim(page, seen.word), claimed, Business::InBatch)
            }
            State::Resident | State::Claimed => {
                let done = self.table.begin_unprotect(page, seen.word);
                (done, seen.page.to(State::Filling), Business::Unprotecting(seen))
            }
            State::Lost => {
                let done = self.table.begin_poison(page, seen.word);
                (done, seen.page.to(State::Filling), Business::Poisoning)
            }
            State::Filling | State::Dropping => {
                let done = self.table.request_wake(page, seen.word);
                if seen.page.waiting {
                    return assert_eq!(done, Ok(()));
                }
                (done, seen.page.waited_for(), Business::None)
            }
        };
        match done {
            Ok(()) => {
                assert_eq!(seen.page, self.pages[at], "it has changed since");
                (self.pages[at], self.business[thread][at]) = (next, business);
            }
            Err(found) => {
                assert_ne!(seen.page, self.pages[at], "it is what it was");
                self.pages[at].assert_is(found, self.now);
            }
        }
    }

    fn release(&mut self, thread: usize, at: usize) {
        let page = self.pages[at];
        match self.table.begin_release(PAGES[at]) {
            Release::Empty => assert_eq!(page.state, State::Empty),
            Release::Busy => {
                let owned = [State::Claimed, State::Dropping, State::Filling];
                assert!(page.in_batch || owned.contains(&page.state), "{page:?}");
            }
            Release::Taken(word) => {
                let free = [State::Resident, State::Stored, State::Lost];
                assert!(!page.in_batch && free.contains(&page.state), "{page:?}");
                page.assert_is(word, self.now);
                self.pages[at] = page.to(State::Filling);
                self.business[thread][at] = Business::Releasing(Seen { word, page });
            }
        }
    }

    /// Leaves the page by one of the table's transitions, or takes a step towards one.
    fn go_on(&mut self, thread: usize, at: usize, how: usize) {
        use Counted::{InMemory, Lost, Nowhere, Stored};
        let (table, page, now) = (&self.table, PAGES[at], self.now);
        let (before, counted) = (self.pages[at], self.counted[at]);
        let (Waiters(woken), next, counted) = match self.business[thread][at] {
            Business::None => return,
            Business::InBatch => return self.evict(at, how),
            Business::Filling(Seen { word, page: was }) => match how % 4 {
                0 => (table.abort_fill(page, word), was, counted),
                1 if was.state == State::Stored => (table.mark_lost(page, word), Page::LOST, Lost),
                _ => (table.finish_fill(page, word), Page::resident(now), InMemory),
            },
            Business::Unprotecting(Seen { word, page: was }) => {
                let next = was.to(State::Resident).touched(now);
                (table.finish_unprotect(page, word), next, counted)
            }
            Business::Poisoning => (table.finish_poison(page), Page::LOST, counted),
            Business::Releasing(Seen { word, page: was }) => match how % 4 {
                0 if was.state != State::Stored => (table.abort_release(page, word), was, counted),
                _ => (table.finish_release(page, word), Page::EMPTY, Nowhere),
            },
            Business::Dropping => match how % 4 {
                0 => (table.abort_drop(page), Page::resident(now).failed(now), counted),
                _ => (table.finish_drop(page), before.to(State::Stored), Stored),
            },
        };
        assert_eq!(woken, before.waiting, "{before:?}");
        (self.pages[at], self.counted[at]) = (next, counted);
        self.business[thread][at] = Business::None;
    }

    /// A step of the evictor with a page that it has claimed.
    fn evict(&mut self, at: usize, how: usize) {
        let (page, now) = (self.pages[at], self.now);
        if how.is_multiple_of(2) {
            self.handle += 1;
            let published = self.table.publish(PAGES[at], Handle::from_raw(self.handle));
            assert_eq!(published, page.state == State::Claimed, "{page:?}");
            if published {
                self.pages[at] = page.dropping(self.handle);
                self.business[EVICTOR][at] = Business::Dropping;
            }
        } else if page.state != State::Filling {
            // `leave_batch` would wait if the other thread were filling the page.
            let fails = how % 4 == 1;
            self.table.leave_batch(PAGES[at], |word| {
                assert_eq!(page.state, State::Claimed, "it was taken back");
                if fails { word.with_failure(Tick::new(now.into())) } else { word }
            });
            let failed = fails && page.state == State::Claimed;
            let page = page.to(State::Resident).in_batch(false);
            self.pages[at] = if failed { page.failed(now) } else { page };
            self.business[EVICTOR][at] = Business::None;
        }
    }

    /// Compares all words and counters of the table with the model.
    pub(crate) fn compare(&self) {
        let count = |what| self.counted.iter().filter(|counted| **counted == what).count();
        let found = (self.table.resident(), self.table.stored(), self.table.lost());
        assert_eq!(found, (count(Counted::InMemory), count(Counted::Stored), count(Counted::Lost)));
        let in_first = self.counted[..2].iter().filter(|c| **c == Counted::InMemory).count();
        let regions = (self.table.pages_in_memory(0), self.table.pages_in_memory(1));
        assert_eq!(regions, (in_first, count(Counted::InMemory) - in_first));
        assert_eq!(self.table.extent().pages(), self.extent);
        for (at, page) in self.pages.iter().enumerate() {
            page.assert_is(self.table.load(PAGES[at]), self.now);
        }
    }

    /// Lets both threads finish. Afterwards no page has an owner.
    pub(crate) fn end(&mut self) {
        for at in 0..PAGES.len() {
            let busy = self.business.iter().any(|of| !matches!(of[at], Business::None));
            if busy {
                self.table.check().unwrap_err();
            }
            // The other thread first, because the evictor may have to wait for it.
            for thread in [1, EVICTOR] {
                self.go_on(thread, at, 3);
            }
        }
        self.table.check().unwrap();
    }
}
