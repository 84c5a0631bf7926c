//! Limits on what an arena costs, and changing them while it works.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs)]

mod common;

use common::blocks::evict_everything;
use common::numbers::{fill, verify};
use common::pages::eventually;
use common::{quiet, setups};
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
        eventually(&arena, "all of it tried", |stats| stats.incompressible >= 1000);
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
            let evicted = arena.stats().evicted;
            verify(&numbers);
            assert_eq!(arena.stats().evicted, evicted, "{setup}");
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
