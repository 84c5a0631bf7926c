//! Random block sizes, as in programs.
//!
//! Most blocks are small, a few are large, and the large ones have a good part of all bytes. Sizes are
//! log-normal from 16 bytes to 32 KiB, except one in 512: that is from 32 to 512 KiB, each power of two
//! as likely as the next.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal};
use std::sync::LazyLock;

const LEAST: f64 = 16.0;
const LARGE: f64 = 32.0 * 1024.0;
const LARGEST: f64 = 512.0 * 1024.0;
const ONE_IS_LARGE_OF: u32 = 512;

/// Standard deviation of the logarithm: one in six blocks is more than 4.5 times the median.
const SIGMA: f64 = 1.5;

/// Sizes drawn beforehand, so that drawing takes no time in a measurement.
#[derive(Debug)]
pub(crate) struct Sizes(Box<[u32; Sizes::COUNT]>);

/// Half of the blocks are smaller than 128 bytes; the mean is about 0.7 KiB.
pub(crate) static MIXED: LazyLock<Sizes> = LazyLock::new(|| Sizes::log_normal(128.0));

/// The same with four times the size.
pub(crate) static SHIFTED: LazyLock<Sizes> = LazyLock::new(|| Sizes::log_normal(512.0));

/// From 8 to 1000 bytes, all equally likely.
pub(crate) static SMALL: LazyLock<Sizes> =
    LazyLock::new(|| Sizes::new(|random| random.random_range(8..=1000)));

impl Sizes {
    const COUNT: usize = 1 << 15;

    fn new(mut draw: impl FnMut(&mut SmallRng) -> u32) -> Self {
        let mut random = SmallRng::seed_from_u64(0);
        let mut sizes = Box::new([0; Self::COUNT]);
        sizes.fill_with(|| draw(&mut random));
        Self(sizes)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
    fn log_normal(median: f64) -> Self {
        let bulk = LogNormal::new(median.ln(), SIGMA).expect("a deviation that is finite");
        Self::new(|random| {
            let size = if random.random_ratio(1, ONE_IS_LARGE_OF) {
                LARGE * (random.random::<f64>() * (LARGEST / LARGE).ln()).exp()
            } else {
                bulk.sample(random).clamp(LEAST, LARGE)
            };
            size as u32
        })
    }

    pub(crate) fn mean(&self) -> usize {
        self.0.iter().map(|size| *size as usize).sum::<usize>() / Self::COUNT
    }

    /// An endless sequence of sizes, which begins at a different place for each seed.
    pub(crate) fn draw(&self, seed: u64) -> impl Iterator<Item = usize> {
        let mut at = SmallRng::seed_from_u64(seed).random_range(0..Self::COUNT);
        std::iter::repeat_with(move || {
            at = (at + 1) % Self::COUNT;
            self.0[at] as usize
        })
    }
}
