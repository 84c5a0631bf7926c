//! Reclaim: giving free memory back to the system.
//!
//! The heap gives back dirty runs, and holes: pages without a used slot in spans that are in use
//! (span.rs). It gives back all of them at once in [`Heap::trim`], and idle ones in [`Heap::tick`]. In this
//! room a *tick* is such a call, which the evictor makes at each of its cycles, and an *epoch* is 32 ms
//! (clock.rs). These two are not the ticks of ages.
//!
//! # Holes
//!
//! A *sweep* searches each span that may have holes once. A tick begins a sweep, at most once an epoch.
//! The sweep defers spans with a slot allocated since the last search. It works in steps of bounded
//! length.
//!
//! No thread holds a bin's lock while it calls a pager. Until the pager returns, the span is in none of the
//! bin's lists, so that no thread allocates a slot in a hole.

use super::bin::Holes;
use super::boundary::Run;
use super::map::BINS;
use super::pages::PageHeap;
use super::set::{Mask, PageSet};
use super::{Heap, cache, lock, try_lock};
use crate::prim::PAGE_SIZE;
use crate::prim::in_library::InLibraryGuard;
use crate::prim::sync::plain::Ordering;
use crate::sys::{SysError, event};
use std::sync::{Arc, MutexGuard};

/// How far the sweep for holes has come.
#[derive(Debug)]
pub(super) struct Sweep {
    /// The epoch in which it began.
    epoch: u64,
    /// The current bin; [`BINS`] if no sweep is under way.
    bin: usize,
    /// Candidates of that bin that it has not searched yet.
    candidates_left: usize,
}

impl Default for Sweep {
    fn default() -> Self {
        Self { epoch: 0, bin: BINS, candidates_left: 0 }
    }
}

/// The cost at which a step of a sweep ends, about a millisecond. The unit is the search of one span.
const STEP_COST: usize = 5000;

/// The cost of a call that releases pages, without its pages.
const CALL_COST: usize = 15;
/// The cost of each page that a call releases.
const PAGE_COST: usize = 3;

/// The most spans to search while a bin is locked.
const MAX_SEARCHED: usize = 256;

/// The outcome of releasing holes.
#[derive(Clone, Copy, Debug, Default)]
struct Released {
    /// In the unit of [`STEP_COST`].
    cost: usize,
    /// Pages that were in memory.
    resident: usize,
    /// Whether the system refused a call.
    refused: bool,
}

impl Heap {
    /// Releases the dirty pages that no allocation needed for an epoch, and those above the limit.
    pub(super) fn release_excess(&self, mut pages: MutexGuard<'_, PageHeap>) {
        let unneeded = if pages.is_clock_due() { pages.set_epoch(self.clock.epoch()) } else { 0 };
        let most = self.options.most_dirty + (self.total - pages.free()) / 4;
        let excess = unneeded.max(pages.dirty().saturating_sub(most));
        drop(pages);
        if excess > 0
            // If another thread reclaims already, the next call releases the rest.
            && let Some(reclaiming) = try_lock(&self.reclaiming)
        {
            self.release_dirty_locked(excess, &reclaiming);
        }
    }

    /// Releases dirty pages; false if the system refused, so that they stay dirty.
    fn release_run(&self, run: Run) -> bool {
        let released = self.pager.release(run.range);
        let mut pages = self.pages();
        match released {
            Ok(()) => pages.give_clean(run),
            Err(e) => {
                pages.give_dirty(run);
                drop(pages);
                report_refusal(&e);
                return false;
            }
        }
        true
    }

    /// Releases all dirty pages, unless another thread reclaims.
    pub(crate) fn release_dirty(&self) {
        if let Some(reclaiming) = try_lock(&self.reclaiming) {
            self.release_dirty_locked(usize::MAX, &reclaiming);
        }
    }

    /// Releases at most `most` dirty pages, and returns how many of them were in memory.
    fn release_dirty_locked(&self, most: usize, _: &MutexGuard<'_, Sweep>) -> usize {
        let (mut left, mut released) = (most, 0);
        loop {
            let run = self.pages().take_dirty(left);
            let Some(run) = run else {
                return released;
            };
            let resident = self.pager.resident(run.range);
            if !self.release_run(run) {
                return released;
            }
            left -= run.range.pages();
            released += resident;
        }
    }

    /// Releases memory that was free for a while. The evictor calls it regularly. Returns whether
    /// [`sweep`](Self::sweep) has work left.
    pub(crate) fn tick(&self) -> bool {
        // Not a blocking lock: its holder may wait for memory that the caller is about to free.
        let Some(mut reclaiming) = try_lock(&self.reclaiming) else {
            return false;
        };
        for bin in &self.bins {
            let (mut emptied, mut held) = (Vec::new(), lock(bin));
            held.tick(&self.map, &mut emptied);
            let lane = held.lane();
            drop(held);
            self.give_spans(lane, &emptied);
        }
        self.release_idle_blocks();
        let epoch = self.clock.epoch();
        let unneeded = self.pages().set_epoch(epoch);
        self.release_dirty_locked(unneeded, &reclaiming);
        if reclaiming.bin == BINS && reclaiming.epoch != epoch {
            *reclaiming = Sweep { epoch, bin: 0, candidates_left: self.bin(0).candidates() };
        }
        self.continue_sweep(&mut reclaiming)
    }

