//! Runs of pages: put in place, given anew, or released.

use super::Resolver;
use crate::prim::sync::thread;
use crate::prim::{PAGE_SIZE, PageIndex, PageRange};
use crate::sys::signals::SignalsBlocked;
use crate::sys::uffd::Outcome;
use crate::sys::{SysError, event};
use crate::table::{Release, State, Waiters, Word};
use std::fmt;
use std::time::Duration;

/// Pages that are given anew or released while signals are blocked, at most.
const STRETCH: usize = 512;

/// Why pages could not be put in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FillError {
    /// The kernel had no memory for them, for a long time.
    NoMemory,
    /// The kernel refused.
    Sys(SysError),
}

impl fmt::Display for FillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("the kernel has no memory for the page"),
            Self::Sys(e) => e.fmt(f),
        }
    }
}

/// What is to be put in place.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    Zeros,
    Bytes(&'a [u8]),
    /// Nobody is woken.
    BytesQuietly(&'a [u8]),
}

impl Resolver {
    /// Puts pages into `range`, all of which the caller owns, and says how many of them are there
    /// and what stopped it. Wakes those who wait in the kernel, as the content says.
    pub(super) fn install(
        &self,
        range: PageRange,
        content: Content<'_>,
    ) -> (usize, Option<FillError>) {
        /// With these pauses the kernel has about five seconds to find memory.
        const PAUSE: Duration = Duration::from_millis(2);
        const PAUSES: u32 = 2500;
        let mut left = range;
        let (mut pauses, mut strays) = (0, 0);
        // One call must stay within one mapping, and the program may have cut ours to pieces
        // (mlock, mprotect, madvise on a part of it). Then the runs become shorter.
        let mut most = range.pages();
        let stopped = loop {
            if left.is_empty() {
                break None;
            }
            let run = PageRange::new(left.start.0, left.end.0.min(left.start.0 + most));
            let outcome = match content {
                Content::Zeros => self.backing.zero_fill(run),
                Content::Bytes(bytes) | Content::BytesQuietly(bytes) => {
                    let done = range.bytes() - left.bytes();
                    let wake = matches!(content, Content::Bytes(_));
                    self.backing.fill(run, &bytes[done..done + run.bytes()], wake)
                }
            };
            match outcome {
                Ok(Outcome::Done) => left.start = run.end,
                Ok(Outcome::Partial(bytes)) => left.start.0 += bytes / PAGE_SIZE,
                Ok(Outcome::Again) => thread::yield_now(),
                Ok(Outcome::Exists) if matches!(content, Content::Zeros) => {
                    // A page that got here by any other way than ours began as zeros, and what it
                    // holds besides was written by the application. Nobody was woken by it.
                    self.wake(left.start.only(), Waiters(true));
                    left.start.0 += 1;
                }
                Ok(Outcome::Exists) if strays < 3 => {
                    // The old page was punched before the word said Stored, so this one holds
                    // nothing but zeros. The store has the truth.
                    strays += 1;
                    self.counters.fill_retries.add(1);
                    if let Err(e) = self.backing.memory().punch(left.start.only()) {
                        break Some(FillError::Sys(e));
                    }
                }
                Ok(Outcome::NoMemory) if pauses < PAUSES => {
                    pauses += 1;
                    self.counters.fill_retries.add(1);
                    thread::sleep(PAUSE);
                }
                Ok(Outcome::NoMemory) => break Some(FillError::NoMemory),
                Ok(Outcome::Exists) => {
                    break Some(FillError::Sys(SysError::page_exists("ioctl(UFFDIO_COPY)")));
                }
                Ok(Outcome::Gone) if run.pages() > 1 => most = run.pages().div_ceil(2),
                Ok(Outcome::Gone) => {
                    break Some(FillError::Sys(SysError::range_gone("ioctl(UFFDIO_COPY)")));
                }
                Err(e) => break Some(FillError::Sys(e)),
            }
        };
        (left.start.0 - range.start.0, stopped)
    }

    /// Gives up a page that the caller has taken: whoever touches it gets SIGBUS.
    pub(super) fn lose(&self, page: PageIndex, was: Word, why: &dyn fmt::Display) {
        event::report(format_args!("page {} of an arena is lost: {why:#}", page.0));
        if was.state() == State::Stored {
            self.store.free(was.handle());
        }
        // Poison first: it keeps the next toucher from seeing a missing page that is not ours.
        self.poison(page);
        self.wake(page.only(), self.table.lose(page, was));
    }

    /// Puts zeros into the leading run of empty pages of `range`, and says how many there are and
    /// what stopped it.
    pub(super) fn zero_run(&self, range: PageRange) -> (usize, Option<FillError>) {
        let mut end = range.start;
        for page in range.iter() {
            if self.table.begin_fill(page, Word::EMPTY).is_err() {
                break;
            }
            end = PageIndex(page.0 + 1);
        }
        let run = PageRange { start: range.start, end };
        let (done, stopped) = self.install(run, Content::Zeros);
        for (i, page) in run.iter().enumerate() {
            let waiters = if i < done {
                self.table.finish_fill(page, Word::EMPTY)
            } else {
                self.table.abort_fill(page, Word::EMPTY)
            };
            self.wake(page.only(), waiters);
        }
        (done, stopped)
    }

    /// Gives memory to the empty pages of `range`, so that their first touch is no fault.
    pub(crate) fn populate(&self, range: PageRange) -> Result<(), FillError> {
        let is_empty = |page: &PageIndex| self.table.load(*page) == Word::EMPTY;
        let mut left = range;
        // A page that is not empty needs nothing.
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

    /// Makes every page of `range` empty and gives its memory, or its place in the store, back.
    ///
    /// The pages must be the caller's to free: whoever still touches them reads zeros.
    pub(crate) fn release(&self, range: PageRange) -> Result<(), SysError> {
        // Pages that nobody ever had are empty.
        let range = range.intersection(self.table.extent());
        let mut taken = Vec::with_capacity(range.pages().min(STRETCH));
        for stretch in range.chunks(STRETCH) {
            let mut left = stretch;
            while !left.is_empty() {
                let blocked = SignalsBlocked::new();
                let released = self.release_run(left, &mut taken)?;
                drop(blocked);
                left.start.0 += released;
                if released == 0 {
                    // Somebody else owns the page, and for a short time only.
                    thread::yield_now();
                }
            }
        }
        Ok(())
    }

    /// Makes those pages of `range` empty whose bytes are in the store, or lost. They must be the
    /// caller's to free.
    pub(crate) fn forget(&self, range: PageRange) -> Result<(), SysError> {
        let range = range.intersection(self.table.extent());
        let is_away =
            |page: PageIndex| matches!(self.table.load(page).state(), State::Stored | State::Lost);
        let mut left = range;
        while let Some(start) = left.iter().find(|page| is_away(*page)) {
            let end = (start.0..left.end.0).find(|page| !is_away(PageIndex(*page)));
            let run = PageRange { start, end: end.map_or(left.end, PageIndex) };
            self.release(run)?;
            left.start = run.end;
        }
        Ok(())
    }

    /// Releases the leading pages of `range` that nobody else owns, and says how many. Room for
    /// what they were is in `taken`.
    fn release_run(&self, range: PageRange, taken: &mut Vec<Word>) -> Result<usize, SysError> {
        taken.clear();
        for page in range.iter() {
            match self.table.begin_release(page) {
                Release::Empty => taken.push(Word::EMPTY),
                Release::Taken(was) => taken.push(was),
                Release::Busy => break,
            }
        }
        let run = PageRange::new(range.start.0, range.start.0 + taken.len());
        // Neighbours together. What was empty is not ours, and may just be getting a page that must
        // not be dropped with them.
        let mut result = Ok(());
        let mut start = run.start.0;
        let alike = |a: &Word, b: &Word| (a.state() == State::Empty) == (b.state() == State::Empty);
        for group in taken.chunk_by(alike) {
            let pages = PageRange::new(start, start + group.len());
            start = pages.end.0;
            let in_memory = group.iter().any(|word| word.state().in_memory());
            let punched = if in_memory { self.backing.memory().punch(pages) } else { Ok(()) };
            for (page, &was) in pages.iter().zip(group) {
                result = result.and(self.release_taken(page, was, punched));
            }
        }
        result.map(|()| run.pages())
    }

    /// Makes a page empty that was taken in order to be, and, if it was in memory, punched. A page
    /// that could not be is what it was: an empty one would be taken for zeros.
    fn release_taken(
        &self,
        page: PageIndex,
        was: Word,
        punched: Result<(), SysError>,
    ) -> Result<(), SysError> {
        let gone = match was.state() {
            State::Empty => return Ok(()),
            State::Stored => {
                self.store.free(was.handle());
                Ok(())
            }
            State::Lost => self.backing.heal(page),
            _ => punched,
        };
        let waiters = match gone {
            Ok(()) => self.table.finish_release(page, was),
            Err(_) => self.table.abort_release(page, was),
        };
        self.wake(page.only(), waiters);
        gone
    }
}
