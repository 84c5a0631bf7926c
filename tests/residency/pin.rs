//! `pin`: pages that the evictor leaves resident.

use super::common::pages::{PAGE, Pages, eventually, evict};
use super::common::{quiet, scaled, setups};
use super::{bytes, is_enough};
use std::thread;
use std::time::Duration;
use thermocline::Advice;

#[test]
fn pinned_pages_stay_resident_and_their_neighbours_are_evicted() {
    for setup in setups("pinned_pages_stay") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 1000);
        let pinned = arena.pin(pages.part(100, 37)).unwrap();
        assert_eq!((pinned.bytes(), arena.stats().pinned_bytes), (bytes(37), bytes(37)));
        evict(&arena, 1000 - 37);
        arena.advise(pages.part(100, 37), Advice::Cold).unwrap();
        arena.advise(pages.part(90, 60), Advice::Cold).unwrap();
        // The evictor runs the check, after the advice.
        arena.check().unwrap();
        evict(&arena, 1000 - 37);
        let before = arena.stats();
        assert_eq!(before.resident_bytes, bytes(37), "{setup}");
        assert!((100..137).all(|page| pages.is_right(page)));
        assert_eq!(arena.stats().faults, before.faults, "{setup}: {}", arena.stats());
        drop(pinned);
        assert_eq!(arena.stats().pinned_bytes, 0);
        evict(&arena, 1000);
        pages.verify();
        arena.check().unwrap();
    }
}

#[test]
fn overlapping_pins_are_counted() {
    for setup in setups("overlapping_pins") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 100);
        let outer = arena.pin(pages.part(10, 50)).unwrap();
        let inner = arena.pin(pages.part(20, 10)).unwrap();
        let across = arena.pin(pages.part(50, 20)).unwrap();
        let again = arena.pin(pages.part(50, 20)).unwrap();
        assert_eq!(arena.stats().pinned_bytes, bytes(50 + 10 + 20 + 20));
        evict(&arena, 100 - 60);
        drop(outer);
        evict(&arena, 100 - 30);
        drop(again);
        evict(&arena, 100 - 30);
        drop(across);
        evict(&arena, 100 - 10);
        drop(inner);
        evict(&arena, 100);
        assert_eq!(arena.stats().pinned_bytes, 0);
        pages.verify();
    }
}

#[test]
fn pinning_evicted_memory_brings_it_back() {
    for setup in setups("pinning_evicted_memory") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 1000);
        evict(&arena, 1000);
        let pinned = arena.pin(pages.part(300, 100)).unwrap();
        assert_eq!(arena.stats().resident_bytes, bytes(100), "{setup}: {}", arena.stats());
        arena.evict_now().unwrap();
        let before = arena.stats();
        assert!((300..400).all(|page| pages.is_right(page)));
        assert_eq!(arena.stats().faults, before.faults, "{setup}");
        // Memory that was never written is filled with zeros.
        let fresh = Pages::new(&arena, 2000);
        let also = arena.pin(fresh.part(1000, 1000)).unwrap();
        arena.evict_now().unwrap();
        assert_eq!(arena.stats().resident_bytes, bytes(1100), "{setup}");
        assert!((1000..2000).all(|page| fresh.read(page, 0) == 0));
        assert_eq!(arena.stats().faults, before.faults, "{setup}");
        drop((pinned, also));
        pages.verify();
        arena.check().unwrap();
    }
}

#[test]
fn memory_may_be_freed_while_it_is_pinned() {
    for setup in setups("memory_may_be_freed_while_it_is_pinned") {
        let arena = quiet(setup).reserve(8 << 20).build().unwrap();
        let pages = Pages::filled(&arena, 1000);
        let pinned = arena.pin(pages.range()).unwrap();
        pages.free();
        arena.trim();
        assert_eq!(arena.stats().memory_bytes, 0, "{setup}");
        // The arena has room for one such block only, at the same place.
        let others = Pages::filled(&arena, 1000);
        assert!((0..1000).all(|page| others.read(page, 4) == 0));
        arena.evict_now().unwrap();
        others.verify();
        let theirs = arena.pin(others.part(0, 500)).unwrap();
        drop(pinned);
        arena.evict_now().unwrap();
        assert!((0..500).all(|page| others.is_right(page)));
        assert_eq!(arena.stats().pinned_bytes, bytes(500));
        drop(theirs);
        evict(&arena, 1000);
        others.verify();
        others.free();
        arena.trim();
        assert_eq!((arena.stats().memory_bytes, arena.stats().stored_bytes), (0, 0));
        arena.check().unwrap();
    }
}

