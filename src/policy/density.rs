//! How densely regions are used, where only accessed bits tell.
//!
//! A watch that sees no pages cannot tell the cold pages of a region from the warm ones. But the sum of the pages
//! that looks found referenced in a period is at least the number of different pages that the program has touched
//! in it. If a long period has a small sum, then most pages are cold, and the evictor takes the whole region: the
//! warm pages come back by their next touch.
//!
//! The accessed bit of a huge page covers all of it. From time to time the evictor therefore has the kernel map a
//! huge page as small ones, and measures the next period. A region that turns out dense becomes huge again, and
//! its next measurement comes later.

use super::Touched;
use crate::prim::Tick;

/// The evictor takes a region whose sum is at most this part of its pages in memory.
const THIN_PART: usize = 4;

/// The most times that the pause between two measurements of a huge region doubles.
const MOST_DOUBLINGS: u32 = 8;

/// A region's period.
#[derive(Clone, Copy, Debug, Default)]
struct Period {
    /// The start, if there is a period.
    since: Option<Tick>,
    /// The sum of the counts since then.
    sum: u32,
    /// The tick from which the mapping of a huge page may be split.
    due: Option<Tick>,
    /// How many measurements in a row found the region dense.
    dense: u32,
    /// The next count means nothing: the small entries have inherited the bit of the huge one.
    skips: bool,
}

/// The periods of all regions.
#[derive(Debug, Default)]
pub(crate) struct Densities(Vec<Period>);

/// The outcome of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Density {
    /// Not known yet.
    Unknown,
    /// Few pages are in use. For a watch that sees no pages: most have been cold since this tick.
    Thin(Tick),
    /// Too many pages are in use.
    Dense,
}

impl Densities {
    fn of(&mut self, region: usize) -> &mut Period {
        if self.0.len() <= region {
            self.0.resize(region + 1, Period::default());
        }
        &mut self.0[region]
    }

    /// Adds a count of a region in small pages, whose bits were cleared at `since` and at `now`.
    pub(crate) fn count(
        &mut self,
        region: usize,
        (since, now): (Tick, Tick),
        pages: Touched,
        cold_age: u32,
    ) -> Density {
        if self.skips(region, now) {
            return Density::Unknown;
        }
        let period = self.of(region);
        let start = *period.since.get_or_insert(since);
        period.sum = period.sum.saturating_add(u32::try_from(pages.touched).unwrap_or(u32::MAX));
        if period.sum as usize * THIN_PART > pages.resident {
            (period.since, period.sum) = (Some(now), 0);
            period.dense = (period.dense + 1).min(MOST_DOUBLINGS);
            return Density::Dense;
        }
        if start.age_at(now) < cold_age {
            return Density::Unknown;
        }
        *period = Period::default();
        Density::Thin(start)
    }

    fn skips(&mut self, region: usize, now: Tick) -> bool {
        let period = self.of(region);
        let skips = std::mem::take(&mut period.skips);
        if skips {
            (period.since, period.sum) = (Some(now), 0);
        }
        skips
    }

    /// Takes note of the last count of a region in small pages, at `now`, for a watch that sees pages. The region is
    /// dense if nearly all of its pages were in use.
    pub(crate) fn see(&mut self, region: usize, now: Tick, pages: Touched) -> Density {
        if self.skips(region, now) {
            return Density::Unknown;
        }
        if !pages.are_nearly_all() {
            return Density::Thin(now);
        }
        let period = self.of(region);
        period.dense = (period.dense + 1).min(MOST_DOUBLINGS);
        Density::Dense
    }

    /// Whether the mapping of a region's huge page is to be split at `now`. The first measurement comes a quarter of
    /// the cold age after the first call, so that a thin region is found within twice the cold age.
    pub(crate) fn is_due(&mut self, region: usize, now: Tick, cold_age: u32) -> bool {
        let period = self.of(region);
        (period.since, period.sum) = (None, 0);
        let first = (cold_age / 4).max(1);
        let pause = (u64::from(first) << period.dense).min(u64::from(Tick::MAX_AGE / 4));
        let due = *period.due.get_or_insert(now.after(u32::try_from(pause).unwrap_or(u32::MAX)));
        // Ticks turn over: one that seems further ahead than the longest pause has passed.
        let ahead = now.age_at(due);
        ahead == 0 || ahead > Tick::MAX_AGE / 4
    }

