//! All that can be asked of an arena that works.

use super::common::blocks::Random;
use super::common::program::asked;
use super::scene::{Scene, part};
use thermocline::{Advice, PinGuard};

const KIB: usize = 1 << 10;

/// Changes the limits, and says what is going to be touched.
pub fn turn(scene: Scene<'_>, random: Random) -> u64 {
    let arena = scene.arena;
    let mut pinned: Option<(PinGuard, *const [u8])> = None;
    scene.repeat(random, 4000, |random| {
        let (_, range) = part(random);
        let limit = (!random.one_in(3)).then_some((256 + random.below(16 * KIB)) * KIB);
        match random.below(16) {
            0..=1 => asked(arena.set_resident_limit(limit)),
            2..=3 => asked(arena.set_memory_limit(limit)),
            4..=5 => asked(arena.evict_now()),
            6 => drop(arena.trim()),
            7..=9 => asked(arena.advise(range, Advice::Cold)),
            10 => asked(arena.advise(range, Advice::WillNeed)),
            11 => asked(arena.prefetch(range)),
            12..=13 => pinned = Some((arena.pin(range).unwrap(), range)),
            14 => arena.ensure(range).unwrap(),
            _ => {
                assert_eq!(arena.stats().lost_bytes, 0);
                assert!(arena.heap_stats().unwrap().fragmentation() <= 1.0);
            }
        }
        if let Some((_, range)) = &pinned {
            assert!(arena.is_resident(*range), "pinned, and yet gone: {}", arena.stats());
        }
        // Some of the time nothing is.
        if random.one_in(4) {
            pinned = None;
        }
    })
}
