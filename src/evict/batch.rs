//! A batch of claimed pages on its way to the store.

use super::{Evicted, Evictor};
use crate::prim::{Handle, PAGE_SIZE, PageIndex, PageRange, Tick};
use crate::store::{Compressor, Put};
use crate::sys::{SysError, event};
use crate::table::{State, Waiters, Word};
use std::ops::Range;
use std::time::Instant;

/// Pages in a batch, at most: what is locked, and how much is dropped while the arena is frozen.
pub(crate) const BATCH: usize = crate::sys::probe::LOCKED_PAGES;

/// What has become of a page of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ItemState {
    Claimed,
    Copied(Handle),
    /// Frozen, and known to be as it was copied.
    Intact(Handle),
    Dropping,
    /// Dropped or given up: none of the evictor's business any more.
    Done,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    page: PageIndex,
    fate: ItemState,
}

/// Claimed pages in ascending order, and room for their bytes.
pub(super) struct Batch {
    items: Vec<Item>,
    held: Vec<PageRange>,
    bytes: Box<[u8]>,
    compressor: Compressor,
    /// Sizes that batches have in turn.
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
            items: Vec::with_capacity(BATCH),
            held: Vec::with_capacity(BATCH),
            bytes: vec![0; BATCH * PAGE_SIZE].into(),
            compressor: Compressor::new(),
            sizes: if zeal { &[BATCH, 1, 7] } else { &[BATCH] },
            turn: 0,
        }
    }

    pub(super) fn push(&mut self, page: PageIndex) {
        debug_assert!(self.items.last().is_none_or(|last| last.page < page));
        self.items.push(Item { page, fate: ItemState::Claimed });
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.items.len() >= self.sizes[self.turn % self.sizes.len()]
    }
}

/// The first run of neighbours at or after item `from` that `which` picks all of, with the position
/// of its first item. It is found anew each time, because others wait meanwhile for what an allocation
/// could wait for too.
fn next_run(
    items: &[Item],
    from: usize,
    which: impl Fn(ItemState) -> bool,
) -> Option<(usize, PageRange)> {
    let first = from + items[from..].iter().position(|item| which(item.fate))?;
    let mut run = items[first].page.only();
    for item in &items[first + 1..] {
        if item.page != run.end || !which(item.fate) {
            break;
        }
        run.end.0 += 1;
    }
    Some((first, run))
}

impl Evictor {
    /// Evicts the pages of the batch, as far as they let themselves be evicted, and empties it. What
    /// the kernel refuses stays in memory and is left alone for a while.
    pub(super) fn flush(&mut self, now: Tick, done: &mut Evicted) {
        if self.batch.items.is_empty() {
            return;
        }
        self.hold(now, done);
        self.copy(now, done);
        // All in one region.
        let within = self.batch.items[0].page.only();
        let frozen_from = Instant::now();
        match self.tracker.freeze(within) {
            Ok(()) => {
                self.find_intact(now, done);
                self.drop_intact(now, done);
                if let Err(e) = self.tracker.thaw(within) {
                    // Every touch of a watched page would wait for a handler from here on.
                    event::die("cannot let touches through again", &e);
                }
                let frozen = u64::try_from(frozen_from.elapsed().as_nanos()).unwrap_or(u64::MAX);
                self.counters.freezes.add(1);
                self.counters.freeze_nanos.add(frozen);
                self.counters.longest_freeze_nanos.raise_to(frozen);
            }
            Err(e) => self.refuse(now, 0..self.batch.items.len(), e, done),
        }
        for run in self.batch.held.drain(..) {
            if let Err(e) = self.tracker.release(run) {
                self.counters.kernel_errors.add(run.pages() as u64);
                done.refusal = Some(e);
            }
        }
        // Whatever happened, nothing stays engaged.
        for i in 0..self.batch.items.len() {
            self.back_out(i, |word| word);
        }
        self.batch.items.clear();
        self.progress.end();
        self.batch.turn = self.batch.turn.wrapping_add(1);
        // This took some hundred microseconds: long enough for those who may be waiting for the processor.
        // Std's, as it is a courtesy, and no point at which anything can happen to pages.
        std::thread::yield_now();
    }

    /// Gives up items that the kernel refused something about, for a while.
    fn refuse(&mut self, now: Tick, items: Range<usize>, error: SysError, done: &mut Evicted) {
        done.refusal = Some(error);
        for i in items {
            if self.batch.items[i].fate != ItemState::Done {
                done.refused += 1;
                self.counters.kernel_errors.add(1);
                self.back_out(i, |word| word.with_failure(now));
            }
        }
    }

    /// Holds the claimed pages, run by run.
    fn hold(&mut self, now: Tick, done: &mut Evicted) {
        let mut from = 0;
        while let Some((first, run)) = next_run(&self.batch.items, from, |_| true) {
            from = first + run.pages();
            match self.tracker.hold(run) {
                Ok(()) => self.batch.held.push(run),
                Err(e) => self.refuse(now, first..from, e, done),
            }
        }
    }

