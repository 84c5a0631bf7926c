//! The page table: a word per page, and its legal edges.
//!
//! Sampler, evictor, faults and the allocator meet here and nowhere else. Each edge of the state
//! machine ([`State`]) is a method; whoever's compare-and-swap wins has made the step, everybody
//! else looks again.
//!
//! # Orderings
//!
//! A word is changed with `AcqRel` and read with `Acquire`: what was written before a step (the
//! bytes in the store, the memory punched) is seen by whoever sees the step. Counters beside the
//! words are statistics and `Relaxed`.

mod pins;
mod waiter_log;
mod word;

pub(crate) use pins::Pins;
pub(crate) use waiter_log::{PLACES, WaiterSample};
pub(crate) use word::{State, Word};

use crate::prim::sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering, thread};
use crate::prim::{Handle, PageIndex, PageRange, REGION_PAGES, Tick};
use crate::sys::backing::Backing;
use crate::sys::memory::LazySlice;
use crate::sys::{SysError, futex};
use crossbeam::utils::CachePadded;
use std::time::Duration;
use waiter_log::WaiterLog;

/// The budget is twelve bytes a page for everything that is kept of pages one by one.
const _: () = {
    let table = REGION_PAGES * size_of::<AtomicU64>() + size_of::<AtomicU32>();
    assert!(table <= 12 * REGION_PAGES);
};

/// Whether somebody met the page while it was owned, and has to be woken by who owned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a waiter that nobody wakes sleeps for ever"]
pub(crate) struct Waiters(pub(crate) bool);

/// What came of an attempt to take a page in order to release it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// The page was empty already.
    Empty,
    /// Somebody else owns it for a short time: ask again.
    Busy,
    /// It is the caller's, who must [`PageTable::finish_release`] it. The word is as it was.
    Taken(Word),
}

/// The words of all pages of an arena.
///
/// Eight bytes a page, four a region, and four for each page near one that is pinned; memory is
/// taken only for what has been used.
#[derive(Debug)]
pub(crate) struct PageTable {
    words: LazySlice<AtomicU64>,
    in_memory: LazySlice<AtomicU32>,
    pins: Pins,
    waited: WaiterLog,
    resident: CachePadded<AtomicUsize>,
    stored: CachePadded<AtomicUsize>,
    lost: AtomicUsize,
    extent: CachePadded<AtomicUsize>,
    now: CachePadded<AtomicU32>,
}

impl PageTable {
    /// A table of `pages` empty pages.
    pub(crate) fn new(pages: usize) -> Result<Self, SysError> {
        Ok(Self {
            words: LazySlice::new(pages)?,
            in_memory: LazySlice::new(pages.div_ceil(REGION_PAGES))?,
            pins: Pins::new(pages)?,
            waited: WaiterLog::default(),
            resident: CachePadded::new(AtomicUsize::new(0)),
            stored: CachePadded::new(AtomicUsize::new(0)),
            lost: AtomicUsize::new(0),
            extent: CachePadded::new(AtomicUsize::new(0)),
            now: CachePadded::new(AtomicU32::new(0)),
        })
    }

    /// All pages of the arena.
    pub(crate) fn all(&self) -> PageRange {
        PageRange::new(0, self.words.len())
    }

    /// The pages up to the last one that was ever in use.
    pub(crate) fn extent(&self) -> PageRange {
        PageRange::new(0, self.extent.load(Ordering::Acquire))
    }

    /// How many pages of a region hold memory, without looking at their words.
    pub(crate) fn memory_of(&self, region: usize) -> usize {
        self.in_memory[region].load(Ordering::Relaxed) as usize
    }

    /// Pages that hold memory.
    pub(crate) fn resident(&self) -> usize {
        self.resident.load(Ordering::Relaxed)
    }

    /// Pages that the store holds instead.
    pub(crate) fn stored(&self) -> usize {
        self.stored.load(Ordering::Relaxed)
    }

