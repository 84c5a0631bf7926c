//! Restores stored pages: for a refault, with readahead; or ahead of a touch, in runs.

use super::scratch::Scratch;
use super::{FillError, Resolved, Resolver};
use crate::prim::geometry::READAHEAD_PAGES;
use crate::prim::{PageIndex, PageRange};
use crate::sys::backing::Content;
use crate::sys::event;
use crate::sys::signals::SignalsBlocked;
use crate::table::{State, Word};

/// Whether [`Resolver::restore`] populates empty pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EmptyPages {
    Leave,
    Populate,
}

/// Counts of pages in a restored range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RestoreOutcome {
    /// Pages that were stored.
    pub(crate) restored: usize,
    /// Lost pages.
    pub(crate) lost: usize,
}

impl Resolver {
    /// Restores the touched `page`, which the caller owns, and its readahead.
    pub(super) fn restore_touched(&self, page: PageIndex, was: Word) -> Resolved {
        let plan = self.readahead.plan(page, self.core.table.extent().end);
        // A watch that sees no pages cannot tell which of them are touched. So the readahead pages of a sample stay
        // stored: a touch brings them back.
        let is_sample = !self.core.watch.sees_pages() && self.readahead.is_withheld(plan.window);
        let window = if is_sample { page.only() } else { plan.window };
        let (resolved, run) = self.restore_within(window, page, was);
        if is_sample {
            self.sample(page, plan.window);
        }
        self.readahead.note(plan, run);
        if run.pages() > 1 {
            self.core.counters.readahead_pages.add(run.pages() as u64 - 1);
        }
        resolved
    }

    /// Restores `page`, which the caller owns, and the stored pages of `window` next to it. Returns the pages
    /// that it has put in place.
    pub(super) fn restore_within(
        &self,
        window: PageRange,
        page: PageIndex,
        was: Word,
    ) -> (Resolved, PageRange) {
        self.scratches.with(|scratch| {
            self.own_around(page, was, window, scratch);
            let intact = self.decode_around(page, scratch);
            if intact.is_empty() {
                (Resolved::Lost, page.only())
            } else {
                self.put_in_place(page, intact, scratch)
            }
        })
    }

    /// Makes a run in `scratch` of `page`, which the caller owns, and of the stored pages of `window` next to
    /// it. Owns these too.
    fn own_around(&self, page: PageIndex, was: Word, window: PageRange, scratch: &mut Scratch) {
        scratch.begin(page);
        scratch.push_above(was);
        let below = PageRange { start: window.start, end: page };
        let above = PageRange { start: PageIndex(page.0 + 1), end: window.end };
        let own = |page| self.own_stored(page);
        below.iter().rev().map_while(own).for_each(|word| scratch.push_below(word));
        above.iter().map_while(own).for_each(|word| scratch.push_above(word));
    }

    /// Takes a stored page to `Filling`, and returns the word that it had. None if it is not stored.
    fn own_stored(&self, page: PageIndex) -> Option<Word> {
        let seen = self.core.table.load(page);
        let owned = seen.state() == State::Stored && self.core.table.begin_fill(page, seen).is_ok();
        owned.then_some(seen)
    }

    /// Decodes the pages of the run from `page` on, upwards and downwards, up to the next damaged page.
    /// Returns the decoded part of the run. Makes the other pages stored again: a damaged one becomes lost at
    /// its next touch. If `page` itself is damaged, it becomes lost, and the decoded part is empty.
    pub(super) fn decode_around(&self, page: PageIndex, scratch: &mut Scratch) -> PageRange {
        let run = scratch.run();
        let mut intact = PageRange { start: page, end: page };
        let above = PageRange { start: page, end: run.end };
        intact.end.0 += self.decode_while_intact(above.iter(), scratch);
        if !intact.is_empty() {
            let below = PageRange { start: run.start, end: page };
            intact.start.0 -= self.decode_while_intact(below.iter().rev(), scratch);
        }
        let damaged = intact.is_empty().then_some(page);
        for other in run.iter() {
            let is_intact = intact.start <= other && other < intact.end;
            if !is_intact && damaged != Some(other) {
                self.abort_fill(other, scratch);
            }
        }
        if let Some(page) = damaged {
            self.mark_lost(page, scratch.word(page), &"its checksum does not match");
        }
        intact
    }

