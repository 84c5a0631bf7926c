//! Blocks of all sizes with random lifetimes.

use super::{CHUNK, Done, on_threads, repeat};
use crate::blocks::{Blocks, Room};
use crate::sides::Side;
use crate::sizes::MIXED;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::time::Duration;

/// Each thread has `live` bytes in blocks, frees a random one and allocates another.
pub(super) fn mixed<S: Side>(
    side: &S,
    live: usize,
    threads: usize,
    seed: u64,
    budget: Duration,
) -> Done {
    on_threads(threads, |thread, barrier| {
        let seed = seed * 64 + thread as u64;
        let mut random = SmallRng::seed_from_u64(seed);
        let mut sizes = MIXED.draw(seed);
        let mut next = || sizes.next().expect("sizes are without end");
        let count = live / MIXED.mean();
        let mut blocks = Blocks::new(side, Room::new(count));
        (0..count).for_each(|_| blocks.push(next()));
        // Consecutively allocated blocks are neighbours. Replacing them makes their order random.
        (0..count).for_each(|_| blocks.replace_any(&mut random, next()));
        barrier.wait();
        repeat(budget, || {
            (0..CHUNK).for_each(|_| blocks.replace_any(&mut random, next()));
            CHUNK
        })
    })
}
