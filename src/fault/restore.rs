//! Bringing stored pages back: for a toucher, with neighbours; or ahead of a touch, in runs.

use super::scratch::Scratch;
use super::{FillError, Resolved, Resolver};
use crate::prim::geometry::READAHEAD_PAGES;
use crate::prim::{PageIndex, PageRange};
use crate::sys::backing::Content;
use crate::sys::event;
use crate::sys::signals::SignalsBlocked;
use crate::table::{State, Word};

/// What is to become of pages that were never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EmptyPages {
    /// They stay so.
    Leave,
    /// They are given memory.
    Populate,
}

/// What bringing a range back came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RestoreOutcome {
    /// Pages that came from the store.
    pub(crate) restored: usize,
    /// Pages whose bytes are gone.
    pub(crate) lost: usize,
}

impl Resolver {
    /// Brings back `page`, which was touched and which the caller has taken from the store, and those
    /// neighbours of it that are likely to be touched next.
    pub(super) fn restore_touched(&self, page: PageIndex, was: Word) -> Resolved {
        let plan = self.readahead.plan(page, self.core.table.extent().end);
        let (resolved, run) = self.restore_within(plan.window, page, was);
        self.readahead.note(plan, run);
        if run.pages() > 1 {
            self.core.counters.readahead_pages.add(run.pages() as u64 - 1);
        }
        resolved
    }

    /// Brings back `page`, which the caller has taken, and the stored pages of `window` next to it. Says
    /// which pages it has put in place.
    pub(super) fn restore_within(
        &self,
        window: PageRange,
        page: PageIndex,
        was: Word,
    ) -> (Resolved, PageRange) {
        self.scratches.with(|scratch| {
            self.take_around(page, was, window, scratch);
            let intact = self.decode_around(page, scratch);
            if intact.is_empty() {
                (Resolved::Lost, page.only())
            } else {
                self.put_in_place(page, intact, scratch)
            }
        })
    }

    /// Makes a run in `scratch` of `page`, which the caller has taken, and of the stored pages of
    /// `window` next to it, which this takes.
    fn take_around(&self, page: PageIndex, was: Word, window: PageRange, scratch: &mut Scratch) {
        scratch.begin(page);
        scratch.push_above(was);
        let below = PageRange { start: window.start, end: page };
        let above = PageRange { start: PageIndex(page.0 + 1), end: window.end };
        let take = |page| self.take_stored(page);
        below.iter().rev().map_while(take).for_each(|word| scratch.push_below(word));
        above.iter().map_while(take).for_each(|word| scratch.push_above(word));
    }

    /// Takes a page from the store and gives the word that it had. None if it is not stored.
    fn take_stored(&self, page: PageIndex) -> Option<Word> {
        let seen = self.core.table.load(page);
        let taken = seen.state() == State::Stored && self.core.table.begin_fill(page, seen).is_ok();
        taken.then_some(seen)
    }

    /// Decodes the pages of the run from `page` on, upwards and downwards, up to the next damaged one.
    /// Gives the part of the run that it decoded, and gives the rest of the run up: a damaged page
    /// there is lost when it is touched. If `page` itself is damaged, it is lost, and the part is empty.
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

    /// Decodes pages of the run in this order up to the first damaged one, and says how many.
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

    /// Puts the pages of `intact` in place, at any rate `page`. Says which pages it has put there.
    fn put_in_place(
        &self,
        page: PageIndex,
        intact: PageRange,
        scratch: &Scratch,
    ) -> (Resolved, PageRange) {
        let sample = self.readahead.is_sample(intact);
        let (done, _) = self.copy_in(intact, scratch, !sample);
        if sample {
            if done == intact.pages() {
                self.sample(page, intact);
            }
            // Not before: a toucher who went on could touch all of it unseen. Those who wait on the
            // pages' words are woken as these change.
            if let Err(e) = self.core.backing.wake(intact) {
                event::abort_process("cannot wake the waiters of a page", &e);
            }
        }
        let there = PageRange::new(intact.start.0, intact.start.0 + done);
        for other in intact.iter() {
            if other < there.end {
                self.finish_restored(other, scratch);
            } else if other != page {
                self.abort_fill(other, scratch);
            }
        }
        if page < there.end {
            return (Resolved::Restored, there);
        }
        // Alone, because what stopped the kernel may concern a neighbour.
        loop {
            match self.copy_in(page.only(), scratch, true).1 {
                None => {
                    self.finish_restored(page, scratch);
                    return (Resolved::Restored, page.only());
                }
                // The copy is good, so the toucher may as well go on waiting.
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

    /// Gives the kernel the bytes of `pages`, a part of the run that has been decoded. Says how many it
    /// has put in place, and what stopped it.
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

    /// Ends the fill of a page of the run that is in memory now.
    fn finish_restored(&self, page: PageIndex, scratch: &Scratch) {
        let was = scratch.word(page);
        self.core.store.free(was.handle());
        self.wake(page.only(), self.core.table.finish_fill(page, was));
    }

    /// Makes a page of the run a stored one again.
    pub(super) fn abort_fill(&self, page: PageIndex, scratch: &Scratch) {
        self.wake(page.only(), self.core.table.abort_fill(page, scratch.word(page)));
    }

    /// Looks what became of the pages that were watched the last time, and watches those of `run` that
    /// came along with `page`. The caller must own them: an eviction relies on what it has armed.
    fn sample(&self, page: PageIndex, run: PageRange) {
        let now = self.core.table.now();
        if let Some(watched) = self.readahead.take_sample(now) {
            let mut touched = 0;
            let looked = self.core.watch.touched(watched, &mut |run| {
                touched += run.intersection(watched).pages();
            });
            if looked.is_ok() {
                let [wanted, wasted] = [touched, watched.pages() - touched].map(|n| n as u64);
                self.core.counters.readahead_sampled_hits.add(wanted);
                self.core.counters.readahead_sampled_misses.add(wasted);
                self.readahead.learn(wanted, wasted);
            }
        }
        let below = PageRange { start: run.start, end: page };
        let above = PageRange { start: PageIndex(page.0 + 1), end: run.end };
        let company = if above.pages() >= below.pages() { above } else { below };
        // The kernel may refuse, for memory that the program has locked; then nothing is learnt.
        if self.core.watch.arm(company).is_ok() {
            self.readahead.put_sample(company, now);
        }
    }

    /// Brings back the stored pages of `range`. Pages in memory count as touched, those on their way
    /// out are taken back, and those that others are at work on are waited for.
    pub(crate) fn restore(
        &self,
        range: PageRange,
        empty: EmptyPages,
    ) -> Result<RestoreOutcome, FillError> {
        let mut brought = RestoreOutcome::default();
        let mut left = match empty {
            // Beyond it all is empty.
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
                    brought.restored += run;
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
                    brought.lost += 1;
                    left.start.0 += 1;
                }
            }
        }
        Ok(brought)
    }

    /// Brings back the leading run of stored pages of `range`, which has at most [`READAHEAD_PAGES`] pages, up to a
    /// damaged one. A page that is damaged and the first of them is lost.
    fn restore_run(&self, range: PageRange, scratch: &mut Scratch) -> (usize, Option<FillError>) {
        scratch.begin(range.start);
        let stored = range.iter().map_while(|page| self.take_stored(page));
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