    /// The mapping was split.
    pub(crate) fn split(&mut self, region: usize) {
        let dense = self.of(region).dense;
        *self.of(region) = Period { skips: true, dense, ..Period::default() };
    }

    /// Some references of all regions were lost, so their sums mean nothing.
    pub(crate) fn restart(&mut self) {
        self.0.iter_mut().for_each(|period| (period.since, period.sum) = (None, 0));
    }

    /// The region has no pages in memory any more.
    pub(crate) fn forget(&mut self, region: usize) {
        if let Some(period) = self.0.get_mut(region) {
            *period = Period::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLD_AGE: u32 = 60;

    fn pages(touched: usize) -> Touched {
        Touched { touched, resident: 512 }
    }

    fn at(tick: u64) -> Tick {
        Tick::new(tick)
    }

    #[test]
    fn a_region_is_thin_when_a_cold_age_has_a_small_sum() {
        let mut all = Densities::default();
        let mut count =
            |from, touched| all.count(3, (at(from), at(from + 20)), pages(touched), COLD_AGE);
        assert_eq!(count(100, 40), Density::Unknown);
        assert_eq!(count(120, 40), Density::Unknown);
        assert_eq!(count(140, 48), Density::Thin(at(100)), "128 of 512");
        assert_eq!(count(160, 128), Density::Unknown, "a new period");
        assert_eq!(count(180, 1), Density::Dense, "129 of 512");
        assert_eq!(count(200, 0), Density::Unknown);
        assert_eq!(count(220, 0), Density::Unknown);
        assert_eq!(count(240, 0), Density::Thin(at(200)));
    }

    #[test]
    fn lost_references_begin_a_new_period() {
        let mut all = Densities::default();
        let count =
            |all: &mut Densities, from| all.count(0, (at(from), at(from + 50)), pages(1), COLD_AGE);
        assert_eq!(count(&mut all, 0), Density::Unknown);
        all.restart();
        assert_eq!(count(&mut all, 50), Density::Unknown);
        assert_eq!(count(&mut all, 100), Density::Thin(at(50)));
    }

    #[test]
    fn the_first_count_after_a_split_does_not_count() {
        let mut all = Densities::default();
        all.split(0);
        let mut count =
            |from, touched| all.count(0, (at(from), at(from + 50)), pages(touched), COLD_AGE);
        assert_eq!(count(0, 512), Density::Unknown);
        assert_eq!(count(50, 9), Density::Unknown);
        assert_eq!(count(100, 9), Density::Thin(at(50)));
    }

    #[test]
    fn a_watch_that_sees_pages_learns_from_each_count() {
        let mut all = Densities::default();
        all.split(1);
        let mut see = |tick, touched| all.see(1, at(tick), pages(touched));
        assert_eq!(see(1, 512), Density::Unknown, "inherited bits");
        assert_eq!(see(2, 447), Density::Thin(at(2)));
        assert_eq!(see(3, 448), Density::Dense);
    }

    #[test]
    fn dense_huge_regions_are_measured_less_and_less_often() {
        let mut all = Densities::default();
        // Ticks turn over meanwhile.
        let mut now = Tick::new(u64::from(Tick::MAX_AGE) - 100);
        let mut waits = Vec::new();
        for _ in 0..11 {
            let mut wait = 0;
            while !all.is_due(7, now, COLD_AGE) {
                now = now.after(1);
                wait += 1;
            }
            waits.push(wait / (COLD_AGE / 4));
            all.split(7);
            let mut count = || all.count(7, (now, now.after(1)), pages(400), COLD_AGE);
            assert_eq!([count(), count()], [Density::Unknown, Density::Dense]);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256]);
        all.forget(7);
        assert!(!all.is_due(7, now, COLD_AGE));
        assert!(all.is_due(7, now.after(COLD_AGE / 4), COLD_AGE));
    }
}
