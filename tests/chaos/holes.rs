//! A heap of which most blocks are freed at random, again and again, and trimmed.

use super::common::blocks::{Block, Random, layout};
use super::common::scaled;
use super::scene::Scene;
use thermocline::{Arena, Lane};

/// Bytes that are allocated in a step, about.
const BYTES: usize = 2 << 20;

/// Allocates blocks of about the same size, and gives one in twenty of them after the others are freed.
fn fragment(arena: &Arena, random: &mut Random) -> Vec<Block> {
    let most = [64, 600, 3000, 20_000][random.below(4)];
    let lane = arena.lane(Lane::ALL[random.below(Lane::ALL.len())]);
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

/// Fragments the heap and trims it, and looks at what is left each time.
pub fn make(scene: Scene<'_>, random: Random) -> u64 {
    let mut live = Vec::new();
    let steps = scene.repeat(random, 10_000, |random| {
        live.append(&mut fragment(scene.arena, random));
        if !random.one_in(4) {
            scene.arena.trim();
        }
        live.iter().for_each(|block| assert_eq!(block.wrong(), 0, "{block:?}"));
        if random.one_in(10) {
            live.drain(..).for_each(|block| block.free(scene.arena));
        }
    });
    live.into_iter().for_each(|block| block.free(scene.arena));
    steps
}