    /// Copies the pages that are still claimed into the store.
    fn copy(&mut self, now: Tick, done: &mut Evicted) {
        let mut from = 0;
        let claimed = |fate| fate == ItemState::Claimed;
        while let Some((first, run)) = next_run(&self.batch.items, from, claimed) {
            from = first + run.pages();
            let bytes = &mut self.batch.bytes[first * PAGE_SIZE..][..run.bytes()];
            if let Err(e) = self.backing.memory().read(run, bytes) {
                self.refuse(now, first..from, e, done);
            }
        }
        for i in 0..self.batch.items.len() {
            let Item { page, fate } = self.batch.items[i];
            if fate != ItemState::Claimed {
                continue;
            }
            self.progress.begin(page);
            if self.table.load(page).state() != State::Claimed {
                self.count_touched(done);
                self.back_out(i, |word| word);
                continue;
            }
            let bytes = &self.batch.bytes[i * PAGE_SIZE..][..PAGE_SIZE];
            match self.store.put(&mut self.batch.compressor, bytes, page.0 as u64) {
                Put::SameFilled(handle) => {
                    self.counters.same_filled_pages.add(1);
                    self.batch.items[i].fate = ItemState::Copied(handle);
                }
                Put::Compressed(handle) => self.batch.items[i].fate = ItemState::Copied(handle),
                Put::Incompressible => {
                    done.incompressible += 1;
                    self.counters.incompressible_pages.add(1);
                    self.back_out(i, |word| word.with_failure(now));
                }
                Put::Full => {
                    done.store_full = true;
                    self.counters.store_full_pages.add(1);
                    self.back_out(i, |word| word);
                }
            }
        }
    }

    /// Finds the pages that are as they were copied. Called frozen.
    fn find_intact(&mut self, now: Tick, done: &mut Evicted) {
        let mut from = 0;
        let copied = |fate| matches!(fate, ItemState::Copied(_));
        while let Some((first, run)) = next_run(&self.batch.items, from, copied) {
            from = first + run.pages();
            let items = &mut self.batch.items;
            let found = self.tracker.intact(run, &mut |intact| {
                for page in intact.intersection(run).iter() {
                    let item = &mut items[first + page.0 - run.start.0];
                    if let ItemState::Copied(handle) = item.fate {
                        item.fate = ItemState::Intact(handle);
                    }
                }
            });
            if let Err(e) = found {
                self.refuse(now, first..from, e, done);
            }
        }
    }

    /// Drops the intact pages, and gives up those that were touched. Called frozen.
    fn drop_intact(&mut self, now: Tick, done: &mut Evicted) {
        for i in 0..self.batch.items.len() {
            let Item { page, fate } = self.batch.items[i];
            match fate {
                ItemState::Intact(handle) if self.table.publish(page, handle) => {
                    self.batch.items[i].fate = ItemState::Dropping;
                }
                ItemState::Intact(_) | ItemState::Copied(_) => {
                    self.count_touched(done);
                    self.back_out(i, |word| word.with_tick(now));
                }
                ItemState::Claimed | ItemState::Dropping | ItemState::Done => {}
            }
        }
        while let Some((first, run)) =
            next_run(&self.batch.items, 0, |fate| fate == ItemState::Dropping)
        {
            self.progress.begin(run.start);
            let punched = self.backing.memory().punch_locked(run);
            let mut waiting = false;
            for (i, page) in run.iter().enumerate() {
                self.batch.items[first + i].fate = ItemState::Done;
                waiting |= match punched {
                    Ok(()) => self.table.finish_drop(page),
                    Err(_) => {
                        // Nothing of the page was dropped, so it goes on as before.
                        self.store.free(self.table.load(page).handle());
                        self.table.abort_drop(page)
                    }
                } == Waiters(true);
            }
            if waiting {
                self.wake(run);
            }
            match punched {
                Ok(()) => {
                    done.pages += run.pages();
                    self.counters.evicted_pages.add(run.pages() as u64);
                }
                Err(e) => {
                    done.refusal = Some(e);
                    done.refused += run.pages();
                    self.counters.kernel_errors.add(run.pages() as u64);
                }
            }
        }
    }

    /// Gives item `i` up, if it has not been dropped or given up before: its copy is freed, and the
    /// page is resident again, with `change` made to its word if nobody took it back.
    fn back_out(&mut self, i: usize, change: impl Fn(Word) -> Word) {
        let Item { page, fate } = self.batch.items[i];
        match fate {
            ItemState::Done => return,
            ItemState::Copied(handle) | ItemState::Intact(handle) => self.store.free(handle),
            ItemState::Claimed | ItemState::Dropping => {}
        }
        self.batch.items[i].fate = ItemState::Done;
        self.table.disengage(page, change);
    }

    fn count_touched(&self, done: &mut Evicted) {
        done.touched += 1;
        self.counters.touched_during_eviction.add(1);
    }

    fn wake(&self, run: PageRange) {
        if let Err(e) = self.table.wake(&self.backing, run) {
            event::die("cannot wake the waiters of a dropped page", &e);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_neighbours_that_are_all_picked() {
        let pages = [3, 4, 5, 9, 10].map(PageIndex);
        let fates = [
            ItemState::Claimed,
            ItemState::Claimed,
            ItemState::Done,
            ItemState::Claimed,
            ItemState::Claimed,
        ];
        let items: Vec<Item> =
            pages.into_iter().zip(fates).map(|(page, fate)| Item { page, fate }).collect();
        let run = |from, which: fn(ItemState) -> bool| next_run(&items, from, which);
        let any = |_| true;
        assert_eq!(run(0, any), Some((0, PageRange::new(3, 6))));
        assert_eq!(run(1, any), Some((1, PageRange::new(4, 6))));
        assert_eq!(run(3, any), Some((3, PageRange::new(9, 11))));
        assert_eq!(run(5, any), None);
        let claimed = |fate| fate == ItemState::Claimed;
        assert_eq!(run(0, claimed), Some((0, PageRange::new(3, 5))));
        assert_eq!(run(2, claimed), Some((3, PageRange::new(9, 11))));
        assert_eq!(run(0, |fate| fate == ItemState::Dropping), None);
    }
}