    /// Pages whose bytes could not be given back.
    pub(crate) fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }

    /// The arena's time, which the evictor keeps.
    pub(crate) fn now(&self) -> Tick {
        Tick::new(u64::from(self.now.load(Ordering::Relaxed)))
    }

    pub(crate) fn set_now(&self, now: Tick) {
        self.now.store(now.raw(), Ordering::Relaxed);
    }

    pub(crate) fn load(&self, page: PageIndex) -> Word {
        Word::from_raw(self.words[page.0].load(Ordering::Acquire))
    }

    /// Makes the step from exactly `seen` to `next`, or says what was found instead.
    fn step(&self, page: PageIndex, seen: Word, next: Word) -> Result<(), Word> {
        self.words[page.0]
            .compare_exchange(seen.raw(), next.raw(), Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(Word::from_raw)
    }

    /// Leaves a state that the caller owns, in which others change nothing but the waiting bit.
    fn leave(&self, page: PageIndex, from: State, next: Word) -> Waiters {
        let left = Word::from_raw(self.words[page.0].swap(next.raw(), Ordering::AcqRel));
        debug_assert_eq!(left.state(), from, "{page:?} was {left:?}");
        Waiters(left.waiting())
    }

    fn count_in(&self, page: PageIndex) {
        self.resident.fetch_add(1, Ordering::Relaxed);
        self.in_memory[page.0 / REGION_PAGES].fetch_add(1, Ordering::Relaxed);
    }

    fn count_out(&self, page: PageIndex) {
        self.resident.fetch_sub(1, Ordering::Relaxed);
        self.in_memory[page.0 / REGION_PAGES].fetch_sub(1, Ordering::Relaxed);
    }

    // Faults, prefetch and the allocator.

    /// `Empty` or `Stored` to `Filling`: the caller owns the page and brings it back.
    pub(crate) fn begin_fill(&self, page: PageIndex, seen: Word) -> Result<(), Word> {
        debug_assert!(matches!(seen.state(), State::Empty | State::Stored));
        // First, because a toucher goes on before the page is said to be filled, and may free it.
        if self.extent.load(Ordering::Relaxed) <= page.0 {
            self.extent.fetch_max(page.0 + 1, Ordering::AcqRel);
        }
        self.step(page, seen, seen.with_state(State::Filling))
    }

    /// `Filling` to `Resident`: the page is there.
    pub(crate) fn finish_fill(&self, page: PageIndex, was: Word) -> Waiters {
        self.count_in(page);
        if was.state() == State::Stored {
            self.stored.fetch_sub(1, Ordering::Relaxed);
        }
        self.leave(page, State::Filling, Word::resident(self.now()))
    }

    /// `Filling` back to what it was: it could not be brought back now.
    pub(crate) fn abort_fill(&self, page: PageIndex, was: Word) -> Waiters {
        debug_assert!(matches!(was.state(), State::Empty | State::Stored));
        self.leave(page, State::Filling, was)
    }

    /// `Filling` to `Lost`: its bytes are gone for good.
    pub(crate) fn lose(&self, page: PageIndex, was: Word) -> Waiters {
        if was.state() == State::Stored {
            self.stored.fetch_sub(1, Ordering::Relaxed);
        }
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.leave(page, State::Filling, Word::lost())
    }

    /// `Resident` or `Claimed` to `Filling`: the caller gives a toucher access to the page.
    ///
    /// The page is owned for as long as its protection is being lifted. Otherwise the evictor could
    /// claim it after this thread looked, rely on the protection, and have it lifted under it.
    pub(crate) fn begin_lift(&self, page: PageIndex, seen: Word) -> Result<(), Word> {
        debug_assert!(matches!(seen.state(), State::Resident | State::Claimed));
        self.step(page, seen, seen.with_state(State::Filling))
    }

    /// `Filling` to `Resident`: the toucher has access. An evictor who had claimed the page finds
    /// out.
    pub(crate) fn finish_lift(&self, page: PageIndex, was: Word) -> Waiters {
        let next = was.with_state(State::Resident).with_tick(self.now());
        self.leave(page, State::Filling, next)
    }

    /// Notes that the resident page was touched now.
    pub(crate) fn touch(&self, page: PageIndex) {
        let now = self.now();
        let mut seen = self.load(page);
        while seen.state() == State::Resident && seen.tick() != now {
            match self.step(page, seen, seen.with_tick(now)) {
                Ok(()) => return,
                Err(found) => seen = found,
            }
        }
    }

    /// Leaves word in a `Filling` or `Dropping` page that its owner has to wake somebody.
    pub(crate) fn ask_to_be_woken(&self, page: PageIndex, seen: Word) -> Result<(), Word> {
        debug_assert!(matches!(seen.state(), State::Filling | State::Dropping));
        if !seen.waiting() {
            self.step(page, seen, seen.with_waiting())?;
        }
        self.waited.note(page);
        Ok(())
    }

    /// Waits until the owner of a `Filling` or `Dropping` page leaves it. May return early.
    ///
    /// Looks at the word for some microseconds, which is what filling takes, then sleeps.
    pub(crate) fn wait(&self, page: PageIndex) {
        /// About five microseconds of `pause` on the processors of this decade.
        const LOOKS: u32 = if cfg!(thermocline_sim) { 1 } else { 128 };
        /// Nobody forgets to wake; but a thread that sleeps for ever is too high a price for it.
        const LONGEST: Duration = Duration::from_millis(100);
        for _ in 0..LOOKS {
            if !matches!(self.load(page).state(), State::Dropping | State::Filling) {
                return;
            }
            std::hint::spin_loop();
        }
        let seen = self.load(page);
        let owned = matches!(seen.state(), State::Dropping | State::Filling);
        if owned && self.ask_to_be_woken(page, seen).is_ok() {
            // The state and the waiting bit are in the low half.
            #[expect(clippy::cast_possible_truncation, reason = "the half that is slept on")]
            let low = seen.with_waiting().raw() as u32;
            futex::wait(&self.words[page.0], low, LONGEST);
        }
    }

    /// Wakes those who wait for a page of `range`: in a fault of theirs, or on its word.
    pub(crate) fn wake(&self, backing: &Backing, range: PageRange) -> Result<(), SysError> {
        self.waited.forget(range);
        range.iter().for_each(|page| futex::wake_all(&self.words[page.0]));
        backing.wake(range)
    }

    /// The pages that are to stay in memory.
    pub(crate) fn pins(&self) -> &Pins {
        &self.pins
    }

    // The evictor.

    /// `Resident` to `Claimed`, if the word is still what it was when the page was chosen.
    pub(crate) fn claim(&self, page: PageIndex, seen: Word) -> Result<(), Word> {
        debug_assert!(seen.state() == State::Resident && !seen.is_engaged());
        self.step(page, seen, seen.with_state(State::Claimed).with_engaged(true))
    }

    /// Ends the evictor's business with a page that it has claimed and not dropped. The page is
    /// resident again, with `change` made to its word if nobody had taken it back.
    pub(crate) fn disengage(&self, page: PageIndex, change: impl Fn(Word) -> Word) {
        loop {
            let seen = self.load(page);
            let next = match seen.state() {
                State::Claimed => change(seen.with_state(State::Resident)),
                State::Resident => seen,
                // Access is being given to a toucher, which takes a moment.
                _ => {
                    debug_assert_eq!(seen.state(), State::Filling);
                    thread::yield_now();
                    continue;
                }
            };
            if self.step(page, seen, next.with_engaged(false)).is_ok() {
                return;
            }
        }
    }

    /// `Lost` to `Filling`: the caller makes sure that a toucher learns of it.
    pub(crate) fn begin_repoison(&self, page: PageIndex, seen: Word) -> Result<(), Word> {
        debug_assert_eq!(seen.state(), State::Lost);
        self.step(page, seen, seen.with_state(State::Filling))
    }

    /// `Filling` back to `Lost`.
    pub(crate) fn finish_repoison(&self, page: PageIndex) -> Waiters {
        self.leave(page, State::Filling, Word::lost())
    }

    /// `Claimed` to `Dropping`: the copy is in the store; false if the page was taken back.
    pub(crate) fn publish(&self, page: PageIndex, handle: Handle) -> bool {
        let seen = self.load(page);
        seen.state() == State::Claimed
            && self.step(page, seen, seen.with_state(State::Dropping).with_handle(handle)).is_ok()
    }

    /// `Dropping` to `Stored`: the old page is punched.
    pub(crate) fn finish_drop(&self, page: PageIndex) -> Waiters {
        self.count_out(page);
        self.stored.fetch_add(1, Ordering::Relaxed);
        let seen = self.load(page);
        self.leave(page, State::Dropping, seen.with_state(State::Stored))
    }

    /// `Dropping` to `Resident`: the page could not be punched and is as good as ever.
    pub(crate) fn abort_drop(&self, page: PageIndex) -> Waiters {
        self.leave(page, State::Dropping, Word::resident(self.now()).with_failure(self.now()))
    }

    // The allocator.

    /// Takes the page in order to release it: to `Filling`, from any state in which nobody else is
    /// at work on it.
    ///
    /// A page that the evictor has claimed has to wait until the evictor is done with it, even if
    /// it was taken back: he may be about to lock it in memory, which would put a new page where
    /// one has just been released.
    pub(crate) fn begin_release(&self, page: PageIndex) -> Release {
        let mut seen = self.load(page);
        loop {
            match seen.state() {
                State::Empty => return Release::Empty,
                State::Claimed | State::Dropping | State::Filling => return Release::Busy,
                State::Resident if seen.is_engaged() => return Release::Busy,
                State::Resident | State::Stored | State::Lost => {
                    match self.step(page, seen, seen.with_state(State::Filling)) {
                        Ok(()) => return Release::Taken(seen),
                        Err(found) => seen = found,
                    }
                }
            }
        }
    }

    /// `Filling` to `Empty`: the page, which was `was`, is released.
    pub(crate) fn finish_release(&self, page: PageIndex, was: Word) -> Waiters {
        match was.state() {
            State::Stored => drop(self.stored.fetch_sub(1, Ordering::Relaxed)),
            State::Lost => drop(self.lost.fetch_sub(1, Ordering::Relaxed)),
            _ => self.count_out(page),
        }
        self.leave(page, State::Filling, Word::EMPTY)
    }

    /// `Filling` back to `was`, a page in memory or a lost one: it could not be released.
    pub(crate) fn abort_release(&self, page: PageIndex, was: Word) -> Waiters {
        debug_assert!(matches!(was.state(), State::Resident | State::Lost));
        self.leave(page, State::Filling, was)
    }

    /// Checks the sums against the words. Holds only while nothing else is going on.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (mut resident, mut stored, mut lost) = (0, 0, 0);
        let extent = self.extent();
        for region in extent.chunks(REGION_PAGES) {
            let mut here = 0;
            for page in region.iter() {
                let word = self.load(page);
                match word.state() {
                    State::Empty => {}
                    State::Resident if word.is_engaged() => {
                        return Err(format!("{page:?} is engaged with nobody at work"));
                    }
                    State::Resident => here += 1,
                    State::Stored => stored += 1,
                    State::Lost => lost += 1,
                    owned => return Err(format!("{page:?} is {owned:?} with nobody at work")),
                }
                if word.waiting() {
                    return Err(format!("{page:?} has a waiter in {word:?}"));
                }
            }
            let counted = self.in_memory[region.start.0 / REGION_PAGES].load(Ordering::Relaxed);
            if counted as usize != here {
                return Err(format!("{region:?}: {counted} pages counted in memory, {here} are"));
            }
            resident += here;
        }
        let sums = (self.resident(), self.stored(), self.lost());
        if sums == (resident, stored, lost) {
            Ok(())
        } else {
            Err(format!("counted {sums:?}, found {:?}", (resident, stored, lost)))
        }
    }
}

#[cfg(test)]
mod tests;
