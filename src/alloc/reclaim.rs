//! Giving free memory back to the system.
//!
//! Two kinds of memory go back: pages of free runs that are dirty, and holes, which are pages without a
//! used slot in spans that are in use (span.rs). Both go at once when the program asks for it
//! ([`Heap::trim`]), and by themselves after a while ([`Heap::tick`]).
//!
//! # Holes
//!
//! A *sweep* looks once at each span that may have holes. It begins with a tick, an epoch after the last
//! sweep began at the earliest, and leaves out spans of which slots were handed out since the last look.
//! It goes on in steps of bounded length.
//!
//! No lock is held while a pager is called, so that the slots in a hole must be kept from being handed
//! out in another way: the bin takes the span out of its lists, and puts it back when the pager has
//! returned.

use super::bin::Holes;
use super::map::BINS;
use super::node::Run;
use super::pages::PageHeap;
use super::set::{Mask, PageSet};
use super::{Heap, cache, lock, try_lock};
use crate::prim::PAGE_SIZE;
use crate::prim::in_library::InLibraryGuard;
use crate::prim::sync::plain::Ordering;
use crate::sys::{SysError, event};
use std::sync::{Arc, MutexGuard};

/// Where the sweep for holes goes on.
#[derive(Debug)]
pub(super) struct Sweep {
    /// The epoch in which it began.
    epoch: u64,
    /// The bin that it has come to; there is none when it is over.
    bin: usize,
    /// Spans of that bin that it has not looked at yet.
    left: usize,
}

impl Default for Sweep {
    fn default() -> Self {
        Self { epoch: 0, bin: BINS, left: 0 }
    }
}

/// What a step of a sweep may cost, in the time that a look at a span takes: a millisecond, about.
const STEP: usize = 5000;

/// What a call to release pages costs, and each of the pages.
const CALL: usize = 15;
const PAGE: usize = 3;

/// Spans that are looked at, at most, while a bin is locked.
const LOOKS: usize = 256;

/// What came of releasing holes.
#[derive(Clone, Copy, Debug, Default)]
struct Released {
    /// What it cost, in the unit of [`STEP`].
    cost: usize,
    /// Pages that were in memory.
    resident: usize,
    /// Whether the system did not take all pages back.
    refused: bool,
}

impl Heap {
    /// Releases dirty pages that no allocation has taken for a while, and further ones while there are
    /// more than may be.
    pub(super) fn release_excess(&self, mut pages: MutexGuard<'_, PageHeap>) {
        let spare = if pages.asks_the_time() { pages.set_epoch(self.clock.epoch()) } else { 0 };
        let most = self.options.most_dirty + (self.total - pages.free()) / 4;
        let excess = spare.max(pages.dirty().saturating_sub(most));
        drop(pages);
        if excess > 0
            // Where others are at it already, what is left over is for the next time.
            && let Some(reclaiming) = try_lock(&self.reclaiming)
        {
            self.release_dirty_while(excess, &reclaiming);
        }
    }

    /// Makes pages that were dirty clean; false if that could not be, so that they are dirty still.
    fn release_run(&self, run: Run) -> bool {
        let released = self.pager.release(run.range);
        let mut pages = self.pages();
        match released {
            Ok(()) => pages.give_clean(run),
            Err(e) => {
                pages.give_dirty(run);
                drop(pages);
                say_refused(e);
                return false;
            }
        }
        true
    }

    /// Releases all dirty pages, unless others are at it.
    pub(crate) fn release_dirty(&self) {
        if let Some(reclaiming) = try_lock(&self.reclaiming) {
            self.release_dirty_while(usize::MAX, &reclaiming);
        }
    }

    /// Releases at most `most` dirty pages, and says how many of them were in memory.
    fn release_dirty_while(&self, most: usize, _: &MutexGuard<'_, Sweep>) -> usize {
        let (mut left, mut released) = (most, 0);
        loop {
            let run = self.pages().take_dirty(left);
            let Some(run) = run else {
                return released;
            };
            let there = self.pager.resident(run.range);
            if !self.release_run(run) {
                return released;
            }
            left -= run.range.pages();
            released += there;
        }
    }

    /// Releases what has been free for a while. To be called from time to time. Says whether
    /// [`sweep`](Self::sweep) has something left to do.
    pub(crate) fn tick(&self) -> bool {
        // The thread that has it may be waiting for memory, which the caller is about to find.
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
        let spare = self.pages().set_epoch(epoch);
        self.release_dirty_while(spare, &reclaiming);
        if reclaiming.bin == BINS && reclaiming.epoch != epoch {
            *reclaiming = Sweep { epoch, bin: 0, left: self.bin(0).suspects() };
        }
        self.go_on(&mut reclaiming)
    }

