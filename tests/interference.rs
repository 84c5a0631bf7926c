//! A program that disturbs its own arena: it stops the arena during faults, locks and advises memory, and
//! interrupts its threads.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs, unsafe_code)]

mod common;

use common::pages::{PAGE, Pages, evict};
use common::{SetOnDrop, quiet, scaled, setups};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use thermocline::{Backing, Tracker};

/// Threads touch the same pages for the first time while the program stops the arena. A late fault message
/// must not replace a written page.
#[test]
fn stopping_while_pages_are_touched_for_the_first_time() {
    for setup in setups("stopping_while_pages_are_touched") {
        for round in 0..scaled(40usize, 4) {
            let arena = quiet(setup).build().unwrap();
            let pages = Pages::new(&arena, 8000);
            let touched = AtomicUsize::new(0);
            thread::scope(|scope| {
                for number in 0..4usize {
                    let touched = &touched;
                    scope.spawn(move || {
                        // Backwards, so that no page is populated ahead. Two threads touch each page.
                        for page in (0..pages.count).rev().skip(number / 2).step_by(2) {
                            pages.write(page, number, page as u64 + 1);
                            touched.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
                while touched.load(Ordering::Relaxed) < 100 + round * 150 {
                    thread::yield_now();
                }
                arena.stop().unwrap();
            });
            for number in 0..4usize {
                for page in (0..pages.count).rev().skip(number / 2).step_by(2) {
                    assert_eq!(pages.read(page, number), page as u64 + 1, "{setup}, {round}");
                }
            }
            pages.free();
            arena.trim();
            assert_eq!((arena.stats().lost_bytes, arena.stats().memory_bytes), (0, 0));
        }
    }
}

/// `madvise` on a part of a block splits its mapping. No call of the library may span two mappings.
#[test]
fn madvise_on_parts_of_a_block_is_tolerated() {
    for setup in setups("madvise_on_parts_of_a_block_is_tolerated") {
        for advice in [libc::MADV_RANDOM, libc::MADV_DODUMP] {
            let arena = quiet(setup).build().unwrap();
            let pages = Pages::new(&arena, 4096);
            for page in [700, 2085, 2088, 2100] {
                // SAFETY: a page of the block; the advice does not change its content.
                let done = unsafe { libc::madvise(pages.word(page, 0).cast(), PAGE, advice) };
                assert_eq!(done, 0);
            }
            pages.fill();
            pages.verify();
            evict(&arena, 4096);
            assert_eq!(arena.prefetch(pages.range()).unwrap(), 4096);
            pages.verify();
            evict(&arena, 4096);
            arena.stop().unwrap();
            pages.verify();
            assert_eq!(arena.stats().lost_bytes, 0);
        }
    }
}

/// A page that the program locks stays resident. The evictor must still evict all unlocked pages.
#[test]
fn locked_pages_do_not_keep_the_rest_from_being_evicted() {
    for setup in setups("locked_pages") {
        // Short ticks, because a page that the kernel refuses backs off for eight of them.
        let arena = quiet(setup).scan_interval(Duration::from_millis(10)).build().unwrap();
        let pages = Pages::new(&arena, 4096);
        pages.fill();
        // SAFETY: a page of the block.
        assert_eq!(unsafe { libc::mlock(pages.word(1000, 0).cast(), PAGE) }, 0);
        let evicted = arena.evict_now().unwrap();
        match (setup.backing, setup.tracker) {
            (Backing::Private, _) => {
                // The kernel moves no locked page.
                assert!(evicted.refusal.is_some() && evicted.refused == 1, "{evicted:?}");
                assert_eq!(evicted.pages, 4095, "{evicted:?}");
            }
            (_, Tracker::Zap) => {
                // The kernel removes no locked page from a page table, and refuses a call whose range contains
                // a locked page.
                let refused = evicted.refusal.is_some() && arena.stats().kernel_errors > 0;
                assert!(refused, "{setup}: {evicted:?}\n{}", arena.stats());
                assert!(evicted.pages >= 4096 - 512 - 8, "{evicted:?}");
            }
            _ => evict(&arena, 4096),
        }
        pages.verify();
        // SAFETY: as above.
        assert_eq!(unsafe { libc::munlock(pages.word(1000, 0).cast(), PAGE) }, 0);
        evict(&arena, 4096);
    }
}

/// Threads touch pages while they are evicted, and free them at once. The touch has taken the pages back from
/// the evictor, which must then not create memory at their addresses.
#[test]
fn freeing_pages_that_were_just_taken_back() {
    for setup in setups("freeing_pages_that_were_just_taken_back") {
        let arena = quiet(setup).handler_threads(1).build().unwrap();
        for _ in 0..scaled(60, 6) {
            let blocks: Vec<_> = (0..600).map(|_| Pages::new(&arena, 3)).collect();
            blocks.iter().for_each(|block| block.fill());
            thread::scope(|scope| {
                scope.spawn(|| arena.evict_now().unwrap());
                for number in 0..6 {
                    let blocks = &blocks;
                    scope.spawn(move || {
                        for i in 0..100 {
                            let block = blocks[(i * 6 + number) * 7 % 600];
                            block.verify();
                            block.free();
                        }
                    });
                }
            });
            arena.check().unwrap();
            let stats = arena.stats();
            assert_eq!(stats.memory_bytes, stats.resident_bytes, "{setup}: {stats}");
            assert_eq!(stats.allocated_bytes, 0);
        }
    }
}

/// Signal handlers that touch evicted pages interrupt a thread that calls the evictor. The threads that
/// restore those pages call the evictor too.
#[test]
fn signal_handlers_interrupt_a_thread_that_calls_the_evictor() {
    static ADDRESS: AtomicUsize = AtomicUsize::new(0);
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    const PAGES: usize = 4096;

    extern "C" fn handler(_: libc::c_int) {
        for _ in 0..6 {
            let page = NEXT.fetch_add(1, Ordering::Relaxed) * 7919 % PAGES;
            let at = ADDRESS.load(Ordering::Relaxed) + page * PAGE;
            // SAFETY: within a block that outlives the signals.
            unsafe { std::ptr::with_exposed_provenance::<u64>(at).read_volatile() };
        }
    }

    for setup in setups("signal_handlers_interrupt_a_thread_that_calls_the_evictor") {
        let arena = quiet(setup)
            .resident_limit(1 << 20)
            .scan_interval(Duration::from_millis(10))
            .cold_age(Duration::from_secs(1000))
            .build()
            .unwrap();
        let pages = Pages::new(&arena, PAGES);
        pages.fill();
        ADDRESS.store(pages.address, Ordering::Relaxed);
        // SAFETY: the handler reads memory and adds to an atomic.
        unsafe { libc::signal(libc::SIGUSR1, handler as extern "C" fn(libc::c_int) as usize) };
        // SAFETY: takes nothing.
        let me = unsafe { libc::pthread_self() };
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // SAFETY: the thread that started this scope, which waits for its end.
                    unsafe { libc::pthread_kill(me, libc::SIGUSR1) };
                    thread::sleep(Duration::from_micros(60));
                }
            });
            let _over = SetOnDrop(&over);
            let small = std::ptr::slice_from_raw_parts(pages.word(0, 0), 8);
            for round in 0..scaled(8000, 400) {
                arena.advise(small, thermocline::Advice::WillNeed).unwrap();
                if round % 100 == 0 {
                    arena.evict_now().unwrap();
                }
                arena.prefetch(small).unwrap();
            }
        });
        assert!(NEXT.load(Ordering::Relaxed) > 100);
        pages.verify();
    }
}
