//! A batch of claimed pages on its way to the store: detach, compress, commit.

use super::Evicted;
use crate::prim::{BATCH_PAGES, Handle, PAGE_SIZE, PageIndex, PageRange, Tick};
use crate::stats::Progress;
use crate::store::{Compressor, Put};
use crate::sys::{SysError, event};
use crate::table::{State, Waiters, Word};
use crate::track::{Core, Detached};
use std::ops::Range;
use std::time::Instant;

/// The state of a page of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ItemState {
    Claimed,
    /// Detached, and its bytes are in the batch.
    Detached,
    Compressed(Handle),
    /// The page is as it was when it was detached.
    Intact(Handle),
    Dropping,
    /// Dropped, or no longer claimed.
    Done,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    page: PageIndex,
    state: ItemState,
}

/// Claimed pages in ascending order, and room for their bytes.
pub(super) struct Batch {
    items: Vec<Item>,
    detached: Vec<PageRange>,
    compressed: Vec<PageRange>,
    bytes: Box<[u8]>,
    compressor: Compressor,
    /// The sizes of batches, used in turn.
    sizes: &'static [usize],
    turn: usize,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("items", &self.items).finish_non_exhaustive()
    }
}

impl Batch {
    pub(super) fn new(zeal: bool) -> Self {
        Self {
            items: Vec::with_capacity(BATCH_PAGES),
            detached: Vec::with_capacity(BATCH_PAGES),
            compressed: Vec::with_capacity(BATCH_PAGES),
            bytes: vec![0; BATCH_PAGES * PAGE_SIZE].into(),
            compressor: Compressor::new(),
            sizes: if zeal { &[BATCH_PAGES, 1, 7] } else { &[BATCH_PAGES] },
            turn: 0,
        }
    }

    pub(super) fn push(&mut self, page: PageIndex) {
        debug_assert!(self.items.last().is_none_or(|last| last.page < page));
        self.items.push(Item { page, state: ItemState::Claimed });
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.items.len() >= self.sizes[self.turn % self.sizes.len()]
    }

    /// Evicts the pages of the batch as far as possible, and empties the batch. A page on which the kernel
    /// refuses a call stays in memory, and backs off.
    ///
    /// Nothing here allocates. While the batch owns pages, other threads wait for it, and one of them may hold
    /// a lock of the allocator.
    pub(super) fn flush(
        &mut self,
        core: &Core,
        progress: &Progress,
        now: Tick,
        done: &mut Evicted,
    ) {
        if self.items.is_empty() {
            return;
        }
        let mut flush = Flush { batch: self, core, progress, now, done };
        flush.detach();
        flush.compress();
        flush.commit();
        flush.cancel();
        self.items.clear();
        progress.end();
        self.turn = self.turn.wrapping_add(1);
        // The batch took some hundred microseconds, and other threads may wait for the processor. This is std's
        // yield, so the simulation tries no orders of steps here.
        std::thread::yield_now();
    }
}

/// The first run of neighbours at or after item `from` whose states `picks` accepts, with the position of its
/// first item.
fn next_run(
    items: &[Item],
    from: usize,
    picks: impl Fn(ItemState) -> bool,
) -> Option<(usize, PageRange)> {
    let first = from + items[from..].iter().position(|item| picks(item.state))?;
    let mut run = items[first].page.only();
    for item in &items[first + 1..] {
        if item.page != run.end || !picks(item.state) {
            break;
        }
        run.end.0 += 1;
    }
    Some((first, run))
}

/// One flush of a batch.
struct Flush<'a> {
    batch: &'a mut Batch,
    core: &'a Core,
    progress: &'a Progress,
    now: Tick,
    done: &'a mut Evicted,
}

