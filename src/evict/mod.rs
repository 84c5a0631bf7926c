//! From cold to stored: scan for touched pages, and evict untouched ones.
//!
//! An arena has one [`Evictor`], which one thread uses. A cycle is [`look`](Evictor::look) at the accessed
//! bits, [`scan`](Evictor::scan), then [`evict_cold`](Evictor::evict_cold). Above a limit the cycle takes
//! [`ages`](Evictor::ages), from which the policy makes an [`EvictionPlan`], and
//! [`execute`](Evictor::execute)s it.

mod batch;
mod regions;
mod watching;

use crate::policy::{AgeHistogram, EvictionPlan, RegionSchedule, TrackingBudget};
use crate::prim::{PageIndex, PageRange, Tick};
use crate::stats::Progress;
use crate::sys::SysError;
use crate::table::{State, Word};
use crate::track::{Core, References};
use batch::Batch;
use regions::{Regions, in_memory};
use std::sync::Arc;
use std::time::Duration;
use watching::Resting;

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

/// How an evictor tracks and evicts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EvictorOptions {
    /// The age in ticks from which a page is cold.
    pub(crate) cold_age: u32,
    /// Whether batches have many pages, one page, and a few pages in turn.
    pub(crate) zeal: bool,
    /// The share of a processor that tracking may cost; see [`TrackingBudget`].
    pub(crate) tracking_budget: f64,
    /// The shortest time from one look at the accessed bits to the next.
    pub(crate) look_interval: Duration,
}

impl EvictorOptions {
    /// Ticks from one scan of a region to the next. Without accessed bits armed regions are scanned every tick,
    /// because the scan also finds the regions that should rest.
    fn scan_interval(&self, accessed_bits: bool) -> u32 {
        let ticks = if accessed_bits { self.cold_age / 8 } else { 1 };
        ticks.clamp(1, RegionSchedule::MAX_INTERVAL)
    }

    /// The time in ticks without a reference after which the evictor arms a resting region. Until its pages are
    /// cold, the evictor then notices each touch, if the watch `sees_pages`.
    fn arm_age(&self, sees_pages: bool) -> u32 {
        if sees_pages { self.cold_age / 2 } else { self.cold_age }
    }
}

#[cfg(test)]
impl EvictorOptions {
    /// Options of tests: pages do not get cold by themselves, and nothing is too expensive.
    pub(crate) const TEST: Self = Self {
        cold_age: Tick::MAX_AGE / 2,
        zeal: false,
        tracking_budget: 1.0,
        look_interval: Duration::ZERO,
    };
}

/// Which regions a scan arms and scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Those that are due, as far as the tracking budget goes.
    Due,
    /// Also those that are armed, idle or thin, beyond the budget too. The arena is above its limit.
    Wanted,
    /// All of them.
    All,
}

/// Scans, claims, compresses and drops.
#[derive(Debug)]
pub(crate) struct Evictor {
    core: Arc<Core>,
    options: EvictorOptions,
    /// The page that the evictor is at, for the watchdog.
    progress: Arc<Progress>,
    regions: Regions,
    /// The accessed bits, where the system has them.
    resting: Option<Resting>,
    budget: TrackingBudget,
    /// Whether the arena is close to its limit or above it. The evictor then arms new regions at once, so that it
    /// knows the ages of their pages when it has to choose.
    pressed: bool,
    /// The regions in which the last scan found cold pages.
    cold: Vec<(usize, PageRange)>,
    batch: Batch,
    /// The number of the region at which the next sweep begins.
    cursor: usize,
    /// The number of the region at which the next scan begins: the last one ran out of its budget there.
    scan_cursor: usize,
}

impl Evictor {
    /// An evictor of the pages of `core`. With `references` it arms only regions that are idle or thinly used.
    pub(crate) fn new(
        core: Arc<Core>,
        options: EvictorOptions,
        references: Option<References>,
    ) -> Result<Self, SysError> {
        let interval = options.scan_interval(references.is_some());
        Ok(Self {
            regions: Regions::new(core.table.all().pages(), interval)?,
            core,
            options,
            progress: Arc::default(),
            resting: references.map(Resting::new),
            budget: TrackingBudget::new(options.tracking_budget),
            pressed: false,
            cold: Vec::new(),
            batch: Batch::new(options.zeal),
            cursor: 0,
            scan_cursor: 0,
        })
    }

    /// Changes the age in ticks from which a page is cold, and how often the evictor looks at accessed bits.
    pub(crate) fn set_cold_age(&mut self, ticks: u32, look_interval: Duration, now: Tick) {
        (self.options.cold_age, self.options.look_interval) = (ticks, look_interval);
        let interval = self.options.scan_interval(self.resting.is_some());
        self.regions.set_ages(
            &self.core.table,
            interval,
            self.options.arm_age(self.core.watch.sees_pages()),
            now,
        );
        if let Some(resting) = &mut self.resting {
            resting.look_soon();
        }
    }