    /// Decodes pages of the run in this order up to the first damaged one. Returns how many.
    fn decode_while_intact(
        &self,
        pages: impl Iterator<Item = PageIndex>,
        scratch: &mut Scratch,
    ) -> usize {
        let mut pages = pages.peekable();
        let mut intact = 0;
        while let Some(page) = pages.next() {
            if let Some(next) = pages.peek() {
                self.core.store.prefetch(scratch.word(*next).handle());
            }
            if !scratch.decode(page, &self.core.store) {
                break;
            }
            intact += 1;
        }
        intact
    }

    /// Puts the pages of `intact` in place, and `page` in any case unless the kernel refuses it. Returns the
    /// pages that it has put in place.
    fn put_in_place(
        &self,
        page: PageIndex,
        intact: PageRange,
        scratch: &Scratch,
    ) -> (Resolved, PageRange) {
        let sample = self.core.watch.sees_pages() && self.readahead.is_sample(intact);
        let (done, _) = self.copy_in(intact, scratch, !sample);
        if sample {
            if done == intact.pages() {
                self.sample(page, intact);
            }
            // Wakes after arming: a faulting thread that went on earlier could touch the pages unnoticed.
            // `finish_restored` wakes the threads that wait on the page words.
            if let Err(e) = self.core.backing.wake(intact) {
                event::abort_process("cannot wake the waiters of a page", &e);
            }
        }
        let in_place = PageRange::new(intact.start.0, intact.start.0 + done);
        for other in intact.iter() {
            if other < in_place.end {
                self.finish_restored(other, scratch);
            } else if other != page {
                self.abort_fill(other, scratch);
            }
        }
        if page < in_place.end {
            return (Resolved::Restored, in_place);
        }
        // Tries `page` alone, because the kernel's error may concern a neighbour.
        loop {
            match self.copy_in(page.only(), scratch, true).1 {
                None => {
                    self.finish_restored(page, scratch);
                    return (Resolved::Restored, page.only());
                }
                // The copy is good, so the faulting thread waits for memory.
                Some(FillError::NoMemory) => {
                    event::report(format_args!("a thread waits for memory for an evicted page"));
                }
                Some(error) => {
                    self.mark_lost(page, scratch.word(page), &error);
                    return (Resolved::Lost, page.only());
                }
            }
        }
    }

    /// Gives the kernel the bytes of `pages`, a decoded part of the run. Returns how many pages the kernel
    /// has put in place, and the error that stopped it.
    fn copy_in(
        &self,
        pages: PageRange,
        scratch: &Scratch,
        wake: bool,
    ) -> (usize, Option<FillError>) {
        debug_assert!(
            scratch.matches_store(pages, &self.core.store),
            "bytes of another page: {pages:?}"
        );
        let bytes = scratch.bytes(pages);
        let content = if wake { Content::Bytes(bytes) } else { Content::BytesWithoutWake(bytes) };
        self.core.backing.fill(pages, content)
    }

    /// Ends the fill of a page of the run that is in place.
    fn finish_restored(&self, page: PageIndex, scratch: &Scratch) {
        let was = scratch.word(page);
        self.core.store.free(was.handle());
        self.wake(page.only(), self.core.table.finish_fill(page, was));
    }

    /// Makes a page of the run stored again.
    pub(super) fn abort_fill(&self, page: PageIndex, scratch: &Scratch) {
        self.wake(page.only(), self.core.table.abort_fill(page, scratch.word(page)));
    }