impl Flush<'_> {
    /// Detaches the claimed pages run by run, and gets their bytes.
    fn detach(&mut self) {
        let mut from = 0;
        while let Some((first, run)) = next_run(&self.batch.items, from, |_| true) {
            from = first + run.pages();
            let bytes = &mut self.batch.bytes[first * PAGE_SIZE..][..run.bytes()];
            let is_claimed = |page| self.core.table.load(page).state() == State::Claimed;
            let (detached, stopped) = self.core.isolation.detach(run, bytes, &is_claimed);
            let behind = first + detached;
            if detached > 0 {
                self.batch.detached.push(PageRange::new(run.start.0, run.start.0 + detached));
                let items = &mut self.batch.items[first..behind];
                items.iter_mut().for_each(|item| item.state = ItemState::Detached);
            }
            if let Some(error) = stopped {
                // A protection refuses the whole run. A page that cannot be moved says nothing of the next ones.
                from =
                    if detached > 0 || self.core.isolation.is_moved() { behind + 1 } else { from };
                self.refuse(behind..from, error);
            } else if behind < from {
                from = behind + 1;
                self.count_touched();
                self.back_out(behind, |word| word);
            }
        }
    }

    /// Compresses the detached pages into the store.
    fn compress(&mut self) {
        for i in 0..self.batch.items.len() {
            let Item { page, state } = self.batch.items[i];
            if state != ItemState::Detached {
                continue;
            }
            self.progress.begin(page);
            if self.core.table.load(page).state() != State::Claimed {
                self.count_touched();
                self.back_out(i, |word| word);
                continue;
            }
            let bytes = &self.batch.bytes[i * PAGE_SIZE..][..PAGE_SIZE];
            let put = self.core.store.put(&mut self.batch.compressor, bytes, page.0 as u64);
            match put {
                Put::SameFilled(handle) => {
                    self.core.counters.same_filled_pages.add(1);
                    self.batch.items[i].state = ItemState::Compressed(handle);
                }
                Put::Compressed(handle) => {
                    self.batch.items[i].state = ItemState::Compressed(handle);
                }
                Put::Incompressible => {
                    self.done.incompressible += 1;
                    self.core.counters.incompressible_pages.add(1);
                    let now = self.now;
                    self.back_out(i, |word| word.with_failure(now));
                }
                Put::Full => {
                    self.done.store_full = true;
                    self.core.counters.store_full_pages.add(1);
                    self.back_out(i, |word| word);
                }
            }
        }
    }

    /// Drops the compressed pages that the program has not touched meanwhile.
    fn commit(&mut self) {
        let is_compressed = |state| matches!(state, ItemState::Compressed(_));
        let mut runs = std::mem::take(&mut self.batch.compressed);
        let mut from = 0;
        while let Some((first, run)) = next_run(&self.batch.items, from, is_compressed) {
            from = first + run.pages();
            runs.push(run);
        }
        if !runs.is_empty() {
            let start = Instant::now();
            let core = self.core;
            match core.isolation.commit(&runs, self) {
                Ok(()) => {
                    let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    core.counters.freezes.add(1);
                    core.counters.freeze_nanos.add(nanos);
                    core.counters.longest_freeze_nanos.raise_to(nanos);
                }
                Err(e) => self.refuse(0..self.batch.items.len(), e),
            }
        }
        runs.clear();
        self.batch.compressed = runs;
    }

    /// Ends the detachment, and every remaining claim.
    fn cancel(&mut self) {
        for run in self.batch.detached.drain(..) {
            if let Err(e) = self.core.isolation.cancel(run) {
                self.core.counters.kernel_errors.add(run.pages() as u64);
                self.done.refusal = Some(e);
            }
        }
        for i in 0..self.batch.items.len() {
            self.back_out(i, |word| word);
        }
    }

    /// Backs out of the items on which the kernel refused a call. Their pages back off.
    fn refuse(&mut self, items: Range<usize>, error: SysError) {
        self.done.refusal = Some(error);
        for i in items {
            if self.batch.items[i].state != ItemState::Done {
                self.done.refused += 1;
                self.core.counters.kernel_errors.add(1);
                let now = self.now;
                self.back_out(i, |word| word.with_failure(now));
            }
        }
    }

    /// Gives up the claim on item `i`, and frees its copy, unless its page was dropped or given up before. The
    /// page is resident again, with `change` made to its word unless a faulting thread took it back.
    fn back_out(&mut self, i: usize, change: impl Fn(Word) -> Word) {
        let Item { page, state } = self.batch.items[i];
        match state {
            ItemState::Done => return,
            ItemState::Compressed(handle) | ItemState::Intact(handle) => {
                self.core.store.free(handle);
            }
            ItemState::Claimed | ItemState::Detached | ItemState::Dropping => {}
        }
        if state != ItemState::Claimed {
            self.core.isolation.give_back(page);
        }
        self.batch.items[i].state = ItemState::Done;
        self.core.table.leave_batch(page, change);
    }

    fn count_touched(&mut self) {
        self.done.touched += 1;
        self.core.counters.touched_during_eviction.add(1);
    }

    /// The items of `run`, all of whose pages are in the batch.
    fn items_of(&self, run: PageRange) -> Range<usize> {
        let first = self.batch.items.partition_point(|item| item.page < run.start);
        first..first + run.pages()
    }
}

