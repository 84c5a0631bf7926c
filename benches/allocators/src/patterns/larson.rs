//! A server with short-lived threads, as in Larson and Krishnan, "Memory Allocation for Long-Running
//! Server Applications" (1998): blocks outlive the thread that allocated them, and the next thread frees
//! them.

use super::Done;
use crate::blocks::{Blocks, Room};
use crate::sides::Side;
use crate::sizes::SMALL;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// Blocks that each thread has.
const BLOCKS: usize = 5000;

/// Blocks that a thread frees and allocates before it ends.
const LIFE: u32 = 50_000;

pub(super) fn larson<S: Side>(side: &S, threads: usize, seed: u64, budget: Duration) -> Done {
    let filled = || {
        let mut blocks = Blocks::new(side, Room::new(BLOCKS));
        SMALL.draw(seed).take(BLOCKS).for_each(|size| blocks.push(size));
        blocks
    };
    let mut lists: Vec<_> = (0..threads).map(|_| filled()).collect();
    let mut done = Done::default();
    for generation in 0.. {
        let barrier = &Barrier::new(threads);
        let lived: Done = thread::scope(|scope| {
            let live = |(n, blocks)| {
                let seed = (seed << 32) + (generation << 8) + n;
                scope.spawn(move || {
                    barrier.wait();
                    live(blocks, seed)
                })
            };
            let threads: Vec<_> = (0..).zip(&mut lists).map(live).collect();
            threads.into_iter().map(|thread| thread.join().expect("it counts")).sum()
        });
        if generation > 0 {
            done = [done, lived].into_iter().sum();
        }
        if done.time >= budget * u32::try_from(threads).unwrap_or(u32::MAX) {
            break;
        }
        lists.rotate_left(1);
    }
    done
}

/// The work of one thread.
fn live<S: Side>(blocks: &mut Blocks<'_, S>, seed: u64) -> Done {
    let mut random = SmallRng::seed_from_u64(seed);
    let sizes = SMALL.draw(seed);
    let start = Instant::now();
    sizes.take(LIFE as usize).for_each(|size| blocks.replace_any(&mut random, size));
    Done { time: start.elapsed(), operations: LIFE }
}