    /// Works for about a millisecond on the sweep that a tick began. Returns whether it has work left.
    pub(crate) fn sweep(&self) -> bool {
        try_lock(&self.reclaiming)
            .is_some_and(|mut reclaiming| self.continue_sweep(&mut reclaiming))
    }

    fn continue_sweep(&self, sweep: &mut Sweep) -> bool {
        let mut cost = 0;
        while sweep.bin < BINS {
            if cost >= STEP_COST {
                return true;
            }
            if sweep.candidates_left == 0 {
                sweep.bin += 1;
                let next = self.bins.get(sweep.bin);
                sweep.candidates_left = next.map_or(0, |bin| lock(bin).candidates());
                continue;
            }
            let released = self.release_holes(sweep.bin, &mut sweep.candidates_left, true);
            cost += released.cost;
            if released.refused {
                // The next sweep tries again.
                sweep.bin = BINS;
            }
        }
        false
    }

    /// Searches candidates of a bin up to the first that has holes, and releases these. Subtracts the
    /// candidates searched from `left`.
    fn release_holes(&self, bin: usize, left: &mut usize, idle_only: bool) -> Released {
        let (searched, found) = self.bin(bin).begin_release(MAX_SEARCHED.min(*left), idle_only);
        *left -= searched;
        let mut released = Released { cost: searched, ..Released::default() };
        if let Some(holes) = found {
            let done = self.release_set(holes.pages, &mut released);
            self.finish_release(bin, holes, done);
        }
        released
    }

    /// Releases pages, and returns which: not all if the system refuses a call.
    fn release_set(&self, pages: PageSet, released: &mut Released) -> Mask {
        let mut done = Mask::NONE;
        for run in pages.runs() {
            let resident = self.pager.resident(run);
            if let Err(e) = self.pager.release(run) {
                report_refusal(&e);
                released.refused = true;
                break;
            }
            done |= pages.mask_of(run);
            released.resident += resident;
            released.cost += CALL_COST + PAGE_COST * run.pages();
        }
        done
    }

    fn finish_release(&self, bin: usize, holes: Holes, done: Mask) {
        let mut emptied = Vec::new();
        let lane = {
            let mut held = self.bin(bin);
            held.finish_release(holes, done, &self.map, &mut emptied);
            held.lane()
        };
        self.give_spans(lane, &emptied);
    }

    /// Releases all holes, and returns how many of the pages were in memory.
    fn release_all_holes_locked(&self, _: &MutexGuard<'_, Sweep>) -> usize {
        let mut resident = 0;
        for bin in 0..BINS {
            let mut left = self.bin(bin).candidates();
            while left > 0 {
                let released = self.release_holes(bin, &mut left, false);
                resident += released.resident;
                if released.refused {
                    return resident;
                }
            }
        }
        resident
    }

    /// Frees the large blocks that threads have cached since the last tick.
    fn release_idle_blocks(&self) {
        // Under the lock, so that statistics count each block once. Pages that were evicted since the
        // block was freed are forgotten when they are released.
        let caches = lock(&self.caches);
        for block in caches.iter().flat_map(|cache| cache.take_idle_blocks()) {
            self.pages().free_block(block.start);
        }
    }

    /// Gives back all free memory, and returns how many bytes that was. The other threads flush their
    /// caches when they next find them empty or full.
    pub(crate) fn trim(self: &Arc<Self>) -> usize {
        let _in_library = InLibraryGuard::enter();
        let reclaiming = lock(&self.reclaiming);
        self.flush_caches();
        // Holes first: a span whose last slot is freed meanwhile becomes dirty pages.
        let holes = self.release_all_holes_locked(&reclaiming);
        (holes + self.release_dirty_locked(usize::MAX, &reclaiming)) * PAGE_SIZE
    }

    /// Merges free pages, for an allocation that found no room. Does not release holes, because their
    /// slots can be allocated anyway.
    pub(super) fn make_room_locked(self: &Arc<Self>, reclaiming: &MutexGuard<'_, Sweep>) {
        self.flush_caches();
        self.release_dirty_locked(usize::MAX, reclaiming);
    }

    /// Flushes this thread's cache and trims the bins, and asks the other threads to flush theirs.
    fn flush_caches(self: &Arc<Self>) {
        self.trim_requests.fetch_add(1, Ordering::Relaxed);
        let _ = cache::with(self, |cache| self.flush_if_trimmed(cache));
        for bin in &self.bins {
            let (mut emptied, mut held) = (Vec::new(), lock(bin));
            held.trim(&self.map, &mut emptied);
            let lane = held.lane();
            drop(held);
            self.give_spans(lane, &emptied);
        }
    }
}

fn report_refusal(e: &SysError) {
    // A fuzz target refuses all the time.
    if !cfg!(fuzzing) {
        event::report(format_args!("freed memory cannot be given back: {e:#}"));
    }
}
