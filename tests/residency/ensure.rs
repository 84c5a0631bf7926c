//! `ensure`; and both calls in arenas that evict nothing.

use super::common::child::{child_case, forbid_userfaultfd, passes_in_child};
use super::common::pages::{Pages, evict};
use super::common::{quiet, setups};
use super::{OUTSIDE, bytes};
use thermocline::Arena;

#[test]
fn ensured_memory_raises_no_fault() {
    for setup in setups("ensured_memory_raises_no_fault") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 1000);
        evict(&arena, 1000);
        for (first, count) in [(0, 1), (10, 16), (100, 333), (990, 10), (0, 1000)] {
            arena.ensure(pages.part(first, count)).unwrap();
            let before = arena.stats();
            assert!((first..first + count).all(|page| pages.is_right(page)));
            assert_eq!(arena.stats().faults, before.faults, "{setup}, {count} at {first}");
        }
        assert_eq!(arena.stats().resident_bytes, bytes(1000), "{setup}: {}", arena.stats());
        // A range within pages stands for the whole pages.
        evict(&arena, 1000);
        let across = std::ptr::slice_from_raw_parts(pages.word(499, 511), 2);
        arena.ensure(across).unwrap();
        let before = arena.stats();
        assert_eq!(before.resident_bytes, bytes(2));
        assert!(pages.is_right(499) && pages.is_right(500));
        assert_eq!(arena.stats().faults, before.faults);
        arena.check().unwrap();
    }
}

#[test]
fn ensuring_resident_memory_changes_nothing() {
    for setup in setups("ensuring_resident_memory") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 1000);
        let before = arena.stats();
        for _ in 0..10 {
            arena.ensure(pages.range()).unwrap();
        }
        assert_eq!(arena.stats(), before, "{setup}");
        // Ages are unchanged too, so the evictor still takes all of it.
        evict(&arena, 1000);
    }
}

#[test]
fn ensuring_memory_that_was_never_written_fills_it_with_zeros() {
    for setup in setups("ensuring_memory_that_was_never_written") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::new(&arena, 4000);
        let before = arena.stats();
        arena.ensure(pages.part(1000, 3000)).unwrap();
        let stats = arena.stats();
        assert_eq!(stats.memory_bytes, before.memory_bytes + bytes(3000), "{setup}");
        assert!((1000..4000).all(|page| pages.read(page, 9) == 0));
        pages.write(2000, 0, 1);
        assert_eq!(arena.stats().faults, before.faults, "{setup}: {stats}");
        // Stored, empty and resident pages next to each other.
        pages.free();
        let pages = Pages::new(&arena, 4000);
        for page in (2000..4000).step_by(3) {
            pages.write(page, 3, page as u64);
        }
        arena.evict_now().unwrap();
        (2000..4000).step_by(6).for_each(|page| assert_eq!(pages.read(page, 3), page as u64));
        arena.ensure(pages.part(2000, 2000)).unwrap();
        let faults = arena.stats().faults;
        for page in 2000..4000 {
            let wanted = if (page - 2000) % 3 == 0 { page as u64 } else { 0 };
            assert_eq!(pages.read(page, 3), wanted);
        }
        assert_eq!(arena.stats().faults, faults, "{setup}");
        arena.check().unwrap();
    }
}

#[test]
fn ranges_outside_of_the_arena_are_refused_and_not_pinned() {
    for setup in setups("ranges_outside") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 10);
        let start = pages.range().cast::<u64>();
        let elsewhere = [1u8, 2, 3];
        assert_eq!(arena.ensure(&elsewhere[..]), OUTSIDE);
        assert_eq!(arena.pin(&elsewhere[..]).map(drop), OUTSIDE);
        for len in [1 << 40, usize::MAX] {
            let too_long = std::ptr::slice_from_raw_parts(start, len);
            assert_eq!(arena.ensure(too_long), OUTSIDE);
            assert_eq!(arena.pin(too_long).map(drop), OUTSIDE);
        }
        assert_eq!(arena.ensure(&[0u8; 0]), Ok(()));
        assert_eq!(arena.pin(&[0u8; 0]).unwrap().bytes(), 0);
        assert_eq!(arena.stats().pinned_bytes, 0);
        evict(&arena, 10);
    }
}

#[test]
fn ensure_and_pin_succeed_in_a_stopped_arena() {
    for setup in setups("ensure_and_pin_succeed_in_a_stopped_arena") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 1000);
        evict(&arena, 1000);
        let pinned = arena.pin(pages.part(0, 100)).unwrap();
        arena.stop().unwrap();
        arena.ensure(pages.range()).unwrap();
        let more = arena.pin(pages.range()).unwrap();
        assert_eq!(more.bytes(), bytes(1000));
        pages.verify();
        drop((pinned, more));
        assert_eq!(arena.stats().pinned_bytes, 0);
        pages.free();
        arena.trim();
        assert_eq!(arena.stats().memory_bytes, 0);
    }
}

#[test]
fn ensure_and_pin_succeed_in_plain_memory() {
    const TEST: &str = "ensure::ensure_and_pin_succeed_in_plain_memory";
    if child_case().is_none() {
        passes_in_child(TEST, "plain");
        return;
    }
    forbid_userfaultfd();
    let arena = Arena::builder().plain_memory_fallback(true).reserve(64 << 20).build().unwrap();
    assert_eq!(arena.fault_mode(), None);
    let pages = Pages::new(&arena, 100);
    (0..100).for_each(|page| pages.write(page, 3, page as u64 + 1));
    arena.ensure(pages.range()).unwrap();
    let pinned = arena.pin(pages.range()).unwrap();
    assert_eq!((pinned.bytes(), arena.stats().pinned_bytes), (bytes(100), 0));
    assert_eq!(arena.ensure(&[1u8][..]), OUTSIDE);
    drop(pinned);
    pages.verify();
}
