//! How many pages have been idle for how long.

use crate::prim::Tick;
use crate::stats::{bucket_ceiling, bucket_of};

const BUCKETS: usize = bucket_of(Tick::MAX_AGE as u64) + 1;

/// A histogram of ages in ticks. Ages up to 15 are told apart exactly, older ones to an eighth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ages([usize; BUCKETS]);

impl Default for Ages {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Ages {
    pub(crate) fn add(&mut self, age: u32) {
        self.0[bucket_of(age.into())] += 1;
    }

    /// Pages idle for at least `age` ticks, or for as long as the next bucket's first where `age`
    /// lies within one.
    pub(crate) fn at_least(&self, age: u32) -> usize {
        self.oldest_first().take_while(|(floor, _)| *floor >= age).map(|(_, n)| n).sum()
    }

    /// The age that each bucket begins at, with its count, the oldest first.
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
    fn counts_from_the_oldest() {
        let mut ages = Ages::default();
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
