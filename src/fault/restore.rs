//! Bringing stored pages back: for a toucher, with neighbours; or ahead of a touch, in runs.

use super::scratch::{RUN, Scratch};
use super::{Content, FillError, Resolved, Resolver};
use crate::prim::{PAGE_SIZE, PageIndex, PageRange};
use crate::sys::event;
use crate::sys::signals::SignalsBlocked;
use crate::table::{State, Word};

/// What is to become of pages that were never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Empty {
    /// They stay so.
    Leave,
    /// They are given memory.
    Populate,
}

/// What bringing a range back came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Brought {
    /// Pages that came from the store.
    pub(crate) restored: usize,
    /// Pages whose bytes are gone.
    pub(crate) lost: usize,
}

impl Resolver {
    /// Brings back the stored page that the caller has taken, for somebody who touched it, and with it
    /// neighbours that will be touched next by the looks of it.
    pub(super) fn restore_touched(&self, page: PageIndex, was: Word) -> Resolved {
        let plan = self.neighbours.plan(page, self.table.extent().end);
        let (resolved, run) = self.scratches.with(|scratch| {
            let run = self.take_around(page, was, plan.window, scratch);
            match self.decode_around(page, run, scratch) {
                Some(good) => self.put_back(page, good, scratch),
                None => (Resolved::Lost, page.only()),
            }
        });
        self.neighbours.note(plan, run);
        if run.pages() > 1 {
            self.counters.brought_along.add(run.pages() as u64 - 1);
        }
        resolved
    }

    /// Takes the stored pages of `window` that are neighbours of `page`, which the caller has taken,
    /// without a gap. Their words are left in `scratch`.
    fn take_around(
        &self,
        page: PageIndex,
        was: Word,
        window: PageRange,
        scratch: &mut Scratch,
    ) -> PageRange {
        let take = |page: PageIndex| {
            let seen = self.table.load(page);
            let taken = seen.state() == State::Stored && self.table.begin_fill(page, seen).is_ok();
            taken.then_some(seen)
        };
        let below = PageRange { start: window.start, end: page };
        let above = PageRange { start: PageIndex(page.0 + 1), end: window.end };
        scratch.words.clear();
        scratch.words.extend(below.iter().rev().map_while(take));
        scratch.words.reverse();
        let start = page.0 - scratch.words.len();
        scratch.words.push(was);
        scratch.words.extend(above.iter().map_while(take));
        PageRange::new(start, start + scratch.words.len())
    }

    /// Decodes the pages of `run`, all of which the caller owns, and says which part of it around
    /// `page` is good; the rest is given up again, to be found damaged when it is touched. None if
    /// `page` itself is damaged, and lost; then all of the run is dealt with.
    fn decode_around(
        &self,
        page: PageIndex,
        run: PageRange,
        scratch: &mut Scratch,
    ) -> Option<PageRange> {
        let at = page.0 - run.start.0;
        let was = scratch.words[at];
        let mut good = page.only();
        let intact = self.decode(page, at, scratch);
        if intact {
            while good.start > run.start
                && self.decode(PageIndex(good.start.0 - 1), good.start.0 - 1 - run.start.0, scratch)
            {
                good.start.0 -= 1;
            }
            while good.end < run.end {
                let at = good.end.0 - run.start.0;
                if let Some(next) = scratch.words.get(at + 1) {
                    self.store.prefetch(next.handle());
                }
                if !self.decode(good.end, at, scratch) {
                    break;
                }
                good.end.0 += 1;
            }
        }
        for (neighbour, &word) in run.iter().zip(&scratch.words) {
            if neighbour < good.start || neighbour >= good.end {
                self.wake(neighbour.only(), self.table.abort_fill(neighbour, word));
            }
        }
        if !intact {
            self.lose(page, was, &"its checksum does not match");
            return None;
        }
        // Words and bytes begin with the first page that is good.
        let skipped = good.start.0 - run.start.0;
        scratch.words.drain(..skipped);
        scratch.words.truncate(good.pages());
        scratch.bytes.copy_within(skipped * PAGE_SIZE..(skipped + good.pages()) * PAGE_SIZE, 0);
        Some(good)
    }

    /// Decodes a page that the caller owns to its place in the buffer, and says whether it is intact.
    pub(super) fn decode(&self, page: PageIndex, at: usize, scratch: &mut Scratch) -> bool {
        let bytes = &mut scratch.bytes[at * PAGE_SIZE..][..PAGE_SIZE];
        let (handle, tag) = (scratch.words[at].handle(), page.0 as u64);
        self.store.get(handle, tag, &mut scratch.decompressor, bytes).is_ok()
    }

