//! The place of each region in the schedule, and which regions are due.

use crate::policy::RegionSchedule;
use crate::prim::sync::{AtomicU64, Ordering};
use crate::prim::{PageRange, REGION_PAGES, Tick};
use crate::sys::SysError;
use crate::sys::memory::LazySlice;
use crate::table::{GROUP_REGIONS, PageTable};

/// The schedules of all regions.
///
/// Regions form groups of 1 GiB. The evictor visits the groups in which a region may be due, so that the time
/// that a scan takes does not depend on the memory that stays as it is.
#[derive(Debug)]
pub(super) struct Regions {
    /// A [`RegionSchedule`] for each region.
    schedules: LazySlice<AtomicU64>,
    /// For each group the tick in which a region of it is due first, if one is ever due.
    due: Vec<Option<Tick>>,
    /// Ticks from one scan of a region to the next.
    interval: u32,
}

impl Regions {
    /// Schedules for `pages` pages. The evictor scans a region every `interval` ticks.
    pub(super) fn new(pages: usize, interval: u32) -> Result<Self, SysError> {
        debug_assert!((1..=RegionSchedule::MAX_INTERVAL).contains(&interval));
        let regions = pages.div_ceil(REGION_PAGES);
        Ok(Self {
            schedules: LazySlice::new(regions)?,
            due: vec![None; regions.div_ceil(GROUP_REGIONS)],
            interval,
        })
    }

    pub(super) fn interval(&self) -> u32 {
        self.interval
    }

    /// Changes the interval and the arm age of idle regions, and has the evictor visit all regions anew.
    pub(super) fn set_ages(&mut self, table: &PageTable, interval: u32, arm_age: u32, now: Tick) {
        debug_assert!((1..=RegionSchedule::MAX_INTERVAL).contains(&interval));
        self.interval = interval;
        for (region, _) in in_memory(table, table.all()) {
            let schedule = self.get(region).with_arm_age(arm_age);
            self.schedules[region].store(schedule.raw(), Ordering::Relaxed);
        }
        (0..self.due.len()).for_each(|group| self.visit_within(group, now, 0));
    }

    pub(super) fn get(&self, region: usize) -> RegionSchedule {
        RegionSchedule::from_raw(self.schedules[region].load(Ordering::Relaxed))
    }

    /// Sets a region's schedule at `now`.
    pub(super) fn set(&mut self, region: usize, schedule: RegionSchedule, now: Tick) {
        self.schedules[region].store(schedule.raw(), Ordering::Relaxed);
        if !schedule.waits_for_references() {
            let ticks = schedule.ticks_until_due(now, self.interval);
            self.visit_within(region / GROUP_REGIONS, now, ticks);
        }
    }

    /// Has the evictor visit a group in `ticks` ticks at the latest.
    fn visit_within(&mut self, group: usize, now: Tick, ticks: u32) {
        let due = &mut self.due[group];
        if due.is_none_or(|due| ticks_until(due, now) > ticks) {
            *due = Some(now.after(ticks));
        }
    }

    /// Has no region wait for its accessed bits any more.
    pub(super) fn wake_all(&mut self, table: &PageTable, now: Tick) {
        for (region, _) in in_memory(table, table.all()) {
            let schedule = self.get(region);
            if schedule.waits_for_references() {
                self.set(region, RegionSchedule::default(), now);
            }
        }
    }

    /// The evictor meets the region anew when it has memory again.
    pub(super) fn forget(&mut self, region: usize) {
        self.schedules[region].store(RegionSchedule::default().raw(), Ordering::Relaxed);
    }

    /// The regions that hold memory and that are new or due, in order. The evictor must set their schedules
    /// anew, or [leave them due](Self::leave_due).
    pub(super) fn take_due(&mut self, table: &PageTable, now: Tick) -> Vec<(usize, PageRange)> {
        let mut regions = Vec::new();
        for group in 0..table.extent().end.0.div_ceil(REGION_PAGES * GROUP_REGIONS) {
            let is_due = self.due[group].is_some_and(|due| ticks_until(due, now) == 0);
            if !table.take_grown(group) && !is_due {
                continue;
            }
            self.due[group] = None;
            for (region, range) in in_memory(table, group_pages(group)) {
                let schedule = self.get(region);
                if schedule.waits_for_references() {
                    continue;
                }
                match schedule.ticks_until_due(now, self.interval) {
                    0 => regions.push((region, range)),
                    ticks => self.visit_within(group, now, ticks),
                }
            }
        }
        regions
    }

    /// A region that is due stays due.
    pub(super) fn leave_due(&mut self, region: usize, now: Tick) {
        self.visit_within(region / GROUP_REGIONS, now, 0);
    }
}

/// Ticks from `now` until `due`, zero if `due` has passed.
fn ticks_until(due: Tick, now: Tick) -> u32 {
    let ahead = now.age_at(due);
    if ahead > Tick::MAX_AGE / 2 { 0 } else { ahead }
}

fn group_pages(group: usize) -> PageRange {
    let pages = REGION_PAGES * GROUP_REGIONS;
    PageRange::new(group * pages, (group + 1) * pages)
}

/// The regions that hold memory and have a page in `within`, with their numbers.
pub(super) fn in_memory(
    table: &PageTable,
    within: PageRange,
) -> impl Iterator<Item = (usize, PageRange)> {
    let extent = table.extent();
    let first = within.start.0 / REGION_PAGES;
    let end = within.end.0.min(extent.end.0).div_ceil(REGION_PAGES);
    (first..end).filter(|region| table.pages_in_memory(*region) > 0).map(move |region| {
        let start = region * REGION_PAGES;
        (region, PageRange::new(start, start + REGION_PAGES).intersection(extent))
    })
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::prim::PageIndex;
    use crate::table::Word;

    fn fill(table: &PageTable, page: usize) {
        table.begin_fill(PageIndex(page), Word::EMPTY).unwrap();
        let _ = table.finish_fill(PageIndex(page), Word::EMPTY);
    }

    fn taken(regions: &mut Regions, table: &PageTable, now: u64) -> Vec<usize> {
        let due = regions.take_due(table, Tick::new(now));
        due.into_iter().map(|(region, _)| region).collect()
    }

    #[test]
    fn new_regions_and_due_regions_are_visited() {
        let pages = 3 * GROUP_REGIONS * REGION_PAGES;
        let table = PageTable::new(pages).unwrap();
        let mut regions = Regions::new(pages, 4).unwrap();
        assert!(taken(&mut regions, &table, 1).is_empty());
        let far = 2 * GROUP_REGIONS + 7;
        fill(&table, 5 * REGION_PAGES);
        fill(&table, far * REGION_PAGES + 3);
        assert_eq!(taken(&mut regions, &table, 1), [5, far]);
        let now = Tick::new(1);
        regions.set(5, RegionSchedule::default().armed(now, 4), now);
        regions.set(far, RegionSchedule::default().resting(now), now);
        // The first one is due in four ticks. The other one waits for its accessed bits.
        assert!(taken(&mut regions, &table, 4).is_empty());
        fill(&table, 6 * REGION_PAGES);
        assert_eq!(taken(&mut regions, &table, 4), [6]);
        regions.leave_due(6, Tick::new(4));
        assert_eq!(taken(&mut regions, &table, 5), [5, 6]);
        let idle = regions.get(far).looked(Tick::new(6), false, 3);
        regions.set(far, idle, Tick::new(6));
        assert!(!taken(&mut regions, &table, 8).contains(&far));
        assert!(taken(&mut regions, &table, 9).contains(&far));
    }
}
