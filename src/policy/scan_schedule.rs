//! When the evictor scans a region again.
//!
//! A scan walks through the page table, and the next touch of an armed page is a fault inside the kernel. So the
//! evictor neither scans nor arms where it would learn nothing. A region that is not armed *rests*:
//!
//! * Where the evictor can read accessed bits, a new region rests. It goes on resting while the program
//!   references it densely. The evictor arms it when it has been idle for a while, or when few of its pages are
//!   in use.
//! * Elsewhere the evictor arms a new region at once. In a *hot* region nearly every page is touched between two
//!   scans. It rests for one scan interval, then for three, up to 31. While it rests its pages count as touched.
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
/// Whether the accessed bits have shown that the resting region is idle.
const IDLE: Field = ARMED.then(1);
/// Whether the region rests until its accessed bits are a reason to arm it.
const WAITS: Field = IDLE.then(1);
/// How many scans in a row found nearly all pages touched.
const HOT: Field = WAITS.then(4);
/// How many scans in a row found no page touched.
const QUIET: Field = HOT.then(4);
/// The tick since which the evictor would have noticed a touch, if the region is armed or idle.
const SINCE: Field = QUIET.then(Tick::BITS);
/// The tick in which to scan or arm the region again.
const DUE: Field = SINCE.then(Tick::BITS);
/// The low bits of the tick of the last scan. Where they turn over, an old scan counts as a new one, and the
/// evictor tries to evict a page that was touched: the page then stays.
const SCANNED: Field = DUE.then(13);

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

    fn scanned_at(self, now: Tick) -> Self {
        Self(SCANNED.set(self.0, u64::from(now.raw()) & SCANNED.max()))
    }

    /// Whether the time to scan or arm the region has come.
    #[cfg(test)]
    fn is_due(self, now: Tick, interval: u32) -> bool {
        self.ticks_until_due(now, interval) == 0
    }

    /// Ticks until the region is due.
    pub(crate) fn ticks_until_due(self, now: Tick, interval: u32) -> u32 {
        // No wait is longer than the longest rest. A tick further ahead is in the past: ticks turn over.
        let ahead = now.age_at(Tick::new(DUE.get(self.0)));
        if self.is_new() || ahead > interval << MAX_HOT_LEVEL { 0 } else { ahead }
    }

    /// The same, due in `ticks` ticks at the latest.
    #[must_use]
    pub(crate) fn due_within(self, now: Tick, ticks: u32, interval: u32) -> Self {
        if self.ticks_until_due(now, interval) > ticks { self.due_after(now, ticks) } else { self }
    }

    /// Whether the evictor has never met the region.
    pub(crate) fn is_new(self) -> bool {
        self.0 == 0
    }

    /// Whether the region is armed.
    pub(crate) fn is_armed(self) -> bool {
        ARMED.get(self.0) == 1
    }

    /// Whether the region [rests](Self::resting) until its accessed bits are a reason to arm it.
    pub(crate) fn waits_for_references(self) -> bool {
        WAITS.get(self.0) == 1
    }

    /// Whether the region rests, and the accessed bits have shown that it is idle.
    pub(crate) fn is_idle(self) -> bool {
        IDLE.get(self.0) == 1
    }

    /// For how many ticks the evictor would have noticed a touch of the armed region, if it is armed.
    pub(crate) fn armed_for(self, now: Tick) -> Option<u32> {
        self.is_armed().then(|| Tick::new(SINCE.get(self.0)).age_at(now))
    }

    /// Whether the evictor has scanned the armed region, or armed it, at `now`.
    pub(crate) fn is_fresh(self, now: Tick) -> bool {
        self.is_armed() && SCANNED.get(self.0) == u64::from(now.raw()) & SCANNED.max()
    }

    /// The region rests from `now` on. The evictor may arm it at once if its accessed bits are a reason to.
    #[must_use]
    pub(crate) fn resting(self, now: Tick) -> Self {
        Self(WAITS.set(IDLE.set(ARMED.set(self.0, 0), 0), 1)).due_after(now, 0)
    }

    /// The accessed bits have shown whether the resting region was referenced since `since`. An idle region is
    /// due `arm_age` ticks after its last reference.
    #[must_use]
    pub(crate) fn looked(self, since: Tick, referenced: bool, arm_age: u32) -> Self {
        match (referenced, self.is_idle()) {
            (true, true) => Self(WAITS.set(IDLE.set(self.0, 0), 1)),
            (false, false) => {
                let idle = WAITS.set(HOT.set(IDLE.set(self.0, 1), 0), 0);
                Self(SINCE.set(idle, since.raw().into())).due_after(since, arm_age)
            }
            _ => self,
        }
    }

    /// An idle region is due `arm_age` ticks after its last reference from now on.
    #[must_use]
    pub(crate) fn with_arm_age(self, arm_age: u32) -> Self {
        if self.is_idle() { self.due_after(Tick::new(SINCE.get(self.0)), arm_age) } else { self }
    }

    /// The evictor has armed the region's pages at `now`. If the region was idle, this goes on counting from the
    /// time of its last reference.
    #[must_use]
    pub(crate) fn armed(self, now: Tick, interval: u32) -> Self {
        let was_idle = self.is_idle();
        let mut word = WAITS.set(QUIET.set(ARMED.set(IDLE.set(self.0, 0), 1), 0), 0);
        if !was_idle {
            word = SINCE.set(word, now.raw().into());
        }
        Self(word).due_after(now, interval).scanned_at(now)
    }

    /// The kernel refused to arm or to scan the region. It rests as long as the hottest region.
    #[must_use]
    pub(crate) fn refused(self, now: Tick, interval: u32) -> Self {
        let word = HOT.set(IDLE.set(ARMED.set(self.0, 0), 0), MAX_HOT_LEVEL);
        let word = WAITS.set(word, 0);
        Self(word).due_after(now, interval << MAX_HOT_LEVEL)
    }

    /// A scan of the armed region has found these `pages` touched. The region rests from here on if it is no
    /// longer armed.
    ///
    /// With `accessed_bits` a hot region rests at once, and until its accessed bits are a reason to arm it, but
    /// at least as long as it would otherwise. Without them it rests when two scans have found it hot.
    #[must_use]
    pub(crate) fn scanned(
        self,
        now: Tick,
        interval: u32,
        pages: Touched,
        accessed_bits: bool,
    ) -> Self {
        let this = self.scanned_at(now);
        if pages.touched == 0 {
            let quiet = (QUIET.get(this.0) + 1).min(MAX_QUIET_LEVEL);
            let word = QUIET.set(HOT.set(this.0, 0), quiet);
            return Self(word).due_after(now, quiet_ticks(quiet, interval));
        }
        let word = QUIET.set(this.0, 0);
        if !pages.are_nearly_all() {
            return Self(HOT.set(word, 0)).due_after(now, interval);
        }
        let hot = HOT.get(word);
        let word = HOT.set(word, (hot + 1).min(MAX_HOT_LEVEL));
        if hot == 0 && !accessed_bits {
            return Self(word).due_after(now, interval);
        }
        let rest = ((1 << hot.max(1)) - 1) * interval;
        let word = WAITS.set(ARMED.set(word, 0), accessed_bits.into());
        Self(word).due_after(now, rest)
    }
}

