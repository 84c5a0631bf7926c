//! The calls that a program may make on an arena at any time.

use super::common::blocks::Random;
use super::common::program::asked;
use super::scene::{Scene, part};
use super::standing::STANDING;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::ops::Range;
use thermocline::{Advice, PinGuard};

const KIB: usize = 1 << 10;

/// Changes the limits, and advises, prefetches, ensures and pins.
pub fn turn(scene: Scene<'_>, random: Random) -> u64 {
    let arena = scene.arena;
    let mut pinned: Option<(PinGuard, Range<usize>)> = None;
    let mut pipe = std::io::pipe().unwrap();
    scene.repeat(random, 4000, |random| {
        let (pages, range) = part(random);
        let limit = (!random.one_in(3)).then_some((256 + random.below(16 * KIB)) * KIB);
        match random.below(16) {
            0..=1 => asked(arena.set_resident_limit(limit)),
            2..=3 => asked(arena.set_memory_limit(limit)),
            4..=5 => asked(arena.evict_now()),
            6 => drop(arena.trim()),
            7..=9 => asked(arena.advise(range, Advice::Cold)),
            10 => asked(arena.advise(range, Advice::WillNeed)),
            11 => asked(arena.prefetch(range)),
            12..=13 => pinned = Some((arena.pin(range).unwrap(), pages)),
            14 => arena.ensure(range).unwrap(),
            _ => {
                assert_eq!(arena.stats().lost_bytes, 0);
                assert!(arena.heap_stats().unwrap().fragmentation() <= 1.0);
            }
        }
        if let Some((_, pages)) = &pinned {
            give_to_kernel(&mut pipe, pages.start + random.below(pages.len()));
        }
        // For some of the time no page is pinned.
        if random.one_in(4) {
            pinned = None;
        }
    })
}

/// Sends a pinned page through a pipe, so that the kernel reads it.
fn give_to_kernel((reader, writer): &mut (PipeReader, PipeWriter), page: usize) {
    // SAFETY: in the arena until the scene is over, and never written.
    let bytes = unsafe { &*STANDING.constant(page) };
    writer.write_all(bytes).expect("a system call failed on pinned memory");
    let mut sent = vec![0; bytes.len()];
    reader.read_exact(&mut sent).unwrap();
    STANDING.compare_constant(page, &sent);
}
