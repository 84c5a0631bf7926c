//! Runs of pages: filled with zeros, populated, or released.

use super::{FillError, Resolver};
use crate::prim::sync::thread;
use crate::prim::{PageIndex, PageRange, REGION_PAGES};
use crate::sys::backing::Content;
use crate::sys::signals::SignalsBlocked;
use crate::sys::{SysError, event};
use crate::table::{Release, State, Word};
use std::fmt;

/// The most pages that are populated or released while signals are blocked.
const STRETCH: usize = REGION_PAGES;

impl Resolver {
    /// Makes a page that the caller owns a lost one: a thread that touches it gets SIGBUS.
    pub(super) fn mark_lost(&self, page: PageIndex, was: Word, why: &dyn fmt::Display) {
        event::report(format_args!("page {} of an arena is lost: {why:#}", page.0));
        if was.state() == State::Stored {
            self.core.store.free(was.handle());
        }
        // Poisons before the word says lost: a touch in between would fault on a missing page without an owner.
        self.poison(page);
        self.wake(page.only(), self.core.table.mark_lost(page, was));
    }

    /// Fills the leading run of empty pages of `range` with zeros. Returns how many it filled, and the error
    /// that stopped it.
    pub(super) fn zero_run(&self, range: PageRange) -> (usize, Option<FillError>) {
        let mut end = range.start;
        for page in range.iter() {
            if self.core.table.begin_fill(page, Word::EMPTY).is_err() {
                break;
            }
            end = PageIndex(page.0 + 1);
        }
        let run = PageRange { start: range.start, end };
        let (done, stopped) = self.core.backing.fill(run, Content::Zeros);
        for (i, page) in run.iter().enumerate() {
            let waiters = if i < done {
                self.core.table.finish_fill(page, Word::EMPTY)
            } else {
                self.core.table.abort_fill(page, Word::EMPTY)
            };
            self.wake(page.only(), waiters);
        }
        (done, stopped)
    }

    /// Gives memory to the empty pages of `range`, so that their first touch is no fault.
    pub(crate) fn populate(&self, range: PageRange) -> Result<(), FillError> {
        let is_empty = |page: &PageIndex| self.core.table.load(*page) == Word::EMPTY;
        let mut left = range;
        while let Some(start) = left.iter().find(is_empty) {
            let _blocked = SignalsBlocked::new();
            left.start = start;
            let end = PageIndex(left.end.0.min(start.0 + STRETCH));
            match self.zero_run(PageRange { start, end }) {
                (0, Some(error)) => return Err(error),
                (done, _) => left.start.0 += done.max(1),
            }
        }
        Ok(())
    }

    /// Makes every page of `range` empty, and frees its memory or its slot in the store.
    ///
    /// No block in use may reach into the pages: after the release a touch reads zeros.
    pub(crate) fn release(&self, range: PageRange) -> Result<(), SysError> {
        // Pages beyond the extent are empty.
        let range = range.intersection(self.core.table.extent());
        let mut taken = Vec::with_capacity(range.pages().min(STRETCH));
        for stretch in range.chunks(STRETCH) {
            let mut left = stretch;
            while !left.is_empty() {
                let blocked = SignalsBlocked::new();
                let released = self.release_run(left, &mut taken)?;
                drop(blocked);
                left.start.0 += released;
                if released == 0 {
                    // For a short time the page has another owner, or is in the evictor's batch.
                    thread::yield_now();
                }
            }
        }
        Ok(())
    }

    /// Releases the stored and the lost pages of `range`. No block in use may reach into them.
    pub(crate) fn forget(&self, range: PageRange) -> Result<(), SysError> {
        let range = range.intersection(self.core.table.extent());
        let is_evicted = |page: PageIndex| {
            matches!(self.core.table.load(page).state(), State::Stored | State::Lost)
        };
        let mut left = range;
        while let Some(start) = left.iter().find(|page| is_evicted(*page)) {
            let end = (start.0..left.end.0).find(|page| !is_evicted(PageIndex(*page)));
            let run = PageRange { start, end: end.map_or(left.end, PageIndex) };
            self.release(run)?;
            left.start = run.end;
        }
        Ok(())
    }

    /// Releases the leading pages of `range` that the caller can own, and returns how many. `taken` is a
    /// buffer for their words.
    fn release_run(&self, range: PageRange, taken: &mut Vec<Word>) -> Result<usize, SysError> {
        taken.clear();
        for page in range.iter() {
            match self.core.table.begin_release(page) {
                Release::Empty => taken.push(Word::EMPTY),
                Release::Taken(was) => taken.push(was),
                Release::Busy => break,
            }
        }
        let run = PageRange::new(range.start.0, range.start.0 + taken.len());
        // One punch for neighbours. The caller does not own an empty page: another thread may be filling it,
        // so a punch must not reach it.
        let mut result = Ok(());
        let mut start = run.start.0;
        let alike = |a: &Word, b: &Word| (a.state() == State::Empty) == (b.state() == State::Empty);
        for group in taken.chunk_by(alike) {
            let pages = PageRange::new(start, start + group.len());
            start = pages.end.0;
            let in_memory = group.iter().any(|word| word.state().in_memory());
            let punched = if in_memory { self.core.backing.discard(pages) } else { Ok(()) };
            for (page, &was) in pages.iter().zip(group) {
                result = result.and(self.release_taken(page, was, punched));
            }
        }
        result.map(|()| run.pages())
    }

    /// Ends the release of a page that the caller owns and, if it was in memory, has punched. If the kernel
    /// refuses, the page is as before: an empty page would read as zeros.
    fn release_taken(
        &self,
        page: PageIndex,
        was: Word,
        punched: Result<(), SysError>,
    ) -> Result<(), SysError> {
        let result = match was.state() {
            State::Empty => return Ok(()),
            State::Stored => {
                self.core.store.free(was.handle());
                Ok(())
            }
            State::Lost => self.core.backing.heal(page),
            _ => punched,
        };
        let waiters = match result {
            Ok(()) => self.core.table.finish_release(page, was),
            Err(_) => self.core.table.abort_release(page, was),
        };
        self.wake(page.only(), waiters);
        result
    }
}