/// How many pages of a region were touched, of those in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touched {
    pub(crate) touched: usize,
    pub(crate) resident: usize,
}

impl Touched {
    /// Whether at least seven of eight were touched, so that there is little to evict.
    pub(crate) fn are_nearly_all(self) -> bool {
        self.touched * 8 >= self.resident * 7
    }
}

/// Ticks from one scan of an armed region to the next.
fn quiet_ticks(quiet: u64, interval: u32) -> u32 {
    (1 << quiet >> 1).max(1) * interval
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `touched` of 512 pages.
    fn of(touched: usize) -> Touched {
        Touched { touched, resident: 512 }
    }

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
            *region = region.scanned(*now, interval, of(touched), false);
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
            region = region.scanned(now.after(1), interval, of(100), false);
            assert_eq!(region.armed_for(now.after(2)), Some(2));
            region = region.scanned(now.after(2), interval, of(512), false);
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
            assert!(!region.is_fresh(now));
            region = region.scanned(now, interval, of(1), false);
            assert!(region.is_fresh(now) && !region.is_fresh(now.after(1)));
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

    #[test]
    fn an_idle_region_counts_from_its_last_reference_when_it_is_armed() {
        let now = Tick::new(100);
        let region = RegionSchedule::default().resting(now);
        assert!(!region.is_new() && !region.is_armed() && !region.is_idle());
        let region = region.looked(now, true, 30).looked(now.after(10), false, 30);
        assert!(region.is_idle() && !region.is_armed());
        assert_eq!(region.ticks_until_due(now.after(20), 8), 20);
        // A later look changes nothing while the region is idle.
        let region = region.looked(now.after(20), false, 30);
        assert!(region.is_due(now.after(40), 8));
        let region = region.armed(now.after(40), 8);
        assert!(region.is_armed() && !region.is_idle() && region.is_fresh(now.after(40)));
        assert_eq!(region.armed_for(now.after(45)), Some(35));
        let region = region.due_within(now.after(40), 3, 8);
        assert!(region.is_due(now.after(43), 8) && region.is_fresh(now.after(40)));
    }

    #[test]
    fn a_reference_ends_idleness() {
        let now = Tick::new(7);
        let region = RegionSchedule::default().resting(now).looked(now, false, 30);
        let region = region.looked(now.after(5), true, 30);
        assert!(!region.is_idle());
        assert_eq!(region.armed(now.after(9), 2).armed_for(now.after(9)), Some(0));
    }

    #[test]
    fn with_accessed_bits_a_dense_region_rests_after_one_scan() {
        let now = Tick::new(7);
        let armed = RegionSchedule::default().armed(now, 4);
        let rests = armed.scanned(now.after(4), 4, of(500), true);
        assert!(!rests.is_armed());
        assert_eq!(rests.ticks_until_due(now.after(4), 4), 4);
        let thin = armed.scanned(now.after(4), 4, of(300), true);
        assert!(thin.is_armed());
    }
}
