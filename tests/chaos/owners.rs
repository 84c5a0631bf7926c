//! Threads that end while they hold a robust mutex in pinned memory.

use super::common::blocks::Random;
use super::common::pages::{PAGE, Pages};
use super::common::robust::Robust;
use super::scene::Scene;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use thermocline::Arena;

/// The address of the mutex's page. It stays as long as the arena, because the programs count all blocks.
static PAGE_OF_MUTEX: AtomicUsize = AtomicUsize::new(0);

pub fn open(arena: &Arena) {
    PAGE_OF_MUTEX.store(Pages::new(arena, 1).address, Ordering::Relaxed);
}

fn page(arena: &Arena) -> Pages<'_> {
    Pages { arena, address: PAGE_OF_MUTEX.load(Ordering::Relaxed), count: 1 }
}

pub fn close(arena: &Arena) {
    page(arena).free();
}

/// The next thread that locks the mutex must learn that its owner ended, also while pages are evicted.
pub fn end(scene: Scene<'_>, random: Random) -> u64 {
    let page = page(scene.arena);
    scene.repeat(random, 20_000, |random| {
        let pinned = scene.arena.pin(page.range()).unwrap();
        let mutex = Robust::at(page.word(0, random.below(PAGE / 16)).cast());
        thread::spawn(move || mutex.lock()).join().unwrap();
        assert!(mutex.is_inherited(), "a mutex whose owner has ended stays locked");
        drop(pinned);
    })
}
