//! Looks at accessed bits, arming and scans.

use super::{Evictor, Reach, in_memory};
use crate::policy::{Densities, Density, Touched};
use crate::prim::{PageRange, REGION_PAGES, Tick};
use crate::sys::accessed::Look;
use crate::sys::{SysError, thread};
use crate::track::{Core, References};
use std::cell::Cell;
use std::time::Duration;

/// The accessed bits of resting regions, and the looks at them.
#[derive(Debug)]
pub(super) struct Resting {
    references: References,
    /// The time of the next look, from the arena's start.
    next: Duration,
    /// The time from which a look that the arena's limit asks for may come.
    next_wanted: Duration,
    /// The tick since which the accessed bits count: that of the last look that cleared them, or that was
    /// interrupted.
    since: Tick,
    /// The time of the last clear, from the arena's start.
    cleared: Option<Duration>,
    /// Pages in memory at the last clear, and pages that had been evicted by then.
    filled: u64,
    /// How many looks in a row have failed or were interrupted.
    useless: u32,
    /// Regions of which few pages were referenced before the last clear, the thinnest last.
    thin: Vec<usize>,
    /// Regions in small pages of which the last clear found too many in use to evict them.
    dense: Vec<usize>,
    /// How densely each region is used.
    densities: Densities,
    /// Huge regions whose density is to be measured.
    unmeasured: Vec<usize>,
    /// Cycles to go without an attempt to make a region huge: the kernel has refused the last one.
    pause: u32,
}

/// Cycles without an attempt after the kernel has refused to make a region huge.
const PAUSE: u32 = 64;

/// After this many failed or interrupted looks in a row the evictor does without accessed bits. An arena's first
/// look counts as interrupted.
const MOST_USELESS: u32 = 8;

/// A look asks for at least this many regions: 32 GiB.
const FEWEST_REGIONS: usize = 1 << 14;

impl Resting {
    /// Has the evictor look at the accessed bits in its next cycle.
    pub(super) fn look_soon(&mut self) {
        self.next = Duration::ZERO;
    }

    pub(super) fn new(references: References) -> Self {
        Self {
            references,
            next: Duration::ZERO,
            next_wanted: Duration::ZERO,
            since: Tick::default(),
            cleared: None,
            filled: 0,
            useless: 0,
            thin: Vec::new(),
            dense: Vec::new(),
            densities: Densities::default(),
            unmeasured: Vec::new(),
            pause: 0,
        }
    }
}

impl Evictor {
    /// Adds to the tracking budget for the time since the arena's start, and looks at the accessed bits if the
    /// next look is due.
    pub(crate) fn look(&mut self, now: Tick, elapsed: Duration) {
        self.budget.accrue(elapsed);
        if self.resting.as_ref().is_some_and(|resting| resting.next <= elapsed) {
            self.look_now(now, elapsed, false);
        }
    }

    /// Looks at the accessed bits and clears them, beyond the tracking budget: the arena is above its limit, and
    /// idle regions are the first to evict. Looks take a tenth of the evictor's time at most.
    pub(crate) fn look_for_idle(&mut self, now: Tick, elapsed: Duration) {
        if self.resting.as_ref().is_some_and(|resting| resting.next_wanted <= elapsed) {
            self.look_now(now, elapsed, true);
        }
    }

    fn look_now(&mut self, now: Tick, elapsed: Duration, wanted: bool) {
        let started = thread::cpu_time();
        let looked = self.try_look(now, elapsed, wanted);
        let nanos = nanos_since(started);
        let counters = &self.core.counters;
        counters.tracking_nanos.add(nanos);
        let Some(resting) = &mut self.resting else { return };
        match looked {
            Ok(Look::Whole) => resting.useless = 0,
            Ok(Look::Interrupted) => resting.useless += 1,
            Err(_) => {
                counters.accessed_errors.add(1);
                resting.useless += 1;
            }
        }
        if resting.useless >= MOST_USELESS {
            counters.accessed_errors.add(1);
            self.resting = None;
            self.regions.wake_all(&self.core.table, now);
            return;
        }
        resting.next = elapsed + self.budget.look_interval(nanos, self.options.look_interval);
        resting.next_wanted = elapsed + Duration::from_nanos(nanos.saturating_mul(10));
    }

