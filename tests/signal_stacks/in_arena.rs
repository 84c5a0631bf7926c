//! A stack that lies in an arena: the kernel writes signal frames to it, and a word at the end of the thread.
//! The documented way is to pin it.

use super::common::pages::{PAGE, PAGE_BYTES, Pages, eventually};
use super::common::signals::install;
use super::common::stacks::Stack;
use super::common::{SetOnDrop, quiet, scaled, setups};
use core::ffi::c_int;
use core::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

const PAGES: usize = 400;

/// The first of the words that the handlers read, and the count of their calls.
static WORDS: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);
static WRONG: AtomicUsize = AtomicUsize::new(0);

extern "C" fn read_a_page(_: c_int) {
    let page = CALLS.fetch_add(1, Ordering::Relaxed) * 37 % PAGES;
    let address = WORDS.load(Ordering::Relaxed) + page * PAGE;
    // SAFETY: a word of a page of the arena.
    let read = unsafe { ptr::with_exposed_provenance::<u64>(address).read_volatile() };
    WRONG.fetch_add(usize::from(read != page as u64 + 1), Ordering::Relaxed);
}

#[test]
fn signals_are_delivered_on_a_stack_in_pinned_memory() {
    const TEST: &str = "in_arena::signals_are_delivered_on_a_stack_in_pinned_memory";
    let handler = read_a_page as extern "C" fn(_) as usize;
    install(libc::SIGUSR2, handler, 0, &[]);
    install(libc::SIGURG, handler, libc::SA_ONSTACK, &[]);
    for setup in setups(TEST) {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, PAGES);
        WORDS.store(pages.word(0, 3).addr(), Ordering::Relaxed);
        CALLS.store(0, Ordering::Relaxed);
        let rounds = scaled(200, 20);
        let own = Pages::new(&arena, 64);
        let alternate = Pages::new(&arena, 32);
        // Pinned from before the thread starts until after it has ended.
        let pins = [own, alternate].map(|stack| arena.pin(stack.range()).unwrap());
        // The thread has pages to restore even if it ends before the next eviction.
        eventually(&arena, "most pages stored", |stats| {
            arena.evict_now().unwrap();
            stats.stored_bytes > PAGES as u64 / 2 * PAGE_BYTES
        });
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    arena.evict_now().unwrap();
                }
            });
            let _over = SetOnDrop(&over);
            let stack = |pages: Pages<'_>| Stack::at(pages.word(0, 0).cast(), pages.count * PAGE);
            stack(own).run(Some(&stack(alternate)), &mut || {
                for round in 0..rounds {
                    let read = pages.read(round * 7 % PAGES, 3);
                    WRONG.fetch_add(
                        usize::from(read != (round * 7 % PAGES) as u64 + 1),
                        Ordering::Relaxed,
                    );
                    for signal in [libc::SIGUSR2, libc::SIGURG] {
                        // SAFETY: takes a number.
                        unsafe { libc::raise(signal) };
                    }
                    // SAFETY: as above.
                    unsafe { libc::usleep(100) };
                }
            });
        });
        drop(pins);
        assert_eq!(CALLS.load(Ordering::Relaxed), 2 * rounds, "{setup}");
        assert_eq!(WRONG.load(Ordering::Relaxed), 0, "{setup}");
        assert!(arena.stats().refaults > 0, "{setup}: {}", arena.stats());
        pages.verify();
    }
}
