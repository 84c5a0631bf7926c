//! Memory that others take and give back, in waves.

use super::common::blocks::Random;
use super::common::pages::PAGE;
use super::machine;
use super::scene::Scene;
use memmap2::MmapMut;
use std::thread;
use std::time::Duration;

/// Takes up to 64 MiB, or, where the machine is ours, a sixteenth of what is left.
pub fn press(scene: Scene<'_>, random: Random) -> u64 {
    let most = if machine::is_ours() { machine::available_bytes() / 16 } else { 64 << 20 };
    scene.repeat(random, 30_000, |random| {
        let mut taken = MmapMut::map_anon(1 + random.below(most)).unwrap();
        for page in taken.chunks_mut(PAGE) {
            page[0] = 1;
            if scene.is_over() {
                break;
            }
        }
        thread::sleep(Duration::from_micros(random.below(10_000) as u64));
    })
}
