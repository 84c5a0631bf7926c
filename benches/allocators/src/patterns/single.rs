//! Blocks of one size in one thread.

use super::{Done, repeat};
use crate::blocks::{Blocks, Room, pair};
use crate::sides::Side;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::fmt;
use std::time::{Duration, Instant};

/// Blocks of a batch.
const BATCH: u32 = 10_000;

/// Which block of a batch is freed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The youngest.
    Lifo,
    /// The oldest.
    Fifo,
    /// A random one.
    Shuffled,
}

impl Order {
    pub(crate) const ALL: [Self; 3] = [Self::Lifo, Self::Fifo, Self::Shuffled];
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lifo => "lifo",
            Self::Fifo => "fifo",
            Self::Shuffled => "shuffled",
        })
    }
}

pub(super) fn pairs<S: Side>(side: &S, size: usize, budget: Duration) -> Done {
    // Large blocks may take a hundred microseconds each.
    let chunk = if size < 16 << 10 { 1024 } else { 16 };
    let some = || {
        (0..chunk).for_each(|_| pair(side, size));
        chunk
    };
    some();
    repeat(budget, some)
}

pub(super) fn batches<S: Side>(
    side: &S,
    size: usize,
    order: Order,
    seed: u64,
    budget: Duration,
) -> Done {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut blocks = Blocks::new(side, Room::new(BATCH as usize));
    let mut done = Done::default();
    // The first batch does not count, because it may take the allocator more time.
    for batch in 0.. {
        let allocating = Instant::now();
        (0..BATCH).for_each(|_| blocks.push(size));
        let allocating = allocating.elapsed();
        if order == Order::Shuffled {
            blocks.shuffle(&mut random);
        }
        let freeing = Instant::now();
        match order {
            Order::Lifo => blocks.clear_backwards(),
            Order::Fifo | Order::Shuffled => blocks.clear(),
        }
        if batch > 0 {
            done.time += allocating + freeing.elapsed();
            done.operations += BATCH;
        }
        if done.time >= budget {
            break;
        }
    }
    done
}