    /// Learns from the previous sample, and makes a sample of the readahead pages of `run`, which a fault on `page`
    /// has restored. If the watch sees pages, it arms them. The caller must own them then, so that no eviction relies
    /// on whether they are armed.
    fn sample(&self, page: PageIndex, run: PageRange) {
        let now = self.core.table.now();
        let sees_pages = self.core.watch.sees_pages();
        if let Some(sample) = self.readahead.take_sample(now) {
            let mut touched = 0;
            let is_stored = |page: &PageIndex| self.core.table.load(*page).state() == State::Stored;
            let scanned = if sees_pages {
                self.core.watch.touched(sample, &mut |run| {
                    touched += run.intersection(sample).pages();
                })
            } else {
                touched = sample.pages() - sample.iter().filter(is_stored).count();
                Ok(())
            };
            if scanned.is_ok() {
                let [hits, misses] = [touched, sample.pages() - touched].map(|n| n as u64);
                self.core.counters.readahead_sampled_hits.add(hits);
                self.core.counters.readahead_sampled_misses.add(misses);
                self.readahead.learn(hits, misses);
            }
        }
        let below = PageRange { start: run.start, end: page };
        let above = PageRange { start: PageIndex(page.0 + 1), end: run.end };
        let sample = if above.pages() >= below.pages() { above } else { below };
        // The kernel may refuse to arm memory that the program has locked. Then there is no sample.
        if !sees_pages || self.core.watch.arm(sample).is_ok() {
            self.readahead.put_sample(sample, now);
        }
    }

    /// Restores the stored pages of `range`. Counts resident pages as touched, takes claimed pages back, and
    /// waits for the owners of pages.
    pub(crate) fn restore(
        &self,
        range: PageRange,
        empty: EmptyPages,
    ) -> Result<RestoreOutcome, FillError> {
        let mut outcome = RestoreOutcome::default();
        let mut left = match empty {
            // Pages beyond the extent are empty.
            EmptyPages::Leave => range.intersection(self.core.table.extent()),
            EmptyPages::Populate => range,
        };
        while !left.is_empty() {
            let page = left.start;
            let seen = self.core.table.load(page);
            match seen.state() {
                State::Stored => {
                    self.core.store.prefetch(seen.handle());
                    let chunk = PageRange::new(page.0, left.end.0.min(page.0 + READAHEAD_PAGES));
                    let blocked = SignalsBlocked::new();
                    let (run, error) =
                        self.scratches.with(|scratch| self.restore_run(chunk, scratch));
                    drop(blocked);
                    outcome.restored += run;
                    left.start.0 += run;
                    if let Some(error) = error {
                        return Err(error);
                    }
                }
                State::Claimed => {
                    let _blocked = SignalsBlocked::new();
                    if self.core.table.begin_unprotect(page, seen).is_ok() {
                        self.unprotect(page, seen);
                    }
                }
                State::Dropping | State::Filling => self.core.table.wait(page),
                State::Resident => {
                    self.core.table.touch(page);
                    left.start.0 += 1;
                }
                State::Empty if empty == EmptyPages::Populate => {
                    let run = left.iter().take_while(|p| self.core.table.load(*p) == Word::EMPTY);
                    self.populate(PageRange::new(page.0, page.0 + run.count().max(1)))?;
                }
                State::Empty => left.start.0 += 1,
                State::Lost => {
                    outcome.lost += 1;
                    left.start.0 += 1;
                }
            }
        }
        Ok(outcome)
    }

    /// Restores the leading run of stored pages of `range`, up to a damaged page. If the first page is damaged,
    /// it becomes lost. `range` has at most [`READAHEAD_PAGES`] pages.
    fn restore_run(&self, range: PageRange, scratch: &mut Scratch) -> (usize, Option<FillError>) {
        scratch.begin(range.start);
        let stored = range.iter().map_while(|page| self.own_stored(page));
        stored.for_each(|word| scratch.push_above(word));
        if scratch.run().is_empty() {
            return (0, None);
        }
        let intact = self.decode_around(range.start, scratch);
        let (done, stopped) = self.copy_in(intact, scratch, true);
        for page in intact.iter() {
            if page.0 < intact.start.0 + done {
                self.finish_restored(page, scratch);
            } else {
                self.abort_fill(page, scratch);
            }
        }
        (done, stopped)
    }
}
