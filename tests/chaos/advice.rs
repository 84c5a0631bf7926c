//! Advice to the kernel, not to the arena. Another process may give it too (`process_madvise`).

use super::common::blocks::Random;
use super::scene::{Scene, part};
use std::fs;

/// Asks the kernel to reclaim parts of the arena.
pub fn advise(scene: Scene<'_>, random: Random) -> u64 {
    scene.repeat(random, 15_000, |random| {
        let (_, range) = part(random);
        let (start, len) = if random.one_in(20) {
            mapping(range.cast::<u8>().addr())
        } else {
            (range.cast::<u8>().addr(), range.len())
        };
        let advice = if random.one_in(3) { libc::MADV_COLD } else { libc::MADV_PAGEOUT };
        let start = std::ptr::without_provenance_mut(start);
        // SAFETY: neither advice changes the contents. The kernel may ignore it.
        unsafe { libc::madvise(start, len, advice) };
    })
}

/// The mapping of an address: all of the arena, unless a call has split it.
fn mapping(address: usize) -> (usize, usize) {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut mappings = maps.lines().filter_map(|line| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        Some((number(start)?, number(end)?))
    });
    let (start, end) = mappings.find(|(start, end)| (*start..*end).contains(&address)).unwrap();
    (start, end - start)
}
