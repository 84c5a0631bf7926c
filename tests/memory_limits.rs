//! `memory_limit` and `resident_limit`, and changing them at run time.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs)]

mod common;

use common::blocks::evict_everything;
use common::numbers::{fill, verify};
use common::pages::{PAGE, Pages, eventually};
use common::{SetOnDrop, quiet, scaled, setups};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thermocline::{Arena, ArenaError, Stats};

/// A MiB, or a quarter of it under emulation.
fn unit() -> usize {
    scaled(1 << 20, 1 << 18)
}

/// Bytes of resident pages and of the store.
fn cost(stats: &Stats) -> u64 {
    stats.resident_bytes + stats.store_bytes
}

#[test]
fn the_memory_limit_includes_the_store() {
    for setup in setups("the_memory_limit_includes_the_store") {
        let limit = 22 * unit();
        let arena = quiet(setup).memory_limit(limit).build().unwrap();
        let numbers = fill(&arena, 4 * unit() as u64);
        for _ in 0..2 {
            eventually(&arena, "the limit", |stats| cost(stats) <= limit as u64);
            // No thread touches a page now, so the figures do not change.
            let stats = arena.stats();
            assert!(
                stats.store_bytes > unit() as u64,
                "{setup}: the store is too small to matter: {stats}"
            );
            assert!(stats.resident_bytes > unit() as u64, "{setup}: too much was evicted: {stats}");
            verify(&numbers);
        }
        arena.check().unwrap();
    }
}

/// Reads all pages, in an order that depends on `seed`, and returns how many were wrong.
fn read_all(pages: Pages<'_>, seed: usize) -> usize {
    // A step that is coprime to the count visits every page; a step of one reads from end to end.
    let step = if seed == 0 { 1 } else { 104_729 };
    (0..pages.count).filter(|n| !pages.is_right((n * step + seed) % pages.count)).count()
}

