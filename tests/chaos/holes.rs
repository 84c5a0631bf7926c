//! A heap of which most blocks are freed at random, again and again, and trimmed.

use super::common::blocks::{Block, Random, layout};
use super::common::{LANES, scaled};
use std::thread;
use thermocline::Arena;

/// Bytes that a thread allocates at a time, about.
const BYTES: usize = 2 << 20;

/// How often each thread does so.
const ROUNDS: usize = 4;

/// Allocates blocks of about the same size, and gives one in twenty of them after the others are freed.
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

/// Fragments the heap and trims it a few times, in several threads, and looks at what is left each time.
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
        // All of them before the first is waited for. The end of the scope would not wait for what a
        // thread does last.
        let threads: Vec<_> = (0..threads).map(begin).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    (threads * ROUNDS) as u64
}