/// The evictor must not count pinned pages as evictable: it keeps the limit by unpinned pages.
#[test]
fn the_resident_limit_is_kept_by_evicting_unpinned_pages() {
    for setup in setups("the_resident_limit_is_kept") {
        let arena = quiet(setup)
            .resident_limit(2048 * PAGE)
            .scan_interval(Duration::from_millis(20))
            .cold_age(Duration::from_secs(1000))
            .build()
            .unwrap();
        let kept = Pages::filled(&arena, 1500);
        // Armed before they are pinned and not touched since, they look the oldest by far.
        eventually(&arena, "some scans", |stats| stats.scans > 5);
        let pinned = arena.pin(kept.range()).unwrap();
        let cycles = arena.stats().scans;
        eventually(&arena, "more scans", |stats| stats.scans > cycles + 20);
        let others = Pages::new(&arena, 4000);
        for page in 0..4000 {
            others.write(page, 3, page as u64 + 1);
            // Each time the evictor has to take fewer pages than are pinned.
            if page % 400 == 399 {
                eventually(&arena, "the limit", |stats| stats.resident_bytes <= bytes(2048));
            }
        }
        assert!((0..1500).all(|page| kept.is_right(page)));
        others.verify();
        eventually(&arena, "the limit again", |stats| stats.resident_bytes <= bytes(2048));
        drop(pinned);
        kept.verify();
    }
}

#[test]
fn pinned_pages_stay_resident_under_zeal() {
    for setup in setups("pinned_pages_stay_resident_under_zeal") {
        let interval = Duration::from_millis(1);
        let builder = quiet(setup).scan_interval(interval).cold_age(interval).zeal(true);
        let arena = builder.build().unwrap();
        let pages = Pages::filled(&arena, 1000);
        thread::scope(|scope| {
            for number in 0..4 {
                let arena = &arena;
                scope.spawn(move || {
                    // A busy machine gets more rounds.
                    let goes_on = |round| round < scaled(600, 40) || !is_enough(&arena.stats());
                    for round in (0..60_000usize).take_while(|round| goes_on(*round)) {
                        let first = (number * 217 + round * 31) % 900;
                        let pinned = arena.pin(pages.part(first, 100)).unwrap();
                        // Each word has one writer.
                        for page in (first..first + 100).step_by(7) {
                            pages.write(page, 100 + number, round as u64);
                            assert!(pages.is_right(page), "{setup}, page {page}");
                            assert_eq!(pages.read(page, 100 + number), round as u64);
                        }
                        drop(pinned);
                        assert!(pages.is_right((first + 500) % 1000));
                    }
                });
            }
        });
        let stats = arena.stats();
        assert!(is_enough(&stats) && stats.pinned_bytes == 0, "{setup}: {stats}");
        pages.verify();
        // Pinned pages raise no fault, however often the evictor scans.
        let pinned = arena.pin(pages.range()).unwrap();
        // The evictor counts a dropped page a moment later.
        arena.check().unwrap();
        let before = arena.stats();
        while arena.stats().scans < before.scans + 20 {
            pages.verify();
        }
        let stats = arena.stats();
        assert_eq!(
            (stats.faults, stats.evicted_pages),
            (before.faults, before.evicted_pages),
            "{setup}"
        );
        drop(pinned);
        eventually(&arena, "the eviction", |stats| stats.resident_bytes == 0);
        arena.check().unwrap();
    }
}

#[test]
fn a_pin_guard_may_outlive_the_arena() {
    for setup in setups("a_pin_guard_may_outlive_the_arena") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 100);
        evict(&arena, 100);
        let (address, range) = (pages.address, pages.part(10, 10));
        let pinned = arena.pin(range).unwrap();
        drop(arena);
        for page in 0..100u64 {
            let at = address + page as usize * PAGE + 24;
            // SAFETY: the guard keeps the arena's memory alive, and the block was not freed.
            let read = unsafe { std::ptr::with_exposed_provenance::<u64>(at).read_volatile() };
            assert_eq!(read, page + 1, "{setup}");
        }
        assert_eq!(pinned.bytes(), bytes(10));
        thread::spawn(move || drop(pinned)).join().unwrap();
    }
}
