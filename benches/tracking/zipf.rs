//! Zipf's distribution: the method of Gray et al., "Quickly generating billion-record synthetic databases"
//! (SIGMOD 1994), which YCSB uses too.

pub(crate) const SKEW: f64 = 0.99;

#[derive(Debug)]
pub(crate) struct Zipf {
    count: f64,
    /// The sum of all weights.
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Zipf {
    /// A distribution of the ranks below `count`, which is at least 2.
    pub(crate) fn new(count: usize) -> Self {
        let zeta = |n: usize| (1..=n).map(|rank| weight(rank as f64)).sum::<f64>();
        let (all, two) = (zeta(count), zeta(2));
        let count = count as f64;
        let eta = (1.0 - (2.0 / count).powf(1.0 - SKEW)) / (1.0 - two / all);
        Self { count, zeta: all, alpha: 1.0 / (1.0 - SKEW), eta }
    }

    /// The rank for a random number below 1. The most frequent rank is 0.
    pub(crate) fn rank(&self, uniform: f64) -> usize {
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + weight(2.0) {
            return 1;
        }
        let rank = self.count * (self.eta * uniform - self.eta + 1.0).powf(self.alpha);
        rank.min(self.count - 1.0) as usize
    }

    /// How often this rank comes, as a part of 1.
    pub(crate) fn share(&self, rank: usize) -> f64 {
        weight((rank + 1) as f64) / self.zeta
    }
}

fn weight(place: f64) -> f64 {
    place.powf(-SKEW)
}

/// A number below 1 with the upper 53 bits of `random`.
pub(crate) fn uniform(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

/// A step of splitmix64. The result depends on `mixed` too.
pub(crate) fn step(state: &mut u64, mixed: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_add(mixed);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