    /// Puts the pages of `run`, whose bytes are in `scratch`, in place: at any rate `page`. Says what
    /// is there now besides.
    fn put_back(
        &self,
        page: PageIndex,
        run: PageRange,
        scratch: &Scratch,
    ) -> (Resolved, PageRange) {
        let bytes = &scratch.bytes[..run.bytes()];
        let sample = self.neighbours.is_sample(run);
        let content = if sample { Content::BytesQuietly(bytes) } else { Content::Bytes(bytes) };
        let (done, stopped) = self.install(run, content);
        if sample {
            if done == run.pages() {
                self.sample(page, run);
            }
            // Not before: a toucher who went on could touch all of it unseen. Those who wait on the
            // pages' words are woken as these change.
            if let Err(e) = self.backing.wake(run) {
                event::die("cannot wake the waiters of a page", &e);
            }
        }
        let there = PageRange::new(run.start.0, run.start.0 + done);
        for (neighbour, &was) in run.iter().zip(&scratch.words) {
            if neighbour < there.end {
                self.finish_restored(neighbour, was);
            } else if neighbour != page {
                self.wake(neighbour.only(), self.table.abort_fill(neighbour, was));
            }
        }
        if page < there.end {
            return (Resolved::Restored, there);
        }
        let at = page.0 - run.start.0;
        let (was, mut stopped) = (scratch.words[at], stopped);
        let bytes = &bytes[at * PAGE_SIZE..][..PAGE_SIZE];
        loop {
            match stopped {
                // The copy is good, so whoever waits for it may as well go on waiting.
                Some(FillError::NoMemory) => {
                    event::say(format_args!("a thread waits for memory for an evicted page"));
                }
                Some(error) => {
                    self.lose(page, was, &error);
                    return (Resolved::Lost, page.only());
                }
                None => {
                    self.finish_restored(page, was);
                    return (Resolved::Restored, page.only());
                }
            }
            stopped = self.install(page.only(), Content::Bytes(bytes)).1;
        }
    }

    fn finish_restored(&self, page: PageIndex, was: Word) {
        self.store.free(was.handle());
        self.wake(page.only(), self.table.finish_fill(page, was));
    }

    /// Looks what became of the pages that were watched the last time, and watches those of `run` that
    /// came along with `page`. The caller must own them: an eviction relies on what it has armed.
    fn sample(&self, page: PageIndex, run: PageRange) {
        let now = self.table.now();
        if let Some(watched) = self.neighbours.take_sample(now) {
            let mut touched = 0;
            let looked = self.tracker.touched(watched, &mut |run| {
                touched += run.intersection(watched).pages();
            });
            if looked.is_ok() {
                let [wanted, wasted] = [touched, watched.pages() - touched].map(|n| n as u64);
                self.counters.sampled_wanted.add(wanted);
                self.counters.sampled_wasted.add(wasted);
                self.neighbours.learn(wanted, wasted);
            }
        }
        let below = PageRange { start: run.start, end: page };
        let above = PageRange { start: PageIndex(page.0 + 1), end: run.end };
        let company = if above.pages() >= below.pages() { above } else { below };
        // The kernel may refuse, for memory that the program has locked; then nothing is learnt.
        if self.tracker.arm(company).is_ok() {
            self.neighbours.put_sample(company, now);
        }
    }

    /// Brings back the stored pages of `range`. Pages in memory count as touched, those on their way
    /// out are taken back, and those that others are at work on are waited for.
    pub(crate) fn restore(&self, range: PageRange, empty: Empty) -> Result<Brought, FillError> {
        let mut brought = Brought::default();
        let mut left = match empty {
            // Beyond it all is empty.
            Empty::Leave => range.intersection(self.table.extent()),
            Empty::Populate => range,
        };
        while !left.is_empty() {
            let page = left.start;
            let seen = self.table.load(page);
            match seen.state() {
                State::Stored => {
                    self.store.prefetch(seen.handle());
                    let chunk = PageRange::new(page.0, left.end.0.min(page.0 + RUN));
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
                    if self.table.begin_lift(page, seen).is_ok() {
                        self.lift(page, seen);
                    }
                }
                State::Dropping | State::Filling => self.table.wait(page),
                State::Resident => {
                    self.table.touch(page);
                    left.start.0 += 1;
                }
                State::Empty if empty == Empty::Populate => {
                    let run = left.iter().take_while(|p| self.table.load(*p) == Word::EMPTY);
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

    /// Brings back the leading run of stored pages of `range`, at most [`RUN`] of them.
    fn restore_run(&self, range: PageRange, scratch: &mut Scratch) -> (usize, Option<FillError>) {
        scratch.words.clear();
        for (at, page) in range.iter().enumerate() {
            let seen = self.table.load(page);
            if seen.state() != State::Stored || self.table.begin_fill(page, seen).is_err() {
                break;
            }
            scratch.words.push(seen);
            if at + 1 < range.pages() {
                let next = self.table.load(PageIndex(page.0 + 1));
                if next.state() == State::Stored {
                    self.store.prefetch(next.handle());
                }
            }
            if !self.decode(page, at, scratch) {
                scratch.words.pop();
                self.lose(page, seen, &"its checksum does not match");
                break;
            }
        }
        let run = PageRange::new(range.start.0, range.start.0 + scratch.words.len());
        let (done, stopped) = self.install(run, Content::Bytes(&scratch.bytes[..run.bytes()]));
        for (i, (page, &was)) in run.iter().zip(&scratch.words).enumerate() {
            if i < done {
                self.finish_restored(page, was);
            } else {
                self.wake(page.only(), self.table.abort_fill(page, was));
            }
        }
        (done, stopped)
    }
}
