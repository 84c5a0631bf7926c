//! When to look at a region again.
//!
//! Watching costs: a page that is touched after it was armed takes a fault inside the kernel.
//! Where nearly every page is touched every time, there is nothing to learn, so such a region rests
//! for one look, then for three, up to 31, and while it rests its pages are not armed and count as
//! touched.

use crate::prim::Tick;
use crate::prim::pack::Field;
use crate::prim::sync::{AtomicU64, Ordering};
use crate::sys::SysError;
use crate::sys::memory::LazySlice;

/// A region rests for 2^level - 1 looks.
const MAX_LEVEL: u64 = 5;

const WATCHED: Field = Field::lowest(1);
const LEVEL: Field = WATCHED.then(4);
/// While watched: since when. While resting: until when.
const TICK: Field = LEVEL.then(Tick::BITS);

/// A word per region, zero being one that was never looked at. Used by one thread.
#[derive(Debug)]
pub(super) struct Looks(LazySlice<AtomicU64>);

impl Looks {
    pub(super) fn new(regions: usize) -> Result<Self, SysError> {
        LazySlice::new(regions).map(Self)
    }

    fn get(&self, region: usize) -> u64 {
        self.0[region].load(Ordering::Relaxed)
    }

    fn set(&self, region: usize, word: u64) {
        self.0[region].store(word, Ordering::Relaxed);
    }

    /// Whether the region is watched, or has rested for long enough.
    pub(super) fn is_due(&self, region: usize, now: Tick) -> bool {
        let word = self.get(region);
        // A tick that is yet to come is nearly a whole turn old.
        WATCHED.get(word) == 1
            || word == 0
            || Tick::new(TICK.get(word)).age_at(now) <= Tick::MAX_AGE / 2
    }

    pub(super) fn is_watched(&self, region: usize) -> bool {
        WATCHED.get(self.get(region)) == 1
    }

    /// The region's pages have been armed at `now`.
    pub(super) fn begin(&self, region: usize, now: Tick) {
        let word = self.get(region);
        self.set(region, TICK.set(WATCHED.set(word, 1), now.raw().into()));
    }

    /// For how many ticks the region has been watched, if it is.
    pub(super) fn watched_for(&self, region: usize, now: Tick) -> Option<u32> {
        let word = self.get(region);
        (WATCHED.get(word) == 1).then(|| Tick::new(TICK.get(word)).age_at(now))
    }

    /// Notes what a look at a watched region found, and whether the region rests now.
    pub(super) fn note(&self, region: usize, now: Tick, touched: usize, resident: usize) -> bool {
        let word = self.get(region);
        if touched * 8 < resident * 7 || resident == 0 {
            self.set(region, LEVEL.set(word, 0));
            return false;
        }
        let level = LEVEL.get(word);
        self.set(region, LEVEL.set(word, (level + 1).min(MAX_LEVEL)));
        if level == 0 {
            // Once is no habit.
            return false;
        }
        // At most 2^5.
        let rest = 1 << u32::try_from(level).unwrap_or(0);
        let word = WATCHED.set(self.get(region), 0);
        self.set(region, TICK.set(word, now.after(rest - 1).raw().into()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: usize = 3;

    #[test]
    fn hot_regions_are_looked_at_less_and_less_and_at_once_when_they_cool() {
        let looks = Looks::new(8).unwrap();
        let mut now = Tick::new(u64::from(Tick::MAX_AGE) - 10);
        let mut rests = Vec::new();
        for _ in 0..8 {
            assert!(looks.is_due(REGION, now));
            looks.begin(REGION, now);
            now = now.after(1);
            let before = now;
            if looks.note(REGION, now, 500, 512) {
                assert_eq!(looks.watched_for(REGION, now), None);
                while !looks.is_due(REGION, now) {
                    now = now.after(1);
                }
            }
            rests.push(before.age_at(now));
        }
        assert_eq!(rests, [0, 1, 3, 7, 15, 31, 31, 31]);
        looks.begin(REGION, now);
        assert!(!looks.note(REGION, now.after(1), 100, 512));
        assert_eq!(looks.watched_for(REGION, now.after(2)), Some(2));
        assert!(!looks.note(REGION, now.after(2), 512, 512), "once is no habit");
    }
}
