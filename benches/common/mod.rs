//! What the benchmarks share: arenas in which nothing happens by itself, numbers that look random,
//! and orders in which pages are touched.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::io::Write as _;
use std::time::Duration;
use thermocline::{Arena, Builder};

pub(crate) const PAGE: usize = 4096;

/// Neighbouring pages that are touched together in [`clustered`] order.
pub(crate) const CLUSTER: usize = 16;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// An arena that looks at nothing and evicts nothing unless it is told to.
pub(crate) fn quiet() -> Builder {
    Arena::builder().reserve(1 << 30).scan_interval(HOUR).cold_age(HOUR)
}

/// None, and a word about it, where arenas cannot swap.
pub(crate) fn started(builder: Builder) -> Option<Arena> {
    match builder.build() {
        Ok(arena) => Some(arena),
        Err(reason) => {
            let line = format!("SKIPPED: {reason}\n");
            std::io::stderr().write_all(line.as_bytes()).expect("standard error");
            None
        }
    }
}

/// A sequence of numbers that look random (xorshift64), another for each seed.
pub(crate) fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    // The product of an odd number and one that is not zero is not zero.
    let mut x = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed + 1);
    std::iter::repeat_with(move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    })
}

/// The numbers below `count` in an order that no readahead guesses.
pub(crate) fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<(u64, usize)> = numbers(seed).skip(8).zip(0..count).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, number)| number).collect()
}

/// The numbers below `count`, a multiple of [`CLUSTER`], as clusters in random order.
pub(crate) fn clustered(count: usize, seed: u64) -> Vec<usize> {
    let clusters = shuffled(count / CLUSTER, seed);
    clusters.into_iter().flat_map(|c| c * CLUSTER..(c + 1) * CLUSTER).collect()
}
