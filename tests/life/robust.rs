//! Robust mutexes in an arena, whose owner ends. When a thread ends, the kernel walks the list of its robust
//! mutexes (`exit_robust_list`). A stored page does not come back at that time.

use super::common::pages::{PAGE_BYTES, Pages, eventually};
use super::common::robust::Robust;
use super::common::{Setup, quiet, setups};
use std::sync::mpsc;
use std::thread;
use thermocline::Arena;

const PAGES: usize = 300;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Locked {
    ArenaLast,
    ArenaFirst,
}

/// Evicts until `pages` pages are resident.
fn evict_all_but(arena: &Arena, pages: usize) {
    eventually(arena, "an eviction of the rest", |stats| {
        arena.evict_now().unwrap();
        stats.resident_bytes == pages as u64 * PAGE_BYTES
    });
}

/// A thread locks a mutex in ordinary memory and one in an arena, all unpinned pages are evicted, and the
/// thread ends. Calls `look` with both mutexes.
fn owner_ends(setup: Setup, pinned: bool, locked: Locked, look: impl FnOnce(Robust, Robust)) {
    let arena = quiet(setup).build().unwrap();
    let pages = Pages::filled(&arena, PAGES);
    let page = Pages::new(&arena, 1);
    // SAFETY: plain bytes, which `Robust::at` initialises.
    let mut place: Box<libc::pthread_mutex_t> = Box::new(unsafe { core::mem::zeroed() });
    let ordinary = Robust::at(&raw mut *place);
    let in_arena = Robust::at(page.word(0, 0).cast());
    let pin = pinned.then(|| arena.pin(page.range()).unwrap());
    let (has_locked, locked_both) = mpsc::channel();
    let (end, told_to_end) = mpsc::channel();
    let owner = thread::spawn(move || {
        // The kernel's list begins with the mutex that was locked last.
        let in_order = match locked {
            Locked::ArenaLast => [ordinary, in_arena],
            Locked::ArenaFirst => [in_arena, ordinary],
        };
        in_order.into_iter().for_each(Robust::lock);
        has_locked.send(()).unwrap();
        told_to_end.recv().unwrap();
    });
    locked_both.recv().unwrap();
    evict_all_but(&arena, usize::from(pinned));
    end.send(()).unwrap();
    owner.join().unwrap();
    look(ordinary, in_arena);
    drop(pin);
    pages.verify();
}

#[test]
fn robust_mutexes_in_pinned_memory_can_be_recovered() {
    for setup in setups("robust::robust_mutexes_in_pinned_memory_can_be_recovered") {
        for locked in [Locked::ArenaLast, Locked::ArenaFirst] {
            owner_ends(setup, true, locked, |ordinary, in_arena| {
                assert!(in_arena.is_inherited(), "{setup}");
                assert!(ordinary.is_inherited(), "{setup}");
            });
        }
    }
}

/// The kernel gives up at the first mutex that it cannot reach. That mutex, and those locked before it, stay
/// locked.
#[test]
fn a_robust_mutex_in_an_evicted_page_stays_locked_with_those_locked_before_it() {
    const TEST: &str =
        "robust::a_robust_mutex_in_an_evicted_page_stays_locked_with_those_locked_before_it";
    for setup in setups(TEST) {
        owner_ends(setup, false, Locked::ArenaLast, |ordinary, in_arena| {
            assert!(ordinary.is_orphaned(), "{setup}");
            assert!(in_arena.is_orphaned(), "{setup}");
        });
        owner_ends(setup, false, Locked::ArenaFirst, |ordinary, in_arena| {
            assert!(ordinary.is_inherited(), "{setup}");
            assert!(in_arena.is_orphaned(), "{setup}");
        });
    }
}