    fn try_look(&mut self, now: Tick, elapsed: Duration, wanted: bool) -> Result<Look, SysError> {
        let Some(resting) = &mut self.resting else { return Ok(Look::Whole) };
        let table = &self.core.table;
        let counters = &self.core.counters;
        // Somewhat more than there are, so that an arena that grows asks for the same regions again.
        let regions = table.extent().end.0.div_ceil(REGION_PAGES).next_power_of_two();
        let all = table.all().pages().div_ceil(REGION_PAGES);
        let regions = regions.max(FEWEST_REGIONS).min(all);
        // A fault that fills a page sets its bit too, at no cost. Pages that were freed count as if they had not
        // been filled.
        let filled = table.resident() as u64 + counters.evicted_pages.get();
        let newly_filled = filled.saturating_sub(resting.filled);
        let set_again = Cell::new(None);
        let budget = &self.budget;
        let clears = |referenced: u64| {
            let bits = referenced.saturating_sub(newly_filled);
            let due = resting.cleared.map(|cleared| cleared + budget.clear_interval(bits));
            let clears = wanted || due.is_none_or(|due| due <= elapsed);
            set_again.set(clears.then_some(bits));
            clears
        };
        let look = resting.references.look(regions, &clears)?;
        counters.accessed_scans.add(1);
        if look == Look::Interrupted {
            counters.accessed_interruptions.add(1);
        }
        let cleared = set_again.get();
        if let Some(bits) = cleared {
            let costs = resting.references.costs();
            self.budget.set_costs(costs.fault_nanos, costs.bit_nanos);
            // The bits before the first clear were not set because of one.
            let bits = resting.cleared.map_or(0, |_| bits);
            counters.tracking_fault_nanos.add(self.budget.lost_by_bits(bits));
            (resting.cleared, resting.filled) = (Some(elapsed), filled);
            resting.thin.clear();
            resting.dense.clear();
            resting.unmeasured.clear();
        }
        self.note_references(now, look, cleared.is_some());
        Ok(look)
    }

    /// Notes which resting regions the last look found referenced.
    fn note_references(&mut self, now: Tick, look: Look, cleared: bool) {
        let Some(resting) = &mut self.resting else { return };
        let table = &self.core.table;
        let sees_pages = self.core.watch.sees_pages();
        let may_be_huge = self.core.backing.may_be_huge();
        let since = resting.since;
        if look == Look::Interrupted {
            resting.densities.restart();
        }
        let (mut emptied, mut thin) = (Vec::new(), Vec::new());
        for region in resting.references.resting() {
            let resident = table.pages_in_memory(region);
            if resident == 0 {
                emptied.push(region);
                continue;
            }
            let is_referenced = resting.references.is_referenced(region);
            if is_referenced || look == Look::Whole {
                let schedule = self.regions.get(region);
                let arm_age = self.options.arm_age(sees_pages);
                let next = schedule.looked(since, is_referenced, arm_age);
                if next != schedule {
                    self.regions.set(region, next, now);
                }
            }
            let touched = Touched { touched: resting.references.of(region), resident };
            if !cleared || look != Look::Whole || !is_referenced {
                continue;
            }
            let is_huge = may_be_huge && resting.references.is_huge(region);
            let cold_age = self.options.cold_age;
            if is_huge {
                if resting.densities.is_due(region, now, cold_age) {
                    resting.unmeasured.push(region);
                }
                continue;
            }
            let density = match sees_pages {
                true => resting.densities.see(region, now, touched),
                false => resting.densities.count(region, (since, now), touched, cold_age),
            };
            match density {
                Density::Thin(cold_since) if !sees_pages => thin.push((region, cold_since)),
                Density::Thin(_) => resting.thin.push(region),
                Density::Dense if may_be_huge => resting.dense.push(region),
                Density::Dense | Density::Unknown => {}
            }
        }
        for region in emptied {
            resting.references.set_resting(region, false);
            resting.densities.forget(region);
            self.regions.forget(region);
        }
        for (region, cold_since) in thin {
            // As if it were idle.
            let idle = self.regions.get(region).looked(cold_since, false, 0);
            self.regions.set(region, idle, now);
        }
        if cleared {
            let references = &resting.references;
            resting.thin.sort_by_key(|region| std::cmp::Reverse(references.of(*region)));
        }
        if cleared || look == Look::Interrupted {
            resting.since = now;
        }
    }

