//! Advice that is not given to the arena but to the kernel, as another process may (`process_madvise`).

use super::common::blocks::Random;
use super::scene::{Scene, part};
use std::fs;

/// Has the kernel reclaim what it can of the arena.
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
        // SAFETY: neither advice changes the contents. The kernel may have no time for it.
        unsafe { libc::madvise(start, len, advice) };
    })
}

/// The mapping that an address lies in: all of the arena, unless it was cut to pieces.
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
