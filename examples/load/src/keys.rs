//! The sequence of keys, and the positions of popular keys.

use rand::RngExt;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Popularity {
    Uniform,
    /// The key of rank r has a probability proportional to r to the power of minus this.
    Zipf(f64),
}

/// Draws random keys.
#[derive(Debug)]
pub(crate) struct Picker {
    keys: u64,
    zipf: Option<Zipf<f64>>,
    /// Spreads popular keys, so that they are not neighbours.
    order: Shuffle,
}

impl Picker {
    /// The seed determines which keys are popular. `keys` must not be zero.
    pub(crate) fn new(keys: u64, popularity: Popularity, seed: u64) -> Result<Self, String> {
        let zipf = match popularity {
            Popularity::Uniform => None,
            Popularity::Zipf(skew) => {
                Some(Zipf::new(keys as f64, skew).map_err(|e| format!("no such keys: {e}"))?)
            }
        };
        Ok(Self { keys, zipf, order: Shuffle::new(keys, seed) })
    }

    pub(crate) fn pick(&self, random: &mut SmallRng) -> u64 {
        match &self.zipf {
            None => random.random_range(0..self.keys),
            // Ranks begin at one.
            Some(zipf) => self.order.at((zipf.sample(random) as u64).min(self.keys) - 1),
        }
    }
}

/// A permutation of the numbers below a length, computed without a table.
///
/// A few steps, each a bijection of the numbers with a fixed count of bits (an odd factor and a summand;
/// exclusive or with a shifted copy), form a bijection. A result that is not below the length is permuted
/// again until it is, which gives a bijection of the numbers below the length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shuffle {
    len: u64,
    mask: u64,
    shift: u32,
    steps: [(u64, u64); 3],
}

impl Shuffle {
    pub(crate) fn new(len: u64, seed: u64) -> Self {
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        let step = |n| (mix(seed ^ n) | 1, mix(!seed ^ n));
        Self {
            len,
            mask: 1_u64.checked_shl(bits).map_or(u64::MAX, |end| end - 1),
            shift: (bits / 2).max(1),
            steps: [step(1), step(2), step(3)],
        }
    }

    pub(crate) fn at(&self, place: u64) -> u64 {
        debug_assert!(place < self.len);
        let mut x = place;
        loop {
            for (factor, summand) in self.steps {
                x = x.wrapping_mul(factor).wrapping_add(summand) & self.mask;
                x ^= x >> self.shift;
            }
            if x < self.len {
                return x;
            }
        }
    }
}

/// A hash of a number (the finalizer of splitmix64).
pub(crate) fn mix(n: u64) -> u64 {
    let x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn drawn(keys: u64, popularity: Popularity, draws: u32) -> Vec<u32> {
        let picker = Picker::new(keys, popularity, 5).unwrap();
        let mut random = SmallRng::seed_from_u64(17);
        let mut counts = vec![0; usize::try_from(keys).unwrap()];
        for _ in 0..draws {
            counts[usize::try_from(picker.pick(&mut random)).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn a_shuffle_is_a_permutation() {
        for len in [1, 2, 3, 7, 64, 1000, 4097] {
            let order = Shuffle::new(len, 42);
            let mut seen: Vec<u64> = (0..len).map(|place| order.at(place)).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..len), "{len}");
        }
    }

    #[test]
    fn a_shuffle_scatters_neighbours() {
        let order = Shuffle::new(100_000, 1);
        let close = (1..1000).filter(|&n| order.at(n).abs_diff(order.at(n - 1)) < 1000).count();
        // A random permutation has about one in fifty.
        assert!(close < 60, "{close} of a thousand");
    }

    #[test]
    fn zipf_frequencies_follow_the_ranks() {
        const KEYS: u64 = 10_000;
        const DRAWS: u32 = 400_000;
        let mut counts = drawn(KEYS, Popularity::Zipf(0.99), DRAWS);
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let whole: f64 = (1..=KEYS).map(|rank| (rank as f64).powf(-0.99)).sum();
        for rank in [1_u32, 2, 5, 10, 50] {
            let expected = f64::from(rank).powf(-0.99) / whole * f64::from(DRAWS);
            let found = f64::from(counts[rank as usize - 1]);
            // Sorting by frequency favours the more frequent of two equal ranks a little.
            assert!((found / expected - 1.0).abs() < 0.1, "rank {rank}: {found}, not {expected}");
        }
        let top: u32 = counts[..100].iter().sum();
        let expected: f64 = (1..=100).map(|rank| f64::from(rank).powf(-0.99)).sum::<f64>() / whole;
        assert!((f64::from(top) / f64::from(DRAWS) / expected - 1.0).abs() < 0.03);
    }

    #[test]
    fn popular_keys_are_spread_and_stay_popular() {
        let counts = drawn(10_000, Popularity::Zipf(0.99), 100_000);
        let hottest = |counts: &[u32]| (0..counts.len()).max_by_key(|&n| counts[n]);
        assert_eq!(hottest(&counts), hottest(&drawn(10_000, Popularity::Zipf(0.99), 50_000)));
        let mut order: Vec<usize> = (0..counts.len()).collect();
        order.sort_unstable_by_key(|&n| std::cmp::Reverse(counts[n]));
        assert!(order[..20].windows(2).all(|pair| pair[0].abs_diff(pair[1]) > 1));
    }

    #[test]
    fn uniform_keys_have_equal_frequencies() {
        let counts = drawn(100, Popularity::Uniform, 100_000);
        assert!(counts.iter().all(|&count| (800..1200).contains(&count)), "{counts:?}");
    }

    #[test]
    fn one_key_is_enough() {
        assert!(drawn(1, Popularity::Zipf(0.99), 100).iter().all(|&count| count == 100));
        assert!(drawn(1, Popularity::Uniform, 100).iter().all(|&count| count == 100));
    }
}
