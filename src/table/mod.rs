//! The page table: a word per page, and its legal steps.
//!
//! The evictor, the fault path and the allocator agree about a page only by its word. Each step of the state
//! machine ([`State`]) is a method. A thread whose compare-and-swap fails reads the word again.
//!
//! # Orderings
//!
//! A step is an `AcqRel` operation, and a load is `Acquire`: a thread that sees a step sees the writes before
//! it (the bytes in the store, the punched memory). The counters beside the words are statistics and
//! `Relaxed`.

mod pins;
mod waiter_log;
mod word;

pub(crate) use pins::Pins;
pub(crate) use waiter_log::{WAITER_LOG_ENTRIES, WaiterSample};
pub(crate) use word::{State, Word};

use crate::prim::sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering, thread};
use crate::prim::{Handle, PageIndex, PageRange, REGION_PAGES, Tick};
use crate::sys::backing::Backing;
use crate::sys::memory::LazySlice;
use crate::sys::{SysError, futex};
use crossbeam::utils::CachePadded;
use std::time::Duration;
use waiter_log::WaiterLog;

/// Regions in a group: 1 GiB.
pub(crate) const GROUP_REGIONS: usize = 512;

/// The budget of the table is twelve bytes a page.
const _: () = {
    let table = REGION_PAGES * size_of::<AtomicU64>() + size_of::<AtomicU32>();
    assert!(table <= 12 * REGION_PAGES);
};

/// Whether the page that the caller owned has waiters. If so, the caller must wake them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "waiters sleep until the caller wakes them"]
pub(crate) struct Waiters(pub(crate) bool);

/// The outcome of an attempt to own a page in order to release it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// The page is empty already.
    Empty,
    /// The page has another owner, or is in the evictor's batch. The caller must try again soon.
    Busy,
    /// The caller owns the page, and must finish or abort the release. Has the page's word from before.
    Taken(Word),
}

/// The words of all pages of an arena.
///
/// The table takes eight bytes a page, four a region, and four for each page near a pinned one. The memory is
/// reserved lazily.
#[derive(Debug)]
pub(crate) struct PageTable {
    words: LazySlice<AtomicU64>,
    in_memory: LazySlice<AtomicU32>,
    /// For each group whether a region without memory has got some since the evictor last asked.
    grown: LazySlice<AtomicU32>,
    pins: Pins,
    waiter_log: WaiterLog,
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
            grown: LazySlice::new(pages.div_ceil(REGION_PAGES * GROUP_REGIONS))?,
            pins: Pins::new(pages)?,
            waiter_log: WaiterLog::default(),
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

    /// The pages up to the last one that any thread has filled.
    pub(crate) fn extent(&self) -> PageRange {
        PageRange::new(0, self.extent.load(Ordering::Acquire))
    }

    /// How many pages of a region have memory, by a counter.
    pub(crate) fn pages_in_memory(&self, region: usize) -> usize {
        self.in_memory[region].load(Ordering::Relaxed) as usize
    }

    /// Whether a region of the group that had no memory has got some since the last call.
    pub(crate) fn take_grown(&self, group: usize) -> bool {
        let grown = &self.grown[group];
        grown.load(Ordering::Relaxed) != 0 && grown.swap(0, Ordering::Acquire) != 0
    }

    /// Pages that have memory.
    pub(crate) fn resident(&self) -> usize {
        self.resident.load(Ordering::Relaxed)
    }

    /// Pages whose bytes are in the store only.
    pub(crate) fn stored(&self) -> usize {
        self.stored.load(Ordering::Relaxed)
    }

