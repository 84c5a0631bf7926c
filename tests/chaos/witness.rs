//! Threads that visit the standing pages.

use super::common::blocks::Random;
use super::common::scaled;
use super::scene::Scene;
use super::standing::STANDING;

/// Visits many pages, checks all words of one, and peeks at one.
pub fn visit(scene: Scene<'_>, random: Random) -> u64 {
    let (mut copy, many) = (Vec::new(), scaled(64, 8));
    many * scene.repeat(random, 2000, |random| {
        // Other bits of the random number choose the pages each time.
        let shift = random.below(6);
        for _ in 0..many {
            STANDING.visit((random.next() >> 8) >> (8 * shift));
        }
        STANDING.look_through(random.next());
        let page = random.below(STANDING.pages());
        // SAFETY: in the arena until the scene is over, and never written.
        let bytes = unsafe { &*STANDING.constant(page) };
        STANDING.compare_constant(page, &scene.arena.peek(bytes, &mut copy).unwrap());
    })
}
