//! A heap in which most blocks are freed at random, repeatedly, and which is trimmed.

use super::common::blocks::{Block, Random, layout};
use super::common::{LANES, scaled};
use std::thread;
use thermocline::Arena;

/// About the bytes that a thread allocates in a round.
const BYTES: usize = 2 << 20;

/// Rounds of each thread.
const ROUNDS: usize = 4;

/// Allocates blocks of about the same size, frees nineteen of twenty, and returns the rest.
fn fragment(arena: &Arena, random: &mut Random) -> Vec<Block> {
    let most = [64, 600, 3000, 20_000][random.below(4)];
    let lane = arena.lane(LANES[random.below(LANES.len())]);
    let mut blocks = Vec::new();
    for n in 0..scaled(BYTES, BYTES / 16) / most {
        let layout = layout(most / 4 + random.below(most), 8);
        blocks.push(Block::new(lane.allocate(layout).unwrap(), layout, n as u64));
    }
    let mut kept = Vec::new();
    while !blocks.is_empty() {
        let block = blocks.swap_remove(random.below(blocks.len()));
        if random.one_in(20) {
            kept.push(block);
        } else {
            assert_eq!(block.wrong(), 0, "{block:?}");
            block.free(arena);
        }
    }
    kept
}

/// Fragments and trims the heap a few times, in several threads, and checks the remaining blocks each time.
pub fn make(arena: &Arena, random: &mut Random) -> u64 {
    let work = |mut random: Random| {
        let mut live = Vec::new();
        for _ in 0..ROUNDS {
            live.append(&mut fragment(arena, &mut random));
            if !random.one_in(4) {
                arena.trim();
            }
            live.iter().for_each(|block: &Block| assert_eq!(block.wrong(), 0, "{block:?}"));
        }
        live.into_iter().for_each(|block| block.free(arena));
    };
    let threads = 1 + random.below(3);
    thread::scope(|scope| {
        let begin = |_| {
            let random = Random::new(random.next() >> 8);
            scope.spawn(move || work(random))
        };
        // Join each thread: the end of the scope would not wait for the destructors of thread locals.
        let threads: Vec<_> = (0..threads).map(begin).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    (threads * ROUNDS) as u64
}
