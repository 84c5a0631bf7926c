//! Reading what is stored without bringing it back.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs)]

mod common;

use allocator_api2::vec::Vec as AVec;
use common::blocks::{Random, evict_everything};
use common::pages::PAGE;
use common::{quiet, scaled, setups};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use thermocline::{Arena, ArenaError};

/// The byte that belongs to this place: each page has others.
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

/// Whether `peeked` is what lies from `start` on.
fn is_right(start: usize, peeked: &[u8]) -> bool {
    peeked.iter().enumerate().all(|(n, &found)| found == byte(start + n))
}

#[test]
fn what_is_peeked_at_stays_where_it_is() {
    for setup in setups("what_is_peeked_at_stays_where_it_is") {
        let arena = quiet(setup).build().unwrap();
        let all = fill(&arena, 64);
        evict_everything(&arena);
        let before = arena.stats();
        let mut out = b"reply: ".to_vec();
        let pages = [
            (0..0, 0),
            (0..PAGE, 1),
            (PAGE - 1..PAGE + 1, 2),
            (100..200, 1),
            (5 * PAGE + 7..9 * PAGE + 1, 5),
            (0..64 * PAGE, 64),
        ];
        for (range, stored) in pages {
            out.truncate(7);
            assert_eq!(arena.peek(&all[range.clone()], &mut out), Ok(stored), "{setup}");
            assert!(out.starts_with(b"reply: ") && out.len() == 7 + range.len());
            assert!(is_right(range.start, &out[7..]), "{setup}: {range:?}");
        }
        let after = arena.stats();
        let held = |stats: &thermocline::Stats| (stats.stored_bytes, stats.resident_bytes);
        assert_eq!(held(&after), held(&before), "{setup}");
        assert_eq!((after.faults, after.peeked), (before.faults, 73), "{setup}: {after}");
        // Some of it in memory, some of it not.
        assert_eq!(all[3 * PAGE], byte(3 * PAGE));
        out.clear();
        let stored = arena.peek(&all, &mut out).unwrap();
        assert!((1..64).contains(&stored) && is_right(0, &out), "{setup}: {stored}");
        drop(all);
        arena.check().unwrap();
    }
}

#[test]
fn peeking_where_nothing_is_stored_is_reading() {
    let plain = Arena::builder().tracker(thermocline::Tracker::Rwp).or_plain_memory().build();
    for setup in setups("peeking_where_nothing_is_stored") {
        let arena = quiet(setup).build().unwrap();
        let all = fill(&arena, 8);
        let mut out = Vec::new();
        assert_eq!(arena.peek(&all, &mut out), Ok(0));
        assert!(is_right(0, &out));
        assert_eq!(arena.peek(&[1; 100], &mut out), Err(ArenaError::OutsideArena));
        assert_eq!(out.len(), 8 * PAGE, "as it was");
        evict_everything(&arena);
        arena.stop().unwrap();
        out.clear();
        assert_eq!(arena.peek(&all[5..PAGE], &mut out), Ok(0));
        assert!(is_right(5, &out));
    }
    let plain = plain.unwrap();
    let all = fill(&plain, 8);
    let mut out = Vec::new();
    plain.peek(&all, &mut out).unwrap();
    assert!(is_right(0, &out));
}

/// Pages are owned for as long as they are peeked at. Those who touch, evict or free them meanwhile
/// wait for no longer than that, and nobody reads anything else.
#[test]
fn peeking_while_others_touch_evict_and_free() {
    for setup in setups("peeking_while_others_touch") {
        let arena = quiet(setup).build().unwrap();
        let all = fill(&arena, 32);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    arena.evict_now().unwrap();
                    // Freed while it is stored, and handed out again.
                    let some = fill(&arena, 4);
                    arena.evict_now().unwrap();
                    let mut out = Vec::new();
                    arena.peek(&some[PAGE..], &mut out).unwrap();
                    assert!(is_right(PAGE, &out));
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
            let mut out = Vec::new();
            let mut stored = 0;
            let mut rounds = 0;
            while rounds < scaled(20_000, 1000) || stored < scaled(2000, 50) {
                let start = random.below(all.len());
                let end = all.len().min(start + random.below(3 * PAGE));
                out.clear();
                stored += arena.peek(&all[start..end], &mut out).unwrap();
                assert!(out.len() == end - start && is_right(start, &out), "{setup}: {start}");
                rounds += 1;
            }
            done.store(true, Ordering::Relaxed);
        });
        drop(all);
        arena.check().unwrap();
    }
}
