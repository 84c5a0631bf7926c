//! Threads that end while they have a robust mutex in pinned memory.

use super::common::blocks::Random;
use super::common::pages::Pages;
use super::common::robust::Robust;
use super::scene::Scene;
use std::thread;

/// The next thread that locks the mutex must learn of it, whatever is evicted meanwhile.
pub fn end(scene: Scene<'_>, random: Random) -> u64 {
    scene.repeat(random, 20_000, |_| {
        let page = Pages::new(scene.arena, 1);
        let pinned = scene.arena.pin(page.range()).unwrap();
        let mutex = Robust::at(page.word(0, 0).cast());
        thread::spawn(move || mutex.lock()).join().unwrap();
        assert!(mutex.is_inherited(), "a mutex whose owner has ended stays locked");
        drop(pinned);
        page.free();
    })
}
