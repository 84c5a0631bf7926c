//! From cold to stored: look who was touched, and evict who was not.
//!
//! One [`Evictor`] per arena, used by one thread. A cycle is [`look`](Evictor::look), then
//! [`ages`](Evictor::ages), from which a policy makes an [`Order`], then
//! [`carry_out`](Evictor::carry_out).

mod ages;
mod batch;
mod scan_schedule;

pub(crate) use ages::Ages;
pub(crate) use batch::BATCH;

use crate::prim::{PageIndex, PageRange, Tick};
use crate::stats::{Counters, Progress};
use crate::store::Store;
use crate::sys::SysError;
use crate::sys::backing::Backing;
use crate::table::{PageTable, REGION_PAGES, State, Word};
use crate::track::AccessTracker;
use batch::Batch;
use scan_schedule::ScanSchedule;
use std::sync::Arc;

/// Which pages are to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// All pages idle for at least so many ticks go.
    pub(crate) all_from: u32,
    /// Pages idle for at least so many ticks go as well, until `pages` have gone in all.
    pub(crate) some_from: u32,
    /// How many pages go, at most.
    pub(crate) pages: usize,
}

/// What became of the pages that were to be evicted. A page has 4096 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evicted {
    /// Pages that were stored and dropped.
    pub pages: usize,
    /// Pages that were touched on their way out, and stayed.
    pub touched: usize,
    /// Pages that did not compress, and stayed. They are not tried again for a while.
    pub incompressible: usize,
    /// Pages about which the kernel refused something, and which stayed. They are not tried again
    /// for a while.
    pub refused: usize,
    /// What the kernel refused last, if anything; it may concern pages that were only looked at.
    pub refusal: Option<SysError>,
    /// Whether the store was full, so that the rest stayed.
    pub store_full: bool,
}

/// Looks, claims, compresses and drops.
#[derive(Debug)]
pub(crate) struct Evictor {
    backing: Arc<Backing>,
    table: Arc<PageTable>,
    store: Arc<Store>,
    tracker: Arc<dyn AccessTracker>,
    counters: Arc<Counters>,
    /// Of the batch: pages that are claimed, or on their way out.
    progress: Arc<Progress>,
    schedule: ScanSchedule,
    batch: Batch,
    /// The region to begin with: one after where the last order was fulfilled.
    cursor: usize,
}

impl Evictor {
    /// An evictor that drops at most [`BATCH`] pages at a time, and with `zeal` now so many, now
    /// a few, now a single one.
    pub(crate) fn new(
        backing: Arc<Backing>,
        table: Arc<PageTable>,
        store: Arc<Store>,
        tracker: Arc<dyn AccessTracker>,
        counters: Arc<Counters>,
        zeal: bool,
    ) -> Result<Self, SysError> {
        let schedule = ScanSchedule::new(table.all().pages().div_ceil(REGION_PAGES))?;
        let batch = Batch::new(zeal);
        let progress = Arc::default();
        Ok(Self { backing, table, store, tracker, counters, progress, schedule, batch, cursor: 0 })
    }

    /// What the evictor is at while it holds pages.
    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// The regions that hold memory and have a page in `within`, with their numbers.
    fn regions(&self, within: PageRange) -> impl Iterator<Item = (usize, PageRange)> + use<> {
        let table = Arc::clone(&self.table);
        let extent = table.extent();
        let first = within.start.0 / REGION_PAGES;
        let end = within.end.0.min(extent.end.0).div_ceil(REGION_PAGES);
        (first..end).filter(move |region| table.memory_of(*region) > 0).map(move |region| {
            let start = region * REGION_PAGES;
            (region, PageRange::new(start, start + REGION_PAGES).intersection(extent))
        })
    }

    /// Notes in the table which pages were touched since the last look, and watches them anew.
    /// Regions that were found hot again and again are left out for a while, unless `all` is set.
    /// What the kernel refuses is counted and left alone for a while; the last error is given.
    pub(crate) fn look(&mut self, now: Tick, all: bool) -> Result<(), SysError> {
        self.table.set_now(now);
        let mut result = Ok(());
        for (region, range) in self.regions(self.table.all()) {
            if all || self.schedule.is_due(region, now) {
                let looked = self.look_at(region, range, now, all);
                result = looked.and(result);
            }
        }
        result
    }

    /// Looks at one region and watches it anew, unless it was found hot again and again and `watch`
    /// is not set. A region about which the kernel refuses something rests.
    fn look_at(
        &mut self,
        region: usize,
        range: PageRange,
        now: Tick,
        watch: bool,
    ) -> Result<(), SysError> {
        let result = self.try_look_at(region, range, now, watch);
        if result.is_err() {
            self.counters.kernel_errors.add(1);
            self.schedule.rest(region, now);
        }
        result
    }

    fn try_look_at(
        &mut self,
        region: usize,
        range: PageRange,
        now: Tick,
        watch: bool,
    ) -> Result<(), SysError> {
        let mut touched = range.pages();
        if self.schedule.is_watched(region) {
            touched = 0;
            self.tracker.touched(range, &mut |run| {
                touched += run.pages();
                run.iter().for_each(|page| self.table.touch(page));
            })?;
            self.counters.scanned_pages.add(range.pages() as u64);
            let rests = self.schedule.note(region, now, touched, self.table.memory_of(region));
            if rests && !watch {
                return Ok(());
            }
        }
        if touched > 0 {
            self.arm(range)?;
            self.counters.armed_pages.add(touched as u64);
        }
        if !self.schedule.is_watched(region) {
            self.schedule.begin(region, now);
        }
        Ok(())
    }