    /// Changes what tracking may cost, as a share of one processor.
    pub(crate) fn set_tracking_budget(&mut self, share: f64) {
        self.budget.set_share(share);
    }

    /// Whether the arena is close to its limit or above it, from now on.
    pub(crate) fn set_pressed(&mut self, pressed: bool) {
        self.pressed = pressed;
    }

    /// The page that the evictor is at while it has claimed pages.
    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// The ages of the evictable pages: those that are in memory and armed, do not back off and are not
    /// pinned. A plan must not count on any other page.
    pub(crate) fn ages(&self, now: Tick) -> AgeHistogram {
        let mut ages = AgeHistogram::default();
        let table = &self.core.table;
        let pins = table.pins();
        let any_pinned = pins.any();
        for (region, range) in in_memory(table, table.all()) {
            let Some(armed_for) = self.regions.get(region).armed_for(now) else {
                continue;
            };
            for page in range.iter().filter(|page| !any_pinned || !pins.has(*page)) {
                if let Some(age) = evictable_age(table.load(page), now, armed_for) {
                    ages.add(age);
                }
            }
        }
        ages
    }

    /// Evicts the cold pages that the last scan has found.
    pub(crate) fn evict_cold(&mut self, now: Tick) -> Evicted {
        let mut done = Evicted::default();
        let cold = std::mem::take(&mut self.cold);
        self.sweep(now, self.options.cold_age, usize::MAX, self.core.table.all(), cold, &mut done);
        done
    }

    /// Evicts the pages that `plan` names, as far as possible. The pages that must go come first.
    pub(crate) fn execute(&mut self, now: Tick, plan: EvictionPlan) -> Evicted {
        let mut done = Evicted::default();
        let all = self.core.table.all();
        if plan.all_from <= Tick::MAX_AGE {
            self.sweep_all(now, plan.all_from, plan.pages, all, &mut done);
        }
        if plan.some_from < plan.all_from && done.pages < plan.pages && !done.store_full {
            self.sweep_all(now, plan.some_from, plan.pages, all, &mut done);
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
        self.sweep_all(now, 0, usize::MAX, within, &mut done);
        self.trim();
        done
    }

    /// The page's word, if the evictor may evict the page: it is in memory, at least `min_age` old, and does not
    /// back off.
    fn may_go(&self, page: PageIndex, now: Tick, armed_for: u32, min_age: u32) -> Option<Word> {
        let word = self.core.table.load(page);
        evictable_age(word, now, armed_for).filter(|age| *age >= min_age).map(|_| word)
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

    /// As [`sweep`](Self::sweep), for all regions.
    fn sweep_all(
        &mut self,
        now: Tick,
        min_age: u32,
        most: usize,
        within: PageRange,
        done: &mut Evicted,
    ) {
        let mut regions: Vec<_> = in_memory(&self.core.table, within).collect();
        let first = regions.partition_point(|(region, _)| *region < self.cursor);
        regions.rotate_left(first);
        self.sweep(now, min_age, most, within, regions, done);
    }

    /// Claims and evicts pages of `regions` in `within` that are at least `min_age` old, until `done` has `most`
    /// pages.
    fn sweep(
        &mut self,
        now: Tick,
        min_age: u32,
        most: usize,
        within: PageRange,
        regions: Vec<(usize, PageRange)>,
        done: &mut Evicted,
    ) {
        for (region, range) in regions {
            let pages = range.intersection(within);
            // Before its pages count as old, a region has to be scanned in this tick. With `min_age` 0 the scan
            // comes in any case: a page younger than a tick may have been touched since it was armed.
            if min_age > 0 {
                let Some(armed_for) = self.regions.get(region).armed_for(now) else { continue };
                if !pages.iter().any(|page| self.may_go(page, now, armed_for, min_age).is_some()) {
                    continue;
                }
            }
            if min_age == 0 || !self.regions.get(region).is_fresh(now) {
                done.refusal = self.scan_region(region, range, now, true).err().or(done.refusal);
            }
            let Some(armed_for) = self.regions.get(region).armed_for(now) else { continue };
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

/// The age of a page, if the evictor may evict the page. Its region has been armed for `armed_for` ticks.
fn evictable_age(word: Word, now: Tick, armed_for: u32) -> Option<u32> {
    let may_go = word.state() == State::Resident && !word.is_backing_off(now);
    may_go.then(|| word.tick().age_at(now).min(armed_for))
}

#[cfg(test)]
#[cfg(not(thermocline_sim))]
mod tests;