    /// Notes in the table the pages that were touched since the last scan, and arms them anew. Arms the regions
    /// that it has a reason to watch page by page. A region for which a system call fails rests; gives the last
    /// error.
    pub(crate) fn scan(&mut self, now: Tick, reach: Reach) -> Result<(), SysError> {
        self.core.table.set_now(now);
        self.cold.clear();
        let result = self.scan_due(now, reach);
        if reach > Reach::Due {
            return result;
        }
        self.make_dense_huge();
        self.split_unmeasured();
        self.arm_thin(now).and(result)
    }

    /// Has the kernel map huge pages as small ones, so that the next look finds how many are in use, as far as the
    /// budget goes.
    fn split_unmeasured(&mut self) {
        let Some(resting) = &mut self.resting else { return };
        while self.budget.allows_scan()
            && let Some(region) = resting.unmeasured.pop()
        {
            if !self.regions.get(region).waits_for_references() {
                continue;
            }
            let started = thread::cpu_time();
            if resting.references.split(region).is_err() {
                return;
            }
            resting.densities.split(region);
            let bits = self.budget.lost_by_bits(REGION_PAGES as u64);
            self.budget.spend(nanos_since(started) + bits, 0);
        }
    }

    /// Has the kernel put huge pages in place of regions that are dense and hot, as far as the budget goes.
    fn make_dense_huge(&mut self) {
        let Some(resting) = &mut self.resting else { return };
        if resting.pause > 0 {
            resting.pause -= 1;
            return;
        }
        while self.budget.allows_scan()
            && let Some(region) = resting.dense.pop()
        {
            let is_whole = self.core.table.pages_in_memory(region) == REGION_PAGES;
            if !is_whole || !self.regions.get(region).waits_for_references() {
                continue;
            }
            let started = thread::cpu_time();
            let start = region * REGION_PAGES;
            let range = PageRange::new(start, start + REGION_PAGES);
            // The kernel collapses no armed page.
            let lifted = self.core.isolation.lift(range);
            let made = lifted.and_then(|()| self.core.backing.make_huge(range));
            self.budget.spend(nanos_since(started), 0);
            match made {
                Ok(()) => self.core.counters.collapsed_pages.add(REGION_PAGES as u64),
                Err(e) if e.is_lack_of_memory() => {
                    resting.pause = PAUSE;
                    return;
                }
                // A page of this region is in use by the kernel, or has just gone.
                Err(_) => {}
            }
        }
    }

    fn scan_due(&mut self, now: Tick, reach: Reach) -> Result<(), SysError> {
        let table = &self.core.table;
        let mut due = self.regions.take_due(table, now);
        if reach > Reach::Due {
            due = in_memory(table, table.all()).collect();
        }
        let first = due.partition_point(|(region, _)| *region < self.scan_cursor);
        due.rotate_left(first);
        let mut result = Ok(());
        let mut stopped_at = None;
        for (region, range) in due {
            let Some(always_arm) = self.is_wanted(region, now, reach) else { continue };
            let is_bounded = reach == Reach::Due && self.resting.is_some() && !self.pressed;
            if is_bounded && !self.budget.allows_scan() {
                stopped_at = stopped_at.or(Some(region));
                self.regions.leave_due(region, now);
                continue;
            }
            result = self.scan_region(region, range, now, always_arm).and(result);
        }
        self.scan_cursor = stopped_at.unwrap_or(0);
        result
    }

    /// Whether a scan has to do with a region, and whether the scan arms it even if it is hot.
    fn is_wanted(&mut self, region: usize, now: Tick, reach: Reach) -> Option<bool> {
        let schedule = self.regions.get(region);
        let Some(resting) = &mut self.resting else {
            return Some(reach == Reach::All);
        };
        let is_watched =
            schedule.is_armed() || schedule.is_idle() || schedule.waits_for_references();
        if !is_watched && self.pressed {
            return Some(false);
        }
        if !is_watched && reach < Reach::All {
            resting.references.set_resting(region, true);
            self.regions.set(region, schedule.resting(now), now);
            return None;
        }
        if schedule.is_armed() || schedule.is_idle() || reach == Reach::All {
            return Some(reach > Reach::Due);
        }
        let resident = self.core.table.pages_in_memory(region);
        let touched = Touched { touched: resting.references.of(region), resident };
        (reach == Reach::Wanted && !touched.are_nearly_all()).then_some(true)
    }

