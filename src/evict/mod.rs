//! From cold to stored: scan for touched pages, and evict untouched ones.
//!
//! An arena has one [`Evictor`], which one thread uses. A cycle is [`scan`](Evictor::scan), then
//! [`ages`](Evictor::ages), from which the policy makes an [`EvictionPlan`], then
//! [`execute`](Evictor::execute).

mod batch;

use crate::policy::{AgeHistogram, EvictionPlan, RegionSchedule};
use crate::prim::sync::{AtomicU64, Ordering};
use crate::prim::{PageIndex, PageRange, REGION_PAGES, Tick};
use crate::stats::Progress;
use crate::sys::SysError;
use crate::sys::memory::LazySlice;
use crate::table::{State, Word};
use crate::track::Core;
use batch::Batch;
use std::sync::Arc;

/// The outcome for the pages that the evictor was to evict. A page has 4096 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Evicted {
    /// Pages that were stored and dropped.
    pub pages: usize,
    /// Pages that the program touched during the eviction. They stayed.
    pub touched: usize,
    /// Pages that did not compress. They stayed, and the evictor does not try them again for a while.
    pub incompressible: usize,
    /// Pages for which a system call failed. They stayed, and the evictor does not try them again for a while.
    pub refused: usize,
    /// The last system call that failed, if one did. It may have been a scan.
    pub refusal: Option<SysError>,
    /// Whether the store was full. Then the other pages stayed.
    pub store_full: bool,
}

/// Scans, claims, compresses and drops.
#[derive(Debug)]
pub(crate) struct Evictor {
    core: Arc<Core>,
    /// The page that the evictor is at, for the watchdog.
    progress: Arc<Progress>,
    /// A [`RegionSchedule`] for each region.
    schedule: LazySlice<AtomicU64>,
    /// Ticks from one scan of the arena to the next.
    interval: u32,
    batch: Batch,
    /// The number of the region at which the next sweep begins.
    cursor: usize,
}

impl Evictor {
    /// An evictor that scans the arena every `interval` ticks. With `zeal` batches have many pages, one page,
    /// and a few pages in turn.
    pub(crate) fn new(core: Arc<Core>, interval: u32, zeal: bool) -> Result<Self, SysError> {
        debug_assert!((1..=RegionSchedule::MAX_INTERVAL).contains(&interval));
        let schedule = LazySlice::new(core.table.all().pages().div_ceil(REGION_PAGES))?;
        let batch = Batch::new(zeal);
        Ok(Self { core, progress: Arc::default(), schedule, interval, batch, cursor: 0 })
    }

    /// The page that the evictor is at while it has claimed pages.
    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    fn schedule(&self, region: usize) -> RegionSchedule {
        RegionSchedule::from_raw(self.schedule[region].load(Ordering::Relaxed))
    }

    fn set_schedule(&self, region: usize, schedule: RegionSchedule) {
        self.schedule[region].store(schedule.raw(), Ordering::Relaxed);
    }

    /// The regions that hold memory and have a page in `within`, with their numbers.
    fn regions(&self, within: PageRange) -> impl Iterator<Item = (usize, PageRange)> + use<> {
        let core = Arc::clone(&self.core);
        let extent = core.table.extent();
        let first = within.start.0 / REGION_PAGES;
        let end = within.end.0.min(extent.end.0).div_ceil(REGION_PAGES);
        (first..end).filter(move |region| core.table.pages_in_memory(*region) > 0).map(
            move |region| {
                let start = region * REGION_PAGES;
                (region, PageRange::new(start, start + REGION_PAGES).intersection(extent))
            },
        )
    }

    /// Notes in the table the pages that were touched since the last scan, and arms them anew. Leaves out the
    /// regions that rest, unless `all` is set. A region for which a system call fails rests; gives the last
    /// error.
    pub(crate) fn scan(&self, now: Tick, all: bool) -> Result<(), SysError> {
        self.core.table.set_now(now);
        let mut result = Ok(());
        for (region, range) in self.regions(self.core.table.all()) {
            if all || self.schedule(region).is_due(now, self.interval) {
                let scanned = self.scan_region(region, range, now, all);
                result = scanned.and(result);
            }
        }
        result
    }

    /// Scans one region and arms it anew. A hot region rests instead, unless `always_arm` is set. A region for
    /// which a system call fails rests.
    fn scan_region(
        &self,
        region: usize,
        range: PageRange,
        now: Tick,
        always_arm: bool,
    ) -> Result<(), SysError> {
        let result = self.try_scan_region(region, range, now, always_arm);
        if result.is_err() {
            self.core.counters.kernel_errors.add(1);
            self.set_schedule(region, self.schedule(region).refused(now, self.interval));
        }
        result
    }

