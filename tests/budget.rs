//! Limits on what an arena costs, and changing them while it works.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs)]

mod common;

use common::blocks::evict_everything;
use common::numbers::{fill, verify};
use common::pages::{PAGE, Pages, eventually};
use common::{SetOnDrop, quiet, scaled, setups};
use std::sync::atomic::{AtomicBool, Ordering};
use thermocline::{Arena, ArenaError, Stats};

/// Pages in memory and the store's.
fn cost(stats: &Stats) -> usize {
    stats.resident_bytes + stats.store_bytes
}

#[test]
fn the_memory_limit_counts_the_store_too() {
    for setup in setups("the_memory_limit_counts_the_store_too") {
        let limit = 22 << 20;
        let arena = quiet(setup).memory_limit(limit).build().unwrap();
        let numbers = fill(&arena, 4 << 20);
        for _ in 0..2 {
            eventually(&arena, "the limit", |stats| cost(stats) <= limit);
            // Nothing is touched now, so nothing changes until it is.
            let stats = arena.stats();
            assert!(stats.store_bytes > 1 << 20, "{setup}: a store that matters: {stats}");
            assert!(stats.resident_bytes > 1 << 20, "{setup}: what fits stays: {stats}");
            verify(&numbers);
        }
        arena.check().unwrap();
    }
}

/// Reads all pages, in an order of its own, and says how many were wrong.
fn read_all(pages: Pages<'_>, seed: usize) -> usize {
    // A step that is coprime to the count visits every page; a step of one reads from end to end.
    let step = if seed == 0 { 1 } else { 104_729 };
    (0..pages.count).filter(|n| !pages.is_right((n * step + seed) % pages.count)).count()
}

