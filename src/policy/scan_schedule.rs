//! When the evictor scans a region again.
//!
//! A scan walks through the page table, and the next touch of an armed page is a fault inside the kernel. So the
//! evictor neither scans nor arms where it would learn nothing:
//!
//! * In a *hot* region nearly every page is touched between two scans. It rests for one scan interval, then
//!   for three, up to 31. While it rests its pages are not armed and count as touched.
//! * In a *quiet* region no page is touched. It stays armed, and the evictor scans it only every second
//!   interval, then every fourth, up to every sixteenth. The evictor then notices a touch later, which
//!   does no harm: it scans a region again before it evicts pages of the region.

use crate::prim::Tick;
use crate::prim::pack::Field;

/// A hot region rests for 2^level - 1 intervals.
const MAX_HOT_LEVEL: u64 = 5;
/// The evictor scans a quiet region every 2^(level - 1) intervals.
const MAX_QUIET_LEVEL: u64 = 5;

const ARMED: Field = Field::lowest(1);
/// How many scans in a row found nearly all pages touched.
const HOT: Field = ARMED.then(4);
/// How many scans in a row found no page touched.
const QUIET: Field = HOT.then(4);
/// The tick in which the region was armed, if it is.
const SINCE: Field = QUIET.then(Tick::BITS);
/// The tick in which to scan or arm the region again.
const DUE: Field = SINCE.then(Tick::BITS);

/// A region's place in the schedule. Zero is a region that was never armed.
///
/// Times are ticks. A scan interval is a number of ticks, and may differ from one call to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RegionSchedule(u64);

impl RegionSchedule {
    /// The longest scan interval: the longest rest must be far shorter than a turn of the clock.
    pub(crate) const MAX_INTERVAL: u32 = Tick::MAX_AGE >> (MAX_HOT_LEVEL + 1);

    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    fn due_after(self, now: Tick, ticks: u32) -> Self {
        Self(DUE.set(self.0, now.after(ticks).raw().into()))
    }

    /// Whether the time to scan or arm the region has come.
    pub(crate) fn is_due(self, now: Tick, interval: u32) -> bool {
        // No wait is longer than the longest rest. A tick further ahead is in the past: ticks turn over.
        let ahead = now.age_at(Tick::new(DUE.get(self.0)));
        self.0 == 0 || ahead == 0 || ahead > interval << MAX_HOT_LEVEL
    }

    /// Whether the region is armed.
    pub(crate) fn is_armed(self) -> bool {
        ARMED.get(self.0) == 1
    }

    /// For how many ticks the region has been armed, if it is.
    pub(crate) fn armed_for(self, now: Tick) -> Option<u32> {
        self.is_armed().then(|| Tick::new(SINCE.get(self.0)).age_at(now))
    }

    /// Whether the evictor has scanned the armed region, or armed it for the first time, at `now`.
    pub(crate) fn is_fresh(self, now: Tick, interval: u32) -> bool {
        let wait = quiet_ticks(QUIET.get(self.0), interval);
        self.is_armed() && DUE.get(self.0) == u64::from(now.after(wait).raw())
    }

    /// The evictor has armed the region's pages at `now`.
    #[must_use]
    pub(crate) fn armed(self, now: Tick, interval: u32) -> Self {
        let word = QUIET.set(ARMED.set(self.0, 1), 0);
        Self(SINCE.set(word, now.raw().into())).due_after(now, interval)
    }

    /// The kernel refused to arm or to scan the region. It rests as long as the hottest region.
    #[must_use]
    pub(crate) fn refused(self, now: Tick, interval: u32) -> Self {
        let word = HOT.set(ARMED.set(self.0, 0), MAX_HOT_LEVEL);
        Self(word).due_after(now, interval << MAX_HOT_LEVEL)
    }

    /// A scan of the armed region has found `touched` of its `resident` pages touched. The region rests from
    /// here on if it is no longer armed.
    #[must_use]
    pub(crate) fn scanned(self, now: Tick, interval: u32, touched: usize, resident: usize) -> Self {
        if touched == 0 {
            let quiet = (QUIET.get(self.0) + 1).min(MAX_QUIET_LEVEL);
            let word = QUIET.set(HOT.set(self.0, 0), quiet);
            return Self(word).due_after(now, quiet_ticks(quiet, interval));
        }
        let word = QUIET.set(self.0, 0);
        if touched * 8 < resident * 7 {
            return Self(HOT.set(word, 0)).due_after(now, interval);
        }
        let hot = HOT.get(word);
        let word = HOT.set(word, (hot + 1).min(MAX_HOT_LEVEL));
        if hot == 0 {
            // One scan does not make a region hot.
            return Self(word).due_after(now, interval);
        }
        Self(ARMED.set(word, 0)).due_after(now, ((1 << hot) - 1) * interval)
    }
}

/// Ticks from one scan of an armed region to the next.
fn quiet_ticks(quiet: u64, interval: u32) -> u32 {
    (1 << quiet >> 1).max(1) * interval
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scans the region eight times, each time as soon as it is due, and gives each wait in intervals.
    fn waits(
        region: &mut RegionSchedule,
        now: &mut Tick,
        interval: u32,
        touched: usize,
    ) -> Vec<u32> {
        let mut scan = || {
            let before = *now;
            if !region.is_armed() {
                *region = region.armed(*now, interval);
                *now = now.after(interval);
            }
            *region = region.scanned(*now, interval, touched, 512);
            while !region.is_due(*now, interval) {
                *now = now.after(1);
            }
            let wait = before.age_at(*now);
            assert!(wait.is_multiple_of(interval));
            wait / interval
        };
        (0..8).map(|_| scan()).collect()
    }

    #[test]
    fn a_hot_region_rests_and_is_scanned_again_when_it_cools() {
        for interval in [1, 3] {
            let mut region = RegionSchedule::default();
            let mut now = Tick::new(u64::from(Tick::MAX_AGE) - 10);
            assert!(region.is_due(now, interval));
            // From the second scan on: an interval armed, then the rest.
            let rests = [2, 1, 4, 8, 16, 32, 32, 32];
            assert_eq!(waits(&mut region, &mut now, interval, 500), rests);
            assert_eq!(region.armed_for(now), None);
            region = region.armed(now, interval);
            region = region.scanned(now.after(1), interval, 100, 512);
            assert_eq!(region.armed_for(now.after(2)), Some(2));
            region = region.scanned(now.after(2), interval, 512, 512);
            assert!(region.is_armed(), "one scan does not make a region hot");
        }
    }

    #[test]
    fn a_quiet_region_is_scanned_more_seldom_until_a_page_is_touched() {
        for interval in [1, 3] {
            let mut now = Tick::new(5);
            let mut region = RegionSchedule::default().armed(now, interval);
            let rests = [1, 2, 4, 8, 16, 16, 16, 16];
            assert_eq!(waits(&mut region, &mut now, interval, 0), rests);
            assert!(!region.is_fresh(now, interval));
            region = region.scanned(now, interval, 1, 512);
            assert!(region.is_fresh(now, interval) && !region.is_fresh(now.after(1), interval));
            let later = now.after(interval);
            assert!(!region.is_due(now, interval) && region.is_due(later, interval));
            assert_eq!(region.armed_for(now), Some(now.raw() - 5));
        }
    }

    #[test]
    fn a_refused_region_rests_for_the_longest_time() {
        let now = Tick::new(9);
        let region = RegionSchedule::default().armed(now, 2).refused(now, 2);
        assert!(!region.is_armed() && !region.is_due(now.after(63), 2));
        assert!(region.is_due(now.after(64), 2));
    }
}
