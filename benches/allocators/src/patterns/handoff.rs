//! Threads that allocate and threads that free, as at the two ends of a pipeline.

use super::Done;
use crate::blocks::{Blocks, Room};
use crate::sides::Side;
use crate::sizes::SMALL;
use crossbeam::channel::{Receiver, Sender, bounded};
use std::sync::Barrier;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// Blocks that a producer hands over at a time.
const BATCH: u32 = 1000;

/// Lists for each pair of threads, full and empty ones together.
const BATCHES: usize = 8;

/// Both ends of a channel. Lists of blocks circulate, so that the measurement allocates none.
type Ends<'a, S> = (Sender<Blocks<'a, S>>, Receiver<Blocks<'a, S>>);

/// `pairs` producers allocate blocks, and as many consumers free them. The time is wall-clock time, from
/// the first block to the last.
pub(super) fn handoff<S: Side>(side: &S, pairs: usize, seed: u64, budget: Duration) -> Done {
    let empty: Ends<'_, S> = bounded(BATCHES * pairs);
    for _ in 0..BATCHES * pairs {
        let list = Blocks::new(side, Room::new(BATCH as usize));
        empty.0.send(list).expect("this function has the other end");
    }
    // Not counted, because the first batches may take the allocator more time.
    relay(pairs, seed, budget / 4, &empty);
    relay(pairs, seed, budget, &empty)
}

fn relay<S: Side>(pairs: usize, seed: u64, budget: Duration, empty: &Ends<'_, S>) -> Done {
    let barrier = &Barrier::new(2 * pairs);
    let (give, take) = bounded(BATCHES * pairs);
    thread::scope(|scope| {
        let producers: Vec<_> = (0..pairs as u64)
            .map(|n| {
                let give = give.clone();
                scope.spawn(move || {
                    barrier.wait();
                    produce(seed * 64 + n, budget, &empty.1, &give)
                })
            })
            .collect();
        // Consumers end after the last producer.
        drop(give);
        let consume = || {
            barrier.wait();
            for mut blocks in &take {
                blocks.clear();
                empty.0.send(blocks).expect("this function has the other end");
            }
            Instant::now()
        };
        let consumers: Vec<_> = (0..pairs).map(|_| scope.spawn(consume)).collect();
        let (starts, operations): (Vec<_>, Vec<_>) = producers.into_iter().map(join).unzip();
        let end = consumers.into_iter().map(join).max().expect("a consumer");
        let start = starts.into_iter().min().expect("a producer");
        Done { time: end - start, operations: operations.into_iter().sum() }
    })
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().expect("it counts")
}

/// Returns its start, and how many blocks it allocated.
fn produce<'a, S: Side>(
    seed: u64,
    budget: Duration,
    empty: &Receiver<Blocks<'a, S>>,
    full: &Sender<Blocks<'a, S>>,
) -> (Instant, u32) {
    let mut sizes = SMALL.draw(seed);
    let start = Instant::now();
    let mut operations = 0;
    while start.elapsed() < budget {
        let mut blocks = empty.recv().expect("consumers give lists back");
        sizes.by_ref().take(BATCH as usize).for_each(|size| blocks.push(size));
        full.send(blocks).expect("consumers are there");
        operations += BATCH;
    }
    (start, operations)
}
