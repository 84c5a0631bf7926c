//! An arena as a program sees it, in its own process.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs)]

mod common;

use allocator_api2::vec::Vec as AVec;
use common::{quiet, trackers};
use thermocline::Arena;

/// Numbers that compress, each telling its place.
fn fill(arena: &Arena, count: u64) -> AVec<u64, &Arena> {
    let mut numbers = AVec::with_capacity_in(usize::try_from(count).unwrap(), arena);
    numbers.extend((0..count).map(|n| n * 3));
    numbers
}

fn verify(numbers: &[u64]) {
    for (n, number) in numbers.iter().enumerate() {
        assert_eq!(*number, n as u64 * 3, "number {n}");
    }
}

#[test]
fn pages_go_and_come_back() {
    for tracker in trackers("pages_go_and_come_back") {
        let arena = quiet(tracker).build().unwrap();
        let numbers = fill(&arena, 1 << 20);
        let before = arena.stats();
        assert!(before.memory_bytes >= 8 << 20, "{before}");
        let evicted = arena.evict_now().unwrap();
        let after = arena.stats();
        assert!(evicted.pages >= 2048, "{tracker}: {evicted:?}\n{after}");
        assert_eq!(after.resident_bytes as u64, after.memory_bytes, "{after}");
        assert!(after.store_bytes * 2 < after.stored_bytes, "{after}");
        arena.check().unwrap();
        verify(&numbers);
        let back = arena.stats();
        assert_eq!(
            back.refaults,
            evicted.pages as u64 - back.stored_bytes as u64 / 4096,
            "{back}"
        );
        arena.check().unwrap();
    }
}