    /// Arms regions that are thinly used, as far as the budget goes.
    fn arm_thin(&mut self, now: Tick) -> Result<(), SysError> {
        let mut result = Ok(());
        while self.budget.allows_scan()
            && let Some(resting) = &mut self.resting
            && let Some(region) = resting.thin.pop()
        {
            let schedule = self.regions.get(region);
            let waits = schedule.ticks_until_due(now, self.regions.interval()) > 0;
            if !schedule.waits_for_references() || waits {
                continue;
            }
            let faults = resting.references.of(region) as u64;
            let start = region * REGION_PAGES;
            let region_pages = PageRange::new(start, start + REGION_PAGES);
            let range = region_pages.intersection(self.core.table.extent());
            result = self.scan_region(region, range, now, true).and(result);
            self.budget.spend(0, faults);
        }
        result
    }

    /// Scans one region and arms it anew. A hot region rests instead, unless `always_arm` is set. A region for
    /// which a system call fails rests.
    pub(super) fn scan_region(
        &mut self,
        region: usize,
        range: PageRange,
        now: Tick,
        always_arm: bool,
    ) -> Result<(), SysError> {
        let started = thread::cpu_time();
        let result = self.try_scan_region(region, range, now, always_arm);
        let schedule = self.regions.get(region);
        if result.is_err() {
            self.core.counters.kernel_errors.add(1);
            self.regions.set(region, schedule.refused(now, self.regions.interval()), now);
        } else {
            self.note_cold(region, range, now);
        }
        if let Some(resting) = &mut self.resting {
            let rests = self.regions.get(region).waits_for_references();
            resting.references.set_resting(region, rests);
        }
        let nanos = nanos_since(started);
        self.budget.spend(nanos, 0);
        self.core.counters.tracking_nanos.add(nanos);
        result
    }

    fn try_scan_region(
        &mut self,
        region: usize,
        range: PageRange,
        now: Tick,
        always_arm: bool,
    ) -> Result<(), SysError> {
        let (core, interval) = (&self.core, self.regions.interval());
        let mut schedule = self.regions.get(region);
        let mut touched = range.pages();
        if schedule.is_armed() && !core.watch.sees_pages() && self.resting.is_some() && !always_arm
        {
            // What was cold is evicted by now. The accessed bits tell about the rest.
            self.regions.set(region, schedule.resting(now), now);
            return Ok(());
        }
        if schedule.is_armed() {
            touched = 0;
            core.watch.touched(range, &mut |run| {
                touched += run.pages();
                run.iter().for_each(|page| core.table.touch(page));
            })?;
            core.counters.scanned_pages.add(range.pages() as u64);
            let lost = self.budget.lost_by_faults(touched as u64);
            core.counters.tracking_fault_nanos.add(lost);
            let pages = Touched { touched, resident: core.table.pages_in_memory(region) };
            schedule = schedule.scanned(now, interval, pages, self.resting.is_some());
            self.regions.set(region, schedule, now);
            if !schedule.is_armed() && !always_arm {
                return Ok(());
            }
            self.budget.spend(0, touched as u64);
        }
        if touched > 0 {
            self.arm(range)?;
            self.core.counters.armed_pages.add(touched as u64);
        }
        if !schedule.is_armed() {
            self.regions.set(region, schedule.armed(now, interval), now);
        }
        Ok(())
    }

    /// Notes whether the armed region has a cold page, or else when it will have one.
    fn note_cold(&mut self, region: usize, range: PageRange, now: Tick) {
        let schedule = self.regions.get(region);
        let Some(armed_for) = schedule.armed_for(now) else { return };
        let table = &self.core.table;
        let pins = table.pins();
        let any_pinned = pins.any();
        let pages = range.iter().filter(|page| !any_pinned || !pins.has(*page));
        let ages = pages.filter_map(|page| super::evictable_age(table.load(page), now, armed_for));
        let Some(oldest) = ages.max() else { return };
        match self.options.cold_age.checked_sub(oldest) {
            None | Some(0) => self.cold.push((region, range)),
            Some(ticks) => {
                let next = schedule.due_within(now, ticks, self.regions.interval());
                self.regions.set(region, next, now);
            }
        }
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
        let lift = |run, pinned| if pinned { isolation.lift(run) } else { Ok(()) };
        armed.and(pins.runs(range, lift))
    }
}

/// Nanoseconds of processor time that the calling thread has used since `started`.
fn nanos_since(started: Duration) -> u64 {
    let used = thread::cpu_time().saturating_sub(started);
    u64::try_from(used.as_nanos()).unwrap_or(u64::MAX)
}
