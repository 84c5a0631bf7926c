//! Threads that allocate and others that free, as at both ends of a pipeline.

use super::Done;
use crate::blocks::{Blocks, Room};
use crate::sides::Side;
use crate::sizes::SMALL;
use crossbeam::channel::{Receiver, Sender, bounded};
use std::sync::Barrier;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// Blocks that are handed over together.
const BATCH: u32 = 1000;

/// Batches for each pair of threads, full and empty ones together.
const BATCHES: usize = 8;

/// Both ends of a channel. Lists of blocks go round, so that they need not be allocated.
type Ends<'a, S> = (Sender<Blocks<'a, S>>, Receiver<Blocks<'a, S>>);

/// Any of so many consumers frees what any of as many producers has allocated. The time is the
/// clock's, from the first block to the last.
pub(super) fn handoff<S: Side>(side: &S, pairs: usize, seed: u64, budget: Duration) -> Done {
    let empty: Ends<'_, S> = bounded(BATCHES * pairs);
    for _ in 0..BATCHES * pairs {
        let list = Blocks::new(side, Room::new(BATCH as usize));
        empty.0.send(list).expect("we have the other end");
    }
    // The first batches may take the allocator more than others.
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
        // Consumers end when the last producer has.
        drop(give);
        let consume = || {
            barrier.wait();
            for mut blocks in &take {
                blocks.clear();
                empty.0.send(blocks).expect("we have the other end");
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

/// When it began, and how many blocks it allocated.
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