    /// Lost pages.
    pub(crate) fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }

    /// The present tick, which the evictor advances.
    pub(crate) fn now(&self) -> Tick {
        Tick::new(u64::from(self.now.load(Ordering::Relaxed)))
    }

    pub(crate) fn set_now(&self, now: Tick) {
        self.now.store(now.raw(), Ordering::Relaxed);
    }

    pub(crate) fn load(&self, page: PageIndex) -> Word {
        Word::from_raw(self.words[page.0].load(Ordering::Acquire))
    }

    /// Changes the word from `seen` to `next`. If the word is not `seen`, fails with the word found.
    fn step(&self, page: PageIndex, seen: Word, next: Word) -> Result<(), Word> {
        self.words[page.0]
            .compare_exchange(seen.raw(), next.raw(), Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(Word::from_raw)
    }

    /// Leaves `Filling` or `Dropping`. The caller owns the page: other threads only set the waiting bit.
    fn leave(&self, page: PageIndex, from: State, next: Word) -> Waiters {
        let left = Word::from_raw(self.words[page.0].swap(next.raw(), Ordering::AcqRel));
        debug_assert_eq!(left.state(), from, "{page:?} was {left:?}");
        Waiters(left.waiting())
    }

    fn count_in(&self, page: PageIndex) {
        self.resident.fetch_add(1, Ordering::Relaxed);
        let region = page.0 / REGION_PAGES;
        if self.in_memory[region].fetch_add(1, Ordering::Relaxed) == 0 {
            // Release: if the evictor takes this, it sees the count.
            self.grown[region / GROUP_REGIONS].store(1, Ordering::Release);
        }
    }

    fn count_out(&self, page: PageIndex) {
        self.resident.fetch_sub(1, Ordering::Relaxed);
        self.in_memory[page.0 / REGION_PAGES].fetch_sub(1, Ordering::Relaxed);
    }

    // Steps of threads that serve faults, populate or prefetch.

    /// `Empty` or `Stored` to `Filling`: the caller owns the page in order to fill it.
    pub(crate) fn begin_fill(&self, page: PageIndex, seen: Word) -> Result<(), Word> {
        debug_assert!(matches!(seen.state(), State::Empty | State::Stored));
        // The extent grows before the step: once the kernel has filled the page, the faulting thread may go on
        // and free it before `finish_fill`, and a release covers pages below the extent only.
        if self.extent.load(Ordering::Relaxed) <= page.0 {
            self.extent.fetch_max(page.0 + 1, Ordering::AcqRel);
        }
        self.step(page, seen, seen.with_state(State::Filling))
    }

    /// `Filling` to `Resident`: the bytes are in place.
    pub(crate) fn finish_fill(&self, page: PageIndex, was: Word) -> Waiters {
        self.count_in(page);
        if was.state() == State::Stored {
            self.stored.fetch_sub(1, Ordering::Relaxed);
        }
        self.leave(page, State::Filling, Word::resident(self.now()))
    }

    /// `Filling` back to `was`: the page could not be filled now, or was only peeked at.
    pub(crate) fn abort_fill(&self, page: PageIndex, was: Word) -> Waiters {
        debug_assert!(matches!(was.state(), State::Empty | State::Stored));
        self.leave(page, State::Filling, was)
    }

    /// `Filling` to `Lost`: the bytes cannot be restored.
    pub(crate) fn mark_lost(&self, page: PageIndex, was: Word) -> Waiters {
        if was.state() == State::Stored {
            self.stored.fetch_sub(1, Ordering::Relaxed);
        }
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.leave(page, State::Filling, Word::lost())
    }

    /// `Resident` or `Claimed` to `Filling`: the caller owns the page while it lifts the protection.
    ///
    /// Without an owner, the evictor could claim the page after this thread has read the word. This thread
    /// would then lift a protection on which the eviction relies.
    pub(crate) fn begin_unprotect(&self, page: PageIndex, seen: Word) -> Result<(), Word> {
        debug_assert!(matches!(seen.state(), State::Resident | State::Claimed));
        self.step(page, seen, seen.with_state(State::Filling))
    }

    /// `Filling` to `Resident`: the protection is lifted. If the page was claimed, the evictor sees in the
    /// word that its claim has ended.
    pub(crate) fn finish_unprotect(&self, page: PageIndex, was: Word) -> Waiters {
        let next = was.with_state(State::Resident).with_tick(self.now());
        self.leave(page, State::Filling, next)
    }

    /// Sets the page's tick to the present one, if the page is resident.
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

    /// Sets the waiting bit of a `Filling` or `Dropping` page, so that its owner wakes the waiters.
    pub(crate) fn request_wake(&self, page: PageIndex, seen: Word) -> Result<(), Word> {
        debug_assert!(matches!(seen.state(), State::Filling | State::Dropping));
        if !seen.waiting() {
            self.step(page, seen, seen.with_waiting())?;
        }
        self.waiter_log.record(page);
        Ok(())
    }

    /// Waits until the owner of a `Filling` or `Dropping` page leaves it. May return early.
    ///
    /// Polls the word for some microseconds, as long as filling a page takes, then sleeps.
    pub(crate) fn wait(&self, page: PageIndex) {
        /// About five microseconds of `pause` on the processors of this decade.
        const POLLS: u32 = if cfg!(thermocline_sim) { 1 } else { 128 };
        /// Every owner wakes its waiters. The limit keeps a mistake there from hanging a thread for ever.
        const MAX_SLEEP: Duration = Duration::from_millis(100);
        for _ in 0..POLLS {
            if !matches!(self.load(page).state(), State::Dropping | State::Filling) {
                return;
            }
            std::hint::spin_loop();
        }
        let seen = self.load(page);
        let owned = matches!(seen.state(), State::Dropping | State::Filling);
        if owned && self.request_wake(page, seen).is_ok() {
            // The state and the waiting bit are in the low half.
            #[expect(clippy::cast_possible_truncation, reason = "the futex is the low half")]
            let low = seen.with_waiting().raw() as u32;
            futex::wait(&self.words[page.0], low, MAX_SLEEP);
        }
    }

    /// Wakes the waiters of the pages of `range`: those in a page fault, and those on the page words.
    pub(crate) fn wake(&self, backing: &Backing, range: PageRange) -> Result<(), SysError> {
        self.waiter_log.remove(range);
        range.iter().for_each(|page| futex::wake_all(&self.words[page.0]));
        backing.wake(range)
    }

    /// How often each page is pinned.
    pub(crate) fn pins(&self) -> &Pins {
        &self.pins
    }

    // Steps of the evictor.

    /// `Resident` to `Claimed`, if the word is still `seen`. The page is in the evictor's batch.
    pub(crate) fn claim(&self, page: PageIndex, seen: Word) -> Result<(), Word> {
        debug_assert!(seen.state() == State::Resident && !seen.is_in_batch());
        self.step(page, seen, seen.with_state(State::Claimed).with_in_batch(true))
    }

    /// Takes a page that the evictor has claimed and not dropped out of its batch. The page is resident
    /// again, with `change` made to its word unless a fault took it back.
    pub(crate) fn leave_batch(&self, page: PageIndex, change: impl Fn(Word) -> Word) {
        loop {
            let seen = self.load(page);
            let next = match seen.state() {
                State::Claimed => change(seen.with_state(State::Resident)),
                State::Resident => seen,
                // A thread that serves a fault lifts the protection. It is done in microseconds.
                _ => {
                    debug_assert_eq!(seen.state(), State::Filling);
                    thread::yield_now();
                    continue;
                }
            };
            if self.step(page, seen, next.with_in_batch(false)).is_ok() {
                return;
            }
        }
    }

    /// `Lost` to `Filling`: the caller, which serves a fault, owns the page while it renews the poison.
    pub(crate) fn begin_poison(&self, page: PageIndex, seen: Word) -> Result<(), Word> {
        debug_assert_eq!(seen.state(), State::Lost);
        self.step(page, seen, seen.with_state(State::Filling))
    }

    /// `Filling` back to `Lost`.
    pub(crate) fn finish_poison(&self, page: PageIndex) -> Waiters {
        self.leave(page, State::Filling, Word::lost())
    }

    /// `Claimed` to `Dropping`: the copy is in the store. False if a fault took the page back.
    pub(crate) fn publish(&self, page: PageIndex, handle: Handle) -> bool {
        let seen = self.load(page);
        seen.state() == State::Claimed
            && self.step(page, seen, seen.with_state(State::Dropping).with_handle(handle)).is_ok()
    }

    /// `Dropping` to `Stored`: the page is punched.
    pub(crate) fn finish_drop(&self, page: PageIndex) -> Waiters {
        self.count_out(page);
        self.stored.fetch_add(1, Ordering::Relaxed);
        let seen = self.load(page);
        self.leave(page, State::Dropping, seen.with_state(State::Stored))
    }

    /// `Dropping` to `Resident`: the kernel refused the punch, and the memory still has the bytes.
    pub(crate) fn abort_drop(&self, page: PageIndex) -> Waiters {
        self.leave(page, State::Dropping, Word::resident(self.now()).with_failure(self.now()))
    }

    // Steps of a release.

    /// `Resident`, `Stored` or `Lost` to `Filling`: the caller owns the page in order to release it.
    ///
    /// A page in the evictor's batch is busy, even if a fault took it back: the evictor may be about to lock
    /// it in memory, which would put a new page where one has just been released.
    pub(crate) fn begin_release(&self, page: PageIndex) -> Release {
        let mut seen = self.load(page);
        loop {
            match seen.state() {
                State::Empty => return Release::Empty,
                State::Claimed | State::Dropping | State::Filling => return Release::Busy,
                State::Resident if seen.is_in_batch() => return Release::Busy,
                State::Resident | State::Stored | State::Lost => {
                    match self.step(page, seen, seen.with_state(State::Filling)) {
                        Ok(()) => return Release::Taken(seen),
                        Err(found) => seen = found,
                    }
                }
            }
        }
    }

    /// `Filling` to `Empty`: the page, whose word was `was`, is released.
    pub(crate) fn finish_release(&self, page: PageIndex, was: Word) -> Waiters {
        match was.state() {
            State::Stored => drop(self.stored.fetch_sub(1, Ordering::Relaxed)),
            State::Lost => drop(self.lost.fetch_sub(1, Ordering::Relaxed)),
            _ => self.count_out(page),
        }
        self.leave(page, State::Filling, Word::EMPTY)
    }

    /// `Filling` back to `was`, a resident page or a lost one: the kernel refused the release.
    pub(crate) fn abort_release(&self, page: PageIndex, was: Word) -> Waiters {
        debug_assert!(matches!(was.state(), State::Resident | State::Lost));
        self.leave(page, State::Filling, was)
    }

    /// Checks the words, and the counters against the words. The caller makes sure that no thread works on
    /// the arena meanwhile.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (mut resident, mut stored, mut lost) = (0, 0, 0);
        let extent = self.extent();
        for region in extent.chunks(REGION_PAGES) {
            let mut here = 0;
            for page in region.iter() {
                let word = self.load(page);
                match word.state() {
                    State::Empty => {}
                    State::Resident if word.is_in_batch() => {
                        return Err(format!("{page:?} is still in a batch"));
                    }
                    State::Resident => here += 1,
                    State::Stored => stored += 1,
                    State::Lost => lost += 1,
                    owned => return Err(format!("{page:?} is still {owned:?}")),
                }
                if word.waiting() {
                    return Err(format!("{page:?} still has a waiter: {word:?}"));
                }
            }
            let counted = self.in_memory[region.start.0 / REGION_PAGES].load(Ordering::Relaxed);
            if counted as usize != here {
                return Err(format!("{region:?}: {counted} pages counted in memory, found {here}"));
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
