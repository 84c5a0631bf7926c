//! When to look at a region again.
//!
//! Looking costs a walk through the page table, and watching costs whoever touches a watched page a
//! fault inside the kernel. So neither is done where there is nothing to learn:
//!
//! * Where nearly every page is touched every time, the region *rests* for one look, then for three,
//!   up to 31. While it rests its pages are not armed and count as touched.
//! * Where no page is touched, the region stays watched, and is looked at only every second time,
//!   then every fourth, up to every sixteenth. A touch is found that much later, but never too late:
//!   before pages are chosen for eviction their region is looked at in any case.

use crate::prim::Tick;
use crate::prim::pack::Field;
use crate::prim::sync::{AtomicU64, Ordering};
use crate::sys::SysError;
use crate::sys::memory::LazySlice;

/// A region rests for 2^level - 1 schedule.
const MOST_RESTING: u64 = 5;
/// A quiet region is looked at every 2^(level - 1) schedule.
const MOST_QUIET: u64 = 5;

const WATCHED: Field = Field::lowest(1);
/// How often in a row nearly all pages were touched.
const HOT: Field = WATCHED.then(4);
/// How often in a row none was.
const QUIET: Field = HOT.then(4);
/// Since when the region is watched, if it is.
const SINCE: Field = QUIET.then(Tick::BITS);
/// When it is to be looked at, or watched again.
const DUE: Field = SINCE.then(Tick::BITS);

/// A word per region, zero being one that was never looked at. Used by one thread.
#[derive(Debug)]
pub(super) struct ScanSchedule(LazySlice<AtomicU64>);

impl ScanSchedule {
    pub(super) fn new(regions: usize) -> Result<Self, SysError> {
        LazySlice::new(regions).map(Self)
    }

    fn get(&self, region: usize) -> u64 {
        self.0[region].load(Ordering::Relaxed)
    }

    fn set(&self, region: usize, word: u64) {
        self.0[region].store(word, Ordering::Relaxed);
    }

    /// Whether there may be something to learn at `now`.
    pub(super) fn is_due(&self, region: usize, now: Tick) -> bool {
        let word = self.get(region);
        // No wait is longer; what seems to be further ahead is a time long gone.
        let ahead = now.age_at(Tick::new(DUE.get(word)));
        word == 0 || ahead == 0 || ahead > 1 << MOST_RESTING
    }

    pub(super) fn is_watched(&self, region: usize) -> bool {
        WATCHED.get(self.get(region)) == 1
    }

    /// The region's pages have been armed at `now`.
    pub(super) fn begin(&self, region: usize, now: Tick) {
        let word = QUIET.set(WATCHED.set(self.get(region), 1), 0);
        let word = SINCE.set(word, now.raw().into());
        self.set(region, DUE.set(word, now.after(1).raw().into()));
    }

    /// Whether the watched region has been looked at, or armed for the first time, at `now`.
    pub(super) fn is_fresh(&self, region: usize, now: Tick) -> bool {
        let word = self.get(region);
        let wait = quiet_ticks(QUIET.get(word));
        WATCHED.get(word) == 1 && DUE.get(word) == u64::from(now.after(wait).raw())
    }

    /// The region cannot be watched: it rests for as long as the hottest.
    pub(super) fn rest(&self, region: usize, now: Tick) {
        let word = HOT.set(WATCHED.set(self.get(region), 0), MOST_RESTING);
        self.set(region, DUE.set(word, now.after(1 << MOST_RESTING).raw().into()));
    }

    /// For how many ticks the region has been watched, if it is.
    pub(super) fn watched_for(&self, region: usize, now: Tick) -> Option<u32> {
        let word = self.get(region);
        (WATCHED.get(word) == 1).then(|| Tick::new(SINCE.get(word)).age_at(now))
    }

    /// Notes what a look at a watched region found, and says whether the region rests now.
    pub(super) fn note(&self, region: usize, now: Tick, touched: usize, resident: usize) -> bool {
        let word = self.get(region);
        let due_in = |word, ticks| DUE.set(word, now.after(ticks).raw().into());
        if touched == 0 {
            let quiet = (QUIET.get(word) + 1).min(MOST_QUIET);
            let word = QUIET.set(HOT.set(word, 0), quiet);
            self.set(region, due_in(word, quiet_ticks(quiet)));
            return false;
        }
        let word = QUIET.set(word, 0);
        if touched * 8 < resident * 7 {
            self.set(region, due_in(HOT.set(word, 0), 1));
            return false;
        }
        let hot = HOT.get(word);
        let word = HOT.set(word, (hot + 1).min(MOST_RESTING));
        if hot == 0 {
            // Once is no habit.
            self.set(region, due_in(word, 1));
            return false;
        }
        self.set(region, due_in(WATCHED.set(word, 0), (1 << hot) - 1));
        true
    }
}

/// Ticks from one look at a watched region to the next.
fn quiet_ticks(quiet: u64) -> u32 {
    (1 << quiet >> 1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: usize = 3;

    /// Looks at the region eight times as soon as it is due, and says how long each wait was.
    fn waits(schedule: &ScanSchedule, now: &mut Tick, touched: usize) -> Vec<u32> {
        let mut look = || {
            let before = *now;
            if !schedule.is_watched(REGION) {
                schedule.begin(REGION, *now);
                *now = now.after(1);
            }
            schedule.note(REGION, *now, touched, 512);
            while !schedule.is_due(REGION, *now) {
                *now = now.after(1);
            }
            before.age_at(*now)
        };
        (0..8).map(|_| look()).collect()
    }

    #[test]
    fn hot_regions_rest_and_are_looked_at_again_when_they_cool() {
        let schedule = ScanSchedule::new(8).unwrap();
        let mut now = Tick::new(u64::from(Tick::MAX_AGE) - 10);
        assert!(schedule.is_due(REGION, now));
        // From the second on a tick of watching, then the rest.
        assert_eq!(waits(&schedule, &mut now, 500), [2, 1, 4, 8, 16, 32, 32, 32]);
        assert_eq!(schedule.watched_for(REGION, now), None);
        schedule.begin(REGION, now);
        assert!(!schedule.note(REGION, now.after(1), 100, 512));
        assert_eq!(schedule.watched_for(REGION, now.after(2)), Some(2));
        assert!(!schedule.note(REGION, now.after(2), 512, 512), "once is no habit");
    }

    #[test]
    fn quiet_regions_are_looked_at_more_seldom_until_they_are_touched() {
        let schedule = ScanSchedule::new(8).unwrap();
        let mut now = Tick::new(5);
        schedule.begin(REGION, now);
        assert_eq!(waits(&schedule, &mut now, 0), [1, 2, 4, 8, 16, 16, 16, 16]);
        assert!(!schedule.is_fresh(REGION, now));
        schedule.note(REGION, now, 1, 512);
        assert!(schedule.is_fresh(REGION, now) && !schedule.is_fresh(REGION, now.after(1)));
        assert!(!schedule.is_due(REGION, now) && schedule.is_due(REGION, now.after(1)));
        assert_eq!(schedule.watched_for(REGION, now), Some(now.raw() - 5));
    }
}