    /// Goes on with the sweep that a tick began, for about a millisecond. Says whether it has something
    /// left to do.
    pub(crate) fn sweep(&self) -> bool {
        try_lock(&self.reclaiming).is_some_and(|mut reclaiming| self.go_on(&mut reclaiming))
    }

    fn go_on(&self, sweep: &mut Sweep) -> bool {
        let mut cost = 0;
        while sweep.bin < BINS {
            if cost >= STEP {
                return true;
            }
            if sweep.left == 0 {
                sweep.bin += 1;
                sweep.left = self.bins.get(sweep.bin).map_or(0, |bin| lock(bin).suspects());
                continue;
            }
            let released = self.release_holes(sweep.bin, &mut sweep.left, true);
            cost += released.cost;
            if released.refused {
                // The next sweep tries again.
                sweep.bin = BINS;
            }
        }
        false
    }

    /// Looks at some of the spans of a bin that may have holes, up to the first that has some, and
    /// releases them. Takes the spans looked at off `left`.
    fn release_holes(&self, bin: usize, left: &mut usize, idle_only: bool) -> Released {
        let (looks, found) = self.bin(bin).begin_release(LOOKS.min(*left), idle_only);
        *left -= looks;
        let mut released = Released { cost: looks, ..Released::default() };
        if let Some(holes) = found {
            let done = self.release_set(holes.pages, &mut released);
            self.end_release(bin, holes, done);
        }
        released
    }

    /// Releases pages, and says which; less than all if the system refuses.
    fn release_set(&self, pages: PageSet, released: &mut Released) -> Mask {
        let mut done = Mask::NONE;
        for run in pages.runs() {
            let resident = self.pager.resident(run);
            if let Err(e) = self.pager.release(run) {
                say_refused(e);
                released.refused = true;
                break;
            }
            done |= pages.mask_of(run);
            released.resident += resident;
            released.cost += CALL + PAGE * run.pages();
        }
        done
    }

    fn end_release(&self, bin: usize, holes: Holes, done: Mask) {
        let mut emptied = Vec::new();
        let lane = {
            let mut held = self.bin(bin);
            held.finish_release(holes, done, &self.map, &mut emptied);
            held.lane()
        };
        self.give_spans(lane, &emptied);
    }

    /// Releases all holes, and says how many of the pages were in memory.
    fn release_all_holes_while(&self, _: &MutexGuard<'_, Sweep>) -> usize {
        let mut resident = 0;
        for bin in 0..BINS {
            let mut left = self.bin(bin).suspects();
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

    /// Gives back the blocks of pages that threads have kept since the last tick.
    fn release_idle_blocks(&self) {
        // A thread that counts blocks must find each of them in one place or the other. Pages that were
        // evicted meanwhile are forgotten when they are released.
        let caches = lock(&self.caches);
        for block in caches.iter().flat_map(|cache| cache.take_idle()) {
            self.pages().end_block(block.start);
        }
    }

    /// Gives back everything that is free, and says how many bytes of memory that was. Other threads
    /// give back what they keep when they next need more, or have no room for more.
    pub(crate) fn trim(self: &Arc<Self>) -> usize {
        let _in_library = InLibraryGuard::enter();
        let reclaiming = lock(&self.reclaiming);
        self.gather();
        // Holes first: spans whose last slot was freed meanwhile are dirty pages then.
        let holes = self.release_all_holes_while(&reclaiming);
        (holes + self.release_dirty_while(usize::MAX, &reclaiming)) * PAGE_SIZE
    }

    /// Puts together what is free, for a caller that has found no room. Leaves the holes, in which there
    /// is room without that.
    pub(super) fn make_room_while(self: &Arc<Self>, reclaiming: &MutexGuard<'_, Sweep>) {
        self.gather();
        self.release_dirty_while(usize::MAX, reclaiming);
    }

    /// Takes back what this thread and the bins keep, and asks the other threads for what they keep.
    fn gather(self: &Arc<Self>) {
        self.trims.fetch_add(1, Ordering::Relaxed);
        let _ = cache::with(self, |cache| self.follow_trim(cache));
        for bin in &self.bins {
            let (mut emptied, mut held) = (Vec::new(), lock(bin));
            held.trim(&self.map, &mut emptied);
            let lane = held.lane();
            drop(held);
            self.give_spans(lane, &emptied);
        }
    }
}

fn say_refused(e: SysError) {
    // A fuzzer has it refused all the time.
    if !cfg!(fuzzing) {
        event::report(format_args!("freed memory cannot be given back: {e:#}"));
    }
}
