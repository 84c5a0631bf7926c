//! Memory that another thread takes and gives back, in waves.

use super::common::blocks::Random;
use super::common::pages::PAGE;
use super::machine;
use super::scene::Scene;
use memmap2::MmapMut;
use std::thread;
use std::time::Duration;

/// Takes up to 64 MiB or, on a machine of the test's own, a sixteenth of the available memory.
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