impl Detached for Flush<'_> {
    fn intact(&mut self, run: PageRange) {
        let items = self.items_of(run);
        for item in &mut self.batch.items[items] {
            if let ItemState::Compressed(handle) = item.state {
                item.state = ItemState::Intact(handle);
            }
        }
    }

    fn refused(&mut self, run: PageRange, error: SysError) {
        self.refuse(self.items_of(run), error);
    }

    fn drop_intact(&mut self, discard: &dyn Fn(PageRange) -> Result<(), SysError>) {
        let (core, now) = (self.core, self.now);
        for i in 0..self.batch.items.len() {
            let Item { page, state } = self.batch.items[i];
            match state {
                ItemState::Intact(handle) if core.table.publish(page, handle) => {
                    self.batch.items[i].state = ItemState::Dropping;
                }
                ItemState::Intact(_) | ItemState::Compressed(_) => {
                    self.count_touched();
                    self.back_out(i, |word| word.with_tick(now));
                }
                ItemState::Claimed
                | ItemState::Detached
                | ItemState::Dropping
                | ItemState::Done => {}
            }
        }
        let is_dropping = |state| state == ItemState::Dropping;
        while let Some((first, run)) = next_run(&self.batch.items, 0, is_dropping) {
            self.progress.begin(run.start);
            let discarded = discard(run);
            let mut waiting = false;
            for (i, page) in run.iter().enumerate() {
                self.batch.items[first + i].state = ItemState::Done;
                waiting |= match discarded {
                    Ok(()) => core.table.finish_drop(page),
                    Err(_) => {
                        // The page was not dropped, so it stays as it was. After `abort_drop` other threads own it.
                        core.isolation.give_back(page);
                        core.store.free(core.table.load(page).handle());
                        core.table.abort_drop(page)
                    }
                } == Waiters(true);
            }
            if waiting && let Err(e) = core.table.wake(&core.backing, run) {
                event::abort_process("cannot wake the waiters of a dropped page", &e);
            }
            match discarded {
                Ok(()) => {
                    self.done.pages += run.pages();
                    core.counters.evicted_pages.add(run.pages() as u64);
                }
                Err(e) => {
                    self.done.refusal = Some(e);
                    self.done.refused += run.pages();
                    core.counters.kernel_errors.add(run.pages() as u64);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_consists_of_neighbours_in_picked_states() {
        let pages = [3, 4, 5, 9, 10].map(PageIndex);
        let states = [
            ItemState::Claimed,
            ItemState::Claimed,
            ItemState::Done,
            ItemState::Claimed,
            ItemState::Claimed,
        ];
        let items: Vec<Item> =
            pages.into_iter().zip(states).map(|(page, state)| Item { page, state }).collect();
        let run = |from, which: fn(ItemState) -> bool| next_run(&items, from, which);
        let any = |_| true;
        assert_eq!(run(0, any), Some((0, PageRange::new(3, 6))));
        assert_eq!(run(1, any), Some((1, PageRange::new(4, 6))));
        assert_eq!(run(3, any), Some((3, PageRange::new(9, 11))));
        assert_eq!(run(5, any), None);
        let claimed = |state| state == ItemState::Claimed;
        assert_eq!(run(0, claimed), Some((0, PageRange::new(3, 5))));
        assert_eq!(run(2, claimed), Some((3, PageRange::new(9, 11))));
        assert_eq!(run(0, |state| state == ItemState::Dropping), None);
    }
}
