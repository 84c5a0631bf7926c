//! A batch of claimed pages on its way to the store.

use super::{Evicted, Evictor};
use crate::prim::{Handle, PAGE_SIZE, PageIndex, PageRange, Tick};
use crate::store::{Compressor, Put};
use crate::sys::{SysError, event};
use crate::table::{State, Waiters};
use crate::track::Held;
use std::time::Instant;

/// Pages in a batch, at most: what is locked, and how much is dropped while the arena is frozen.
pub(crate) const BATCH: usize = crate::sys::probe::LOCKED_PAGES;

/// What has become of a page of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Claimed,
    Copied(Handle),
    /// Frozen, and known to be as it was copied.
    Intact(Handle),
    Dropping,
    /// Not ours any more, or not to be evicted.
    Out,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    page: PageIndex,
    fate: Fate,
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
        self.items.push(Item { page, fate: Fate::Claimed });
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.items.len() >= self.sizes[self.turn % self.sizes.len()]
    }
}

/// The runs of neighbours among the items that `which` picks, each with the items' positions.
fn runs(items: &[Item], which: impl Fn(&Item) -> bool) -> Vec<(usize, PageRange)> {
    let mut runs: Vec<(usize, PageRange)> = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate().filter(|(_, item)| which(item)) {
        match runs.last_mut() {
            Some((_, run)) if run.end == item.page => run.end.0 += 1,
            _ => runs.push((i, item.page.only())),
        }
    }
    runs
}

impl Evictor {
    /// Evicts the pages of the batch, as far as they let themselves be evicted, and empties it.
    pub(super) fn flush(&mut self, now: Tick, done: &mut Evicted) -> Result<(), SysError> {
        if self.batch.items.is_empty() {
            return Ok(());
        }
        let result = self.flush_held(now, done);
        // Whatever happened, nothing stays claimed or held.
        for i in 0..self.batch.items.len() {
            self.back_out(i, |word| word);
        }
        let mut released = Ok(());
        for run in self.batch.held.drain(..) {
            released = released.and(self.tracker.release(run));
        }
        self.batch.items.clear();
        self.batch.turn = self.batch.turn.wrapping_add(1);
        result.and(released)
    }

    fn flush_held(&mut self, now: Tick, done: &mut Evicted) -> Result<(), SysError> {
        let held_from = Instant::now();
        self.hold(now)?;
        self.copy(now, done)?;
        let frozen_from = if self.tracker.holds_writers() { held_from } else { Instant::now() };
        self.tracker.freeze()?;
        let dropped = self.drop_intact(done);
        self.tracker.thaw()?;
        let frozen = u64::try_from(frozen_from.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counters.freezes.add(1);
        self.counters.frozen_nanos.add(frozen);
        self.counters.frozen_longest_nanos.raise_to(frozen);
        dropped
    }

    /// Holds the claimed pages, run by run. Those that the kernel will not lock are left alone
    /// for a while.
    fn hold(&mut self, now: Tick) -> Result<(), SysError> {
        for (first, run) in runs(&self.batch.items, |_| true) {
            match self.tracker.hold(run)? {
                Held::Yes => self.batch.held.push(run),
                Held::Refused => {
                    self.counters.kernel_refused.add(run.pages() as u64);
                    for i in first..first + run.pages() {
                        self.back_out(i, |word| word.with_failure(now));
                    }
                }
            }
        }
        Ok(())
    }

    /// Copies the pages that are still claimed into the store.
    fn copy(&mut self, now: Tick, done: &mut Evicted) -> Result<(), SysError> {
        for (first, run) in runs(&self.batch.items, |item| item.fate == Fate::Claimed) {
            let bytes = &mut self.batch.bytes[first * PAGE_SIZE..][..run.bytes()];
            self.backing.memory().read(run, bytes)?;
        }
        for i in 0..self.batch.items.len() {
            let Item { page, fate } = self.batch.items[i];
            if fate != Fate::Claimed {
                continue;
            }
            if self.table.load(page).state() != State::Claimed {
                self.batch.items[i].fate = Fate::Out;
                self.count_touched(done);
                continue;
            }
            let bytes = &self.batch.bytes[i * PAGE_SIZE..][..PAGE_SIZE];
            match self.store.put(&mut self.batch.compressor, bytes, page.0 as u64) {
                Put::SameFilled(handle) => {
                    self.counters.same_filled.add(1);
                    self.batch.items[i].fate = Fate::Copied(handle);
                }
                Put::Compressed(handle) => self.batch.items[i].fate = Fate::Copied(handle),
                Put::Incompressible => {
                    done.incompressible += 1;
                    self.counters.incompressible.add(1);
                    self.back_out(i, |word| word.with_failure(now));
                }
                Put::Full => {
                    done.store_full = true;
                    self.counters.store_full.add(1);
                    self.back_out(i, |word| word);
                }
            }
        }
        Ok(())
    }

    /// Drops the pages that are as they were copied. Called frozen.
    fn drop_intact(&mut self, done: &mut Evicted) -> Result<(), SysError> {
        let items = &mut self.batch.items;
        for (first, run) in runs(items, |item| matches!(item.fate, Fate::Copied(_))) {
            self.tracker.intact(run, &mut |intact| {
                for page in intact.iter().filter(|page| run.contains(*page)) {
                    let item = &mut items[first + page.0 - run.start.0];
                    if let Fate::Copied(handle) = item.fate {
                        item.fate = Fate::Intact(handle);
                    }
                }
            })?;
        }
        for i in 0..self.batch.items.len() {
            let Item { page, fate } = self.batch.items[i];
            match fate {
                Fate::Intact(handle) if self.table.publish(page, handle) => {
                    self.batch.items[i].fate = Fate::Dropping;
                }
                Fate::Intact(_) | Fate::Copied(_) => {
                    self.count_touched(done);
                    let now = self.table.now();
                    self.back_out(i, |word| word.with_tick(now));
                }
                _ => {}
            }
        }
        let mut result = Ok(());
        for (first, run) in runs(&self.batch.items, |item| item.fate == Fate::Dropping) {
            let punched = self.backing.memory().punch(run);
            let mut waiting = false;
            for (i, page) in run.iter().enumerate() {
                self.batch.items[first + i].fate = Fate::Out;
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
                    self.counters.evicted.add(run.pages() as u64);
                }
                Err(e) => result = Err(e),
            }
        }
        result
    }

    /// Gives item `i` up: its copy is freed, and the page, if nobody took it back, is resident
    /// again, with `change` made to its word.
    fn back_out(
        &mut self,
        i: usize,
        change: impl FnOnce(crate::table::Word) -> crate::table::Word,
    ) {
        let Item { page, fate } = self.batch.items[i];
        self.batch.items[i].fate = Fate::Out;
        match fate {
            Fate::Out => return,
            Fate::Copied(handle) | Fate::Intact(handle) => self.store.free(handle),
            Fate::Claimed | Fate::Dropping => {}
        }
        self.table.unclaim(page, change);
    }

    fn count_touched(&self, done: &mut Evicted) {
        done.touched += 1;
        self.counters.touched_in_time.add(1);
    }

    fn wake(&self, run: PageRange) {
        if let Err(e) = self.backing.wake(run) {
            event::die("cannot wake the waiters of a dropped page", &e);
        }
    }
}