/// Faults restore pages faster than the evictor evicts them, so readers have to wait for the evictor.
#[test]
fn fast_readers_stay_near_the_memory_limit() {
    const MIB: usize = 1 << 20;
    const READERS: usize = 2;
    for setup in setups("fast_readers_stay_near_the_memory_limit") {
        let (limit, data) = scaled((48 * MIB, 256 * MIB), (8 * MIB, 24 * MIB));
        let arena = quiet(setup).reserve(1 << 30).memory_limit(limit).build().unwrap();
        let pages = Pages::new(&arena, data / PAGE);
        // Written slowly enough to stay at the limit.
        for page in 0..pages.count {
            pages.write(page, 3, page as u64 + 1);
            pages.write(page, 400, (page as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            if arena.excess_bytes() > MIB as u64 {
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
        assert!(stats.refaults > 0, "{setup}: {stats}");
        // Under emulation a fault takes longer beside an eviction, and the evictor can keep pace with the readers.
        assert!(stats.limit_waits > 0 || scaled(false, true), "{setup}: {stats}");
        let allowed = limit + 8 * MIB + READERS * (256 << 10);
        assert!(peak <= allowed as u64, "{setup}: {peak} bytes, at most {allowed}: {stats}");
    }
}

/// Writes words that do not compress to `order`, page by page.
fn fill_with_noise(pages: &Pages, order: impl Iterator<Item = usize>) {
    let mut noise = 1u64;
    for page in order {
        for word in 0..PAGE / 8 {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            pages.write(page, word, noise);
        }
    }
}

/// The evictor cannot evict data that does not compress, so a thread that waits for the evictor only loses time.
#[test]
fn a_limit_that_cannot_be_kept_makes_no_thread_wait_for_ever() {
    for setup in setups("a_limit_that_cannot_be_kept_makes_no_thread_wait") {
        let arena = quiet(setup).memory_limit(4 << 20).build().unwrap();
        let pages = Pages::new(&arena, scaled(8192, 2048));
        fill_with_noise(&pages, 0..pages.count);
        // A handler thread counts the pages of a fault after the kernel has woken the faulting thread.
        eventually(&arena, "all pages counted", |_| arena.excess_bytes() > 2 << 20);
        let stats = arena.stats();
        // Each of the pages could have made the thread wait.
        assert!(stats.limit_waits < 1000, "{setup}: {stats}");
    }
}

/// As above, with a fault for each page.
#[test]
fn faults_do_not_wait_for_an_evictor_that_cannot_keep_the_limit() {
    for setup in setups("faults_do_not_wait_for_an_evictor_that_cannot_keep_the_limit") {
        for zeal in [false, true] {
            let arena = quiet(setup).memory_limit(4 << 20).zeal(zeal).build().unwrap();
            let pages = Pages::new(&arena, scaled(4096, 2048));
            // No page after its neighbour, so that each fault populates one page.
            fill_with_noise(&pages, (0..pages.count).map(|i| i * 1013 % pages.count));
            eventually(&arena, "all pages counted", |_| arena.excess_bytes() > 2 << 20);
            let stats = arena.stats();
            assert!(stats.faults > pages.count as u64 / 2, "{setup}: {stats}");
            assert!(stats.limit_waits < stats.faults / 8, "{setup}, zeal {zeal}: {stats}");
        }
    }
}

#[test]
fn excess_bytes_counts_the_bytes_above_the_limits() {
    for setup in setups("excess_bytes_counts_the_bytes_above_the_limits") {
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
        // The evictor cannot evict pages that do not compress.
        arena.set_resident_limit(Some(1 << 20)).unwrap();
        let over = |stats: &Stats| stats.resident_bytes - (1 << 20);
        eventually(&arena, "all of it tried", |stats| stats.incompressible_pages >= 1000);
        let stats = arena.stats();
        assert!(over(&stats) > 2 << 20 && arena.excess_bytes() > 2 << 20, "{setup}: {stats}");
        arena.set_resident_limit(None).unwrap();
        assert_eq!(arena.excess_bytes(), 0, "{setup}");
        // The evictor cannot shrink a store that is above the limit by itself.
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
fn limits_can_change_at_run_time() {
    for setup in setups("limits_can_change_at_run_time") {
        let arena = quiet(setup).build().unwrap();
        let numbers = fill(&arena, 2 * unit() as u64);
        let whole = arena.stats().resident_bytes;
        assert!(whole >= 16 * unit() as u64);
        for set in [Arena::set_resident_limit as Set, Arena::set_memory_limit] {
            for limit in [12 * unit(), 8 * unit()] {
                set(&arena, Some(limit)).unwrap();
                eventually(&arena, "the limit", |stats| stats.resident_bytes <= limit as u64);
            }
            // Without a limit restored pages stay resident: the next scan is due in an hour.
            set(&arena, None).unwrap();
            verify(&numbers);
            assert_eq!(arena.evict_now().map(drop), Ok(()), "an eviction is still under way");
            let evicted = arena.stats().evicted_pages;
            verify(&numbers);
            assert_eq!(arena.stats().evicted_pages, evicted, "{setup}");
        }
        arena.check().unwrap();
    }
}

#[test]
fn a_refused_limit_changes_nothing() {
    for setup in setups("a_refused_limit_changes_nothing") {
        let arena = quiet(setup).resident_limit(4 * unit()).build().unwrap();
        let too_low = Err(ArenaError::LimitTooLow { given: 1000, least: 256 << 10 });
        assert_eq!(arena.set_resident_limit(Some(1000)), too_low);
        assert_eq!(arena.set_memory_limit(Some(1000)), too_low);
        let numbers = fill(&arena, 2 * unit() as u64);
        eventually(&arena, "the limit", |stats| stats.resident_bytes <= 4 * unit() as u64);
        assert!(arena.stats().resident_bytes > unit() as u64, "{setup}: {}", arena.stats());
        verify(&numbers);
        arena.stop().unwrap();
        assert_eq!(arena.set_memory_limit(None), Err(ArenaError::NotSwapping));
    }
}

#[test]
fn the_cold_age_can_change_at_run_time() {
    for setup in setups("the_cold_age_can_change_at_run_time") {
        let arena = quiet(setup).scan_interval(Duration::from_millis(20)).build().unwrap();
        let numbers = fill(&arena, unit() as u64);
        let too_short = Duration::from_millis(19);
        assert_eq!(arena.set_cold_age(too_short), Err(ArenaError::ColdAge(too_short)));
        let too_long = Duration::from_millis(20 * 524_288);
        assert_eq!(arena.set_cold_age(too_long), Err(ArenaError::ColdAge(too_long)));
        assert_eq!(arena.stats().evicted_pages, 0, "{setup}");
        arena.set_cold_age(Duration::from_millis(100)).unwrap();
        eventually(&arena, "cold pages", |stats| stats.resident_bytes < unit() as u64);
        arena.set_cold_age(Duration::from_secs(3600)).unwrap();
        verify(&numbers);
        arena.stop().unwrap();
        assert_eq!(arena.set_cold_age(too_short * 2), Err(ArenaError::NotSwapping));
    }
}

#[test]
fn a_stopped_arena_has_no_store() {
    for setup in setups("a_stopped_arena_has_no_store") {
        let arena = quiet(setup).build().unwrap();
        let numbers = fill(&arena, unit() as u64);
        evict_everything(&arena);
        assert!(arena.stats().store_bytes > unit() as u64, "{setup}: {}", arena.stats());
        arena.stop().unwrap();
        assert_eq!(arena.stats().store_bytes, 0, "{setup}: {}", arena.stats());
        verify(&numbers);
    }
}
