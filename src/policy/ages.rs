//! The distribution of ages.

use crate::prim::Tick;
use crate::stats::{bucket_ceiling, bucket_of};

const BUCKETS: usize = bucket_of(Tick::MAX_AGE as u64) + 1;

/// How many pages have each age, in ticks. Ages up to 15 are exact, older ones to an eighth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgeHistogram([usize; BUCKETS]);

impl Default for AgeHistogram {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl AgeHistogram {
    pub(crate) fn add(&mut self, age: u32) {
        self.0[bucket_of(age.into())] += 1;
    }

    /// Pages whose age is at least `age`. If `age` lies within a bucket, at least the next bucket's floor.
    pub(crate) fn at_least(&self, age: u32) -> usize {
        self.oldest_first().take_while(|(floor, _)| *floor >= age).map(|(_, n)| n).sum()
    }

    /// The floor of each bucket with the bucket's count, the oldest bucket first.
    pub(crate) fn oldest_first(&self) -> impl Iterator<Item = (u32, usize)> {
        let floor = |i| if i == 0 { 0 } else { bucket_ceiling(i - 1) + 1 };
        // Bucket bounds stay below the largest age, which is 20 bits.
        let floor = move |i| u32::try_from(floor(i)).unwrap_or(u32::MAX);
        (0..BUCKETS).rev().map(move |i| (floor(i), self.0[i]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_at_least_an_age_are_counted() {
        let mut ages = AgeHistogram::default();
        for age in [0, 0, 3, 10, 500, Tick::MAX_AGE] {
            ages.add(age);
        }
        assert_eq!(ages.at_least(0), 6);
        assert_eq!(ages.at_least(1), 4);
        assert_eq!(ages.at_least(10), 3);
        assert_eq!(ages.at_least(11), 2);
        let oldest: Vec<u32> = ages.oldest_first().filter(|b| b.1 > 0).map(|b| b.0).collect();
        assert!(oldest.is_sorted_by(|a, b| a > b));
        assert_eq!(oldest.last(), Some(&0));
    }
}