/// A fault brings pages back in microseconds. The evictor takes longer to evict as many.
#[test]
fn readers_do_not_outrun_the_evictor() {
    const MIB: usize = 1 << 20;
    const READERS: usize = 2;
    for setup in setups("readers_do_not_outrun_the_evictor") {
        let (limit, data) = scaled((48 * MIB, 256 * MIB), (8 * MIB, 24 * MIB));
        let arena = quiet(setup).reserve(1 << 30).memory_limit(limit).build().unwrap();
        let pages = Pages::new(&arena, data / PAGE);
        // Written slowly enough to stay at the limit.
        for page in 0..pages.count {
            pages.write(page, 3, page as u64 + 1);
            pages.write(page, 400, (page as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            if arena.excess_bytes() > MIB {
                eventually(&arena, "the limit", |_| arena.excess_bytes() == 0);
            }
        }
        eventually(&arena, "the limit", |_| arena.excess_bytes() == 0);
        let done = AtomicBool::new(false);
        let peak = std::thread::scope(|scope| {
            let watching = scope.spawn(|| {
                let mut peak = 0;
                while !done.load(Ordering::Relaxed) {
                    peak = peak.max(cost(&arena.stats()));
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                peak
            });
            let readers: Vec<_> =
                (0..READERS).map(|seed| scope.spawn(move || read_all(pages, seed * 77))).collect();
            let done = SetOnDrop(&done);
            for reader in readers {
                assert_eq!(reader.join().unwrap(), 0, "{setup}: wrong pages");
            }
            drop(done);
            watching.join().unwrap()
        });
        let stats = arena.stats();
        assert!(stats.refaults > 0 && stats.limit_waits > 0, "{setup}: {stats}");
        let allowed = limit + 8 * MIB + READERS * (256 << 10);
        assert!(peak <= allowed, "{setup}: {peak} bytes, at most {allowed}: {stats}");
    }
}

/// Data that does not compress cannot go, so that waiting for it would only cost time.
#[test]
fn a_limit_that_cannot_be_kept_makes_no_thread_wait_for_ever() {
    for setup in setups("a_limit_that_cannot_be_kept_makes_no_thread_wait") {
        let arena = quiet(setup).memory_limit(4 << 20).build().unwrap();
        let mut noise = 1u64;
        let pages = Pages::new(&arena, scaled(8192, 2048));
        for page in 0..pages.count {
            for word in 0..PAGE / 8 {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                pages.write(page, word, noise);
            }
        }
        let stats = arena.stats();
        assert!(arena.excess_bytes() > 2 << 20, "{setup}: {stats}");
        // Each page was a chance to wait.
        assert!(stats.limit_waits < 1000, "{setup}: {stats}");
    }
}

#[test]
fn the_excess_is_what_is_above_the_limits() {
    for setup in setups("the_excess_is_what_is_above") {
        let arena = quiet(setup).build().unwrap();
        let mut noise = 1u64;
        let mut numbers = allocator_api2::vec::Vec::new_in(&arena);
        numbers.extend((0..1 << 19).map(|_| {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            noise ^ noise >> 29
        }));
        assert_eq!(arena.excess_bytes(), 0, "{setup}: no limit");
        // What does not compress cannot go.
        arena.set_resident_limit(Some(1 << 20)).unwrap();
        let over = |stats: &Stats| stats.resident_bytes - (1 << 20);
        eventually(&arena, "all of it tried", |stats| stats.incompressible_pages >= 1000);
        let stats = arena.stats();
        assert!(over(&stats) > 2 << 20 && arena.excess_bytes() > 2 << 20, "{setup}: {stats}");
        arena.set_resident_limit(None).unwrap();
        assert_eq!(arena.excess_bytes(), 0, "{setup}");
        // Nor can the store, which is all that there is.
        drop(numbers);
        arena.trim();
        let stored = fill(&arena, 1 << 20);
        evict_everything(&arena);
        arena.set_memory_limit(Some(1 << 20)).unwrap();
        assert!(arena.excess_bytes() > 1 << 20, "{setup}: {}", arena.stats());
        drop(stored);
    }
}

type Set = fn(&Arena, Option<usize>) -> Result<(), ArenaError>;

#[test]
fn limits_change_while_the_arena_works() {
    for setup in setups("limits_change_while_the_arena_works") {
        let arena = quiet(setup).build().unwrap();
        let numbers = fill(&arena, 2 << 20);
        let whole = arena.stats().resident_bytes;
        assert!(whole >= 16 << 20);
        for set in [Arena::set_resident_limit as Set, Arena::set_memory_limit] {
            for limit in [12 << 20, 8 << 20] {
                set(&arena, Some(limit)).unwrap();
                eventually(&arena, "the limit", |stats| stats.resident_bytes <= limit);
            }
            // Without it nothing that has come back goes again: nobody looks for an hour.
            set(&arena, None).unwrap();
            verify(&numbers);
            assert_eq!(arena.evict_now().map(drop), Ok(()), "nothing is under way any more");
            let evicted = arena.stats().evicted_pages;
            verify(&numbers);
            assert_eq!(arena.stats().evicted_pages, evicted, "{setup}");
        }
        arena.check().unwrap();
    }
}

#[test]
fn a_limit_that_nothing_can_be_done_with_changes_nothing() {
    for setup in setups("a_limit_that_nothing_can_be_done_with") {
        let arena = quiet(setup).resident_limit(4 << 20).build().unwrap();
        let too_low = Err(ArenaError::LimitTooLow { given: 1000, least: 256 << 10 });
        assert_eq!(arena.set_resident_limit(Some(1000)), too_low);
        assert_eq!(arena.set_memory_limit(Some(1000)), too_low);
        let numbers = fill(&arena, 2 << 20);
        eventually(&arena, "the limit", |stats| stats.resident_bytes <= 4 << 20);
        assert!(arena.stats().resident_bytes > 1 << 20, "{setup}: {}", arena.stats());
        verify(&numbers);
        arena.stop().unwrap();
        assert_eq!(arena.set_memory_limit(None), Err(ArenaError::NotSwapping));
    }
}

#[test]
fn a_stopped_arena_has_no_store() {
    for setup in setups("a_stopped_arena_has_no_store") {
        let arena = quiet(setup).build().unwrap();
        let numbers = fill(&arena, 1 << 20);
        evict_everything(&arena);
        assert!(arena.stats().store_bytes > 1 << 20, "{setup}: {}", arena.stats());
        arena.stop().unwrap();
        assert_eq!(arena.stats().store_bytes, 0, "{setup}: {}", arena.stats());
        verify(&numbers);
    }
}
