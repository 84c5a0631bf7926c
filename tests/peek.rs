//! `peek`: reading stored pages without restoring them.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs)]

mod common;

use allocator_api2::vec::Vec as AVec;
use common::blocks::{Random, evict_everything};
use common::pages::PAGE;
use common::{quiet, scaled, setups};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use thermocline::{Arena, ArenaError, Peek, Stats};

/// The byte at this place. Neighbouring pages differ.
fn byte(at: usize) -> u8 {
    (at / 64 % 251) as u8
}

/// Pages with [`byte`] everywhere.
fn fill(arena: &Arena, pages: usize) -> AVec<u8, &Arena> {
    let mut bytes = AVec::with_capacity_in(pages * PAGE, arena);
    bytes.extend((0..pages * PAGE).map(byte));
    arena.check().unwrap();
    bytes
}

/// Whether `peeked` holds the bytes from `start` on.
fn is_right(start: usize, peeked: &[u8]) -> bool {
    peeked.iter().enumerate().all(|(n, &found)| found == byte(start + n))
}

#[test]
fn peeking_leaves_pages_stored() {
    for setup in setups("peeking_leaves_pages_stored") {
        let arena = quiet(setup).build().unwrap();
        let all = fill(&arena, 64);
        evict_everything(&arena);
        let before = arena.stats();
        let mut buffer = b"something else".to_vec();
        assert_eq!(arena.peek(&all[7..7], &mut buffer), Ok(Peek::InMemory(&[])));
        for range in
            [0..PAGE, PAGE - 1..PAGE + 1, 100..200, 5 * PAGE + 7..9 * PAGE + 1, 0..64 * PAGE]
        {
            let peek = arena.peek(&all[range.clone()], &mut buffer).unwrap();
            assert!(matches!(peek, Peek::Copied(_)), "{setup}: {range:?}");
            assert_eq!(peek.len(), range.len());
            assert!(is_right(range.start, &peek), "{setup}: {range:?}");
        }
        let after = arena.stats();
        let held = |stats: &Stats| (stats.stored_bytes, stats.resident_bytes, stats.faults);
        assert_eq!(held(&after), held(&before), "{setup}");
        assert_eq!(after.peeks, 73, "{setup}: {after}");
        // Some pages are resident, some stored.
        assert_eq!(all[3 * PAGE], byte(3 * PAGE));
        let peek = arena.peek(&all, &mut buffer).unwrap();
        assert!(matches!(peek, Peek::Copied(_)) && peek.len() == all.len() && is_right(0, &peek));
        assert!((74..73 + 64).contains(&arena.stats().peeks), "{setup}: {}", arena.stats());
        assert_eq!(arena.peek(&all[3 * PAGE..][..9], &mut buffer), Ok(Peek::InMemory(&[192; 9])));
        drop(all);
        arena.check().unwrap();
    }
}

#[test]
fn peeking_at_resident_memory_returns_it_in_place() {
    for setup in setups("peeking_at_resident_memory_returns_it_in_place") {
        let arena = quiet(setup).build().unwrap();
        let all = fill(&arena, 8);
        let mut buffer = Vec::new();
        assert_eq!(arena.peek(&all, &mut buffer), Ok(Peek::InMemory(&all)));
        assert_eq!(arena.peek(&[1; 100], &mut buffer), Err(ArenaError::OutsideArena));
        evict_everything(&arena);
        arena.stop().unwrap();
        assert_eq!(arena.peek(&all[5..PAGE], &mut buffer), Ok(Peek::InMemory(&all[5..PAGE])));
        assert!(is_right(0, &all));
    }
}

/// `peek` owns pages while it reads them. Threads that touch, evict or free these pages wait until it has read
/// them, and no thread reads wrong bytes.
#[test]
fn peeking_while_other_threads_touch_evict_and_free() {
    for setup in setups("peeking_while_other_threads_touch_evict_and_free") {
        let arena = quiet(setup).build().unwrap();
        let all = fill(&arena, 32);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    arena.evict_now().unwrap();
                    // These pages are freed while they are stored, and then allocated again.
                    let some = fill(&arena, 4);
                    arena.evict_now().unwrap();
                    let mut buffer = Vec::new();
                    assert!(is_right(PAGE, &arena.peek(&some[PAGE..], &mut buffer).unwrap()));
                }
            });
            scope.spawn(|| {
                let mut random = Random::new(3);
                while !done.load(Ordering::Relaxed) {
                    let at = random.below(all.len());
                    assert_eq!(all[at], byte(at), "{setup}");
                    arena.ensure(&all[at..all.len().min(at + 5 * PAGE)]).unwrap();
                }
            });
            let mut random = Random::new(4);
            let mut buffer = Vec::new();
            let (mut rounds, mut copied) = (0, 0);
            while rounds < scaled(20_000, 1000) || copied < scaled(2000, 50) {
                let start = random.below(all.len());
                let end = all.len().min(start + random.below(3 * PAGE));
                let peek = arena.peek(&all[start..end], &mut buffer).unwrap();
                assert!(peek.len() == end - start && is_right(start, &peek), "{setup}: {start}");
                copied += usize::from(matches!(peek, Peek::Copied(_)));
                rounds += 1;
            }
            done.store(true, Ordering::Relaxed);
        });
        drop(all);
        arena.check().unwrap();
    }
}