    /// Watches the pages of `range` anew, but for those that are pinned.
    fn arm(&self, range: PageRange) -> Result<(), SysError> {
        let pins = self.table.pins();
        let armed =
            pins.runs(range, |run, pinned| if pinned { Ok(()) } else { self.tracker.arm(run) });
        if !pins.any() {
            return armed;
        }
        // Some may have been pinned while they were being armed.
        let lift = |run, pinned| if pinned { self.tracker.lift(run) } else { Ok(()) };
        armed.and(pins.runs(range, lift))
    }

    /// How long the pages in memory have been idle, of those that are watched, may compress and are
    /// not pinned: a page that cannot go must not be counted on in a plan.
    pub(crate) fn ages(&self, now: Tick) -> Ages {
        let mut ages = Ages::default();
        let pins = self.table.pins();
        let any_pinned = pins.any();
        for (region, range) in self.regions(self.table.all()) {
            let Some(watched) = self.schedule.watched_for(region, now) else {
                continue;
            };
            for page in range.iter().filter(|page| !any_pinned || !pins.has(*page)) {
                let word = self.table.load(page);
                if word.state() == State::Resident && !word.is_backing_off(now) {
                    ages.add(word.tick().age_at(now).min(watched));
                }
            }
        }
        ages
    }

    /// Evicts the pages that `order` names, as far as they can be, the ones that must go first.
    pub(crate) fn carry_out(&mut self, now: Tick, order: Order) -> Evicted {
        let mut done = Evicted::default();
        let all = self.table.all();
        if order.all_from <= Tick::MAX_AGE {
            self.sweep(now, order.all_from, order.pages, all, &mut done);
        }
        if order.some_from < order.all_from && done.pages < order.pages && !done.store_full {
            self.sweep(now, order.some_from, order.pages, all, &mut done);
        }
        done
    }

    /// Gives back what memory the store can spare.
    pub(crate) fn trim(&self) {
        self.store.trim();
    }

    /// Evicts every page of `within` that is not touched meanwhile, whatever its age.
    pub(crate) fn evict_all(&mut self, now: Tick, within: PageRange) -> Evicted {
        self.table.set_now(now);
        let mut done = Evicted::default();
        self.sweep(now, 0, usize::MAX, within, &mut done);
        self.trim();
        done
    }

    /// The page's word, if the page may go: it is in memory, has been idle for `min_age`, and is
    /// not known to be incompressible.
    fn may_go(&self, page: PageIndex, now: Tick, watched: u32, min_age: u32) -> Option<Word> {
        let word = self.table.load(page);
        let idle = word.tick().age_at(now).min(watched);
        let goes = word.state() == State::Resident && idle >= min_age && !word.is_backing_off(now);
        goes.then_some(word)
    }

    /// Claims the page, if its word is still `word` and nobody has pinned it.
    fn claim(&self, page: PageIndex, word: Word) -> bool {
        if self.table.pins().has(page) || self.table.claim(page, word).is_err() {
            return false;
        }
        // Who pins it from here on finds it claimed, and takes it back.
        let pinned = self.table.pins().has(page);
        if pinned {
            self.table.disengage(page, |word| word);
        }
        !pinned
    }

    /// Claims and evicts pages of `within` that have been idle for `min_age`, until `most` have
    /// gone in all.
    fn sweep(
        &mut self,
        now: Tick,
        min_age: u32,
        most: usize,
        within: PageRange,
        done: &mut Evicted,
    ) {
        let mut regions: Vec<_> = self.regions(within).collect();
        let first = regions.partition_point(|(region, _)| *region < self.cursor);
        regions.rotate_left(first);
        for (region, range) in regions {
            let pages = range.intersection(within);
            // Whatever is younger than a tick may have been touched since it was armed, so it is armed
            // anew; and what looks older is looked at first where that has not just been done.
            if min_age > 0 {
                let Some(watched) = self.schedule.watched_for(region, now) else { continue };
                if !pages.iter().any(|page| self.may_go(page, now, watched, min_age).is_some()) {
                    continue;
                }
            }
            if min_age == 0 || !self.schedule.is_fresh(region, now) {
                done.refusal = self.look_at(region, range, now, true).err().or(done.refusal);
            }
            let Some(watched) = self.schedule.watched_for(region, now) else { continue };
            for page in pages.iter() {
                let Some(word) = self.may_go(page, now, watched, min_age) else { continue };
                if self.claim(page, word) {
                    self.progress.begin(page);
                    self.batch.push(page);
                }
                if self.batch.is_full() || done.pages + self.batch.len() >= most {
                    self.flush(now, done);
                    if done.pages >= most || done.store_full {
                        self.cursor = region;
                        return;
                    }
                }
            }
            // Neighbours are dropped together; pages of different regions are none.
            self.flush(now, done);
            if done.pages >= most || done.store_full {
                self.cursor = region + 1;
                return;
            }
        }
    }
}

#[cfg(test)]
#[cfg(not(thermocline_sim))]
mod tests;