    fn try_scan_region(
        &self,
        region: usize,
        range: PageRange,
        now: Tick,
        always_arm: bool,
    ) -> Result<(), SysError> {
        let (core, interval) = (&self.core, self.interval);
        let mut schedule = self.schedule(region);
        let mut touched = range.pages();
        if schedule.is_armed() {
            touched = 0;
            core.watch.touched(range, &mut |run| {
                touched += run.pages();
                run.iter().for_each(|page| core.table.touch(page));
            })?;
            core.counters.scanned_pages.add(range.pages() as u64);
            schedule = schedule.scanned(now, interval, touched, core.table.pages_in_memory(region));
            self.set_schedule(region, schedule);
            if !schedule.is_armed() && !always_arm {
                return Ok(());
            }
        }
        if touched > 0 {
            self.arm(range)?;
            core.counters.armed_pages.add(touched as u64);
        }
        if !schedule.is_armed() {
            self.set_schedule(region, schedule.armed(now, interval));
        }
        Ok(())
    }

    /// Arms the pages of `range` that are not pinned.
    fn arm(&self, range: PageRange) -> Result<(), SysError> {
        let Core { table, watch, isolation, .. } = &*self.core;
        let pins = table.pins();
        let armed = pins.runs(range, |run, pinned| if pinned { Ok(()) } else { watch.arm(run) });
        if !pins.any() {
            return armed;
        }
        // The program may have pinned some of them meanwhile.
        let admit = |run, pinned| if pinned { isolation.admit(run) } else { Ok(()) };
        armed.and(pins.runs(range, admit))
    }

    /// The ages of the evictable pages: those that are in memory and armed, do not back off and are not
    /// pinned. A plan must not count on any other page.
    pub(crate) fn ages(&self, now: Tick) -> AgeHistogram {
        let mut ages = AgeHistogram::default();
        let table = &self.core.table;
        let pins = table.pins();
        let any_pinned = pins.any();
        for (region, range) in self.regions(table.all()) {
            let Some(armed_for) = self.schedule(region).armed_for(now) else {
                continue;
            };
            for page in range.iter().filter(|page| !any_pinned || !pins.has(*page)) {
                let word = table.load(page);
                if word.state() == State::Resident && !word.is_backing_off(now) {
                    ages.add(word.tick().age_at(now).min(armed_for));
                }
            }
        }
        ages
    }

    /// Evicts the pages that `plan` names, as far as possible. The pages that must go come first.
    pub(crate) fn execute(&mut self, now: Tick, plan: EvictionPlan) -> Evicted {
        let mut done = Evicted::default();
        let all = self.core.table.all();
        if plan.all_from <= Tick::MAX_AGE {
            self.sweep(now, plan.all_from, plan.pages, all, &mut done);
        }
        if plan.some_from < plan.all_from && done.pages < plan.pages && !done.store_full {
            self.sweep(now, plan.some_from, plan.pages, all, &mut done);
        }
        done
    }

    /// Gives spare memory of the store back to the system.
    pub(crate) fn trim(&self) {
        self.core.store.trim();
    }

    /// Evicts every page of `within` of any age, unless the program touches it meanwhile.
    pub(crate) fn evict_all(&mut self, now: Tick, within: PageRange) -> Evicted {
        self.core.table.set_now(now);
        let mut done = Evicted::default();
        self.sweep(now, 0, usize::MAX, within, &mut done);
        self.trim();
        done
    }

    /// The page's word, if the evictor may evict the page: it is in memory, at least `min_age` old, and does not
    /// back off.
    fn may_go(&self, page: PageIndex, now: Tick, armed_for: u32, min_age: u32) -> Option<Word> {
        let word = self.core.table.load(page);
        let idle = word.tick().age_at(now).min(armed_for);
        let goes = word.state() == State::Resident && idle >= min_age && !word.is_backing_off(now);
        goes.then_some(word)
    }

    /// Claims the page, if its word is still `word` and it is not pinned.
    fn claim(&self, page: PageIndex, word: Word) -> bool {
        let table = &self.core.table;
        if table.pins().has(page) || table.claim(page, word).is_err() {
            return false;
        }
        // A thread that pins the page from here on finds it claimed, and takes it back.
        let pinned = table.pins().has(page);
        if pinned {
            table.leave_batch(page, |word| word);
        }
        !pinned
    }

    /// Claims and evicts pages of `within` that are at least `min_age` old, until `done` has `most` pages.
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
            // Before its pages count as old, a region has to be scanned in this tick. With `min_age` 0 the scan
            // comes in any case: a page younger than a tick may have been touched since it was armed.
            if min_age > 0 {
                let Some(armed_for) = self.schedule(region).armed_for(now) else { continue };
                if !pages.iter().any(|page| self.may_go(page, now, armed_for, min_age).is_some()) {
                    continue;
                }
            }
            if min_age == 0 || !self.schedule(region).is_fresh(now, self.interval) {
                done.refusal = self.scan_region(region, range, now, true).err().or(done.refusal);
            }
            let Some(armed_for) = self.schedule(region).armed_for(now) else { continue };
            for page in pages.iter() {
                let Some(word) = self.may_go(page, now, armed_for, min_age) else { continue };
                if self.claim(page, word) {
                    self.progress.begin(page);
                    self.batch.push(page);
                }
                if self.batch.is_full() || done.pages + self.batch.len() >= most {
                    self.batch.flush(&self.core, &self.progress, now, done);
                    if done.pages >= most || done.store_full {
                        self.cursor = region;
                        return;
                    }
                }
            }
            // The pages of a batch lie in one region.
            self.batch.flush(&self.core, &self.progress, now, done);
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
