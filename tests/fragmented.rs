//! A heap in which the test has freed most blocks at random, so that nearly every span has a live block. After a
//! trim the heap holds the pages with a live byte, and little more.

#![allow(missing_docs, unsafe_code)]

mod common;

use common::blocks::{Block, Random, bytes_not_zero, evict_everything, layout};
use common::child::{child_case, forbid_userfaultfd, passes_in_child};
use common::pages::{PAGE, PAGE_BYTES, eventually};
use common::{SetOnDrop, quiet, scaled, setups};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use thermocline::{Arena, Builder, Stats};

/// One block in twenty stays.
const KEPT: usize = 20;

fn count() -> usize {
    scaled(40_000, 8000)
}

fn any_size(random: &mut Random) -> usize {
    600 + random.below(2400)
}

/// Allocates `count` blocks of 600 to 3,000 bytes. Returns one in twenty, and the rest.
fn blocks(arena: &Arena, count: usize, random: &mut Random) -> (Vec<Block>, Vec<Block>) {
    let mut blocks: Vec<_> =
        (0..count).map(|n| Block::allocate(arena, layout(any_size(random), 8), n as u64)).collect();
    for at in 1..blocks.len() {
        blocks.swap(at, random.below(at + 1));
    }
    let freed = blocks.split_off(count / KEPT);
    (blocks, freed)
}

fn free_all(arena: &Arena, blocks: Vec<Block>) {
    blocks.into_iter().for_each(|block| block.free(arena));
}

/// Allocates blocks, frees nineteen of twenty, and returns the rest.
fn fragment(arena: &Arena, count: usize, random: &mut Random) -> Vec<Block> {
    let (kept, freed) = blocks(arena, count, random);
    free_all(arena, freed);
    kept
}

/// Bytes of the pages in which these blocks have a byte.
fn bytes_in_pages(blocks: &[Block]) -> u64 {
    let pages = |block: &Block| {
        let (first, size) = (block.address(), block.layout.size());
        first / PAGE..=(first + size - 1) / PAGE
    };
    let pages: HashSet<_> = blocks.iter().flat_map(pages).collect();
    (pages.len() * PAGE) as u64
}

/// Whether a heap with these blocks may hold `held` bytes, in memory and in the store.
fn is_tight(blocks: &[Block], held: u64) -> bool {
    held <= bytes_in_pages(blocks) * 105 / 100
}

fn verify(blocks: &[Block]) {
    blocks.iter().for_each(|block| assert_eq!(block.wrong(), 0, "{block:?}"));
}

/// Fragments the heap, trims it, and uses it again.
fn check_trim(arena: &Arena, setup: &str) {
    let mut random = Random::new(5);
    let mut live = fragment(arena, count(), &mut random);
    let before = arena.stats();
    assert!(before.hole_bytes > before.memory_bytes / 2, "{setup}: {before}");
    let released = arena.trim();
    let after = arena.stats();
    assert!(is_tight(&live, after.memory_bytes), "{setup}: {after}");
    assert_eq!(after.hole_bytes, 0, "{setup}: {after}");
    let given_back = before.memory_bytes - after.memory_bytes;
    // In plain memory the library does not know which pages were never touched.
    let is_right = released == given_back || (released > given_back && setup == "plain");
    assert!(is_right, "{setup}: {released} bytes\n{before}{after}");
    assert_eq!(arena.trim(), 0, "{setup}: a second trim finds memory");
    verify(&live);
    for n in 0..count() {
        let layout = layout(any_size(&mut random), 8);
        if n % 2 == 0 {
            let given = arena.allocate_zeroed(layout).unwrap();
            assert_eq!(bytes_not_zero(given, 0, layout.size()), 0, "{setup}: {layout:?}");
            live.push(Block::new(given, layout, n as u64));
        } else {
            live.push(Block::allocate(arena, layout, n as u64));
        }
    }
    verify(&live);
    arena.check().unwrap();
    free_all(arena, live);
    arena.trim();
    assert_eq!(arena.stats().memory_bytes, 0, "{setup}: {}", arena.stats());
    arena.check().unwrap();
}

#[test]
fn trim_keeps_only_pages_with_a_live_byte() {
    for setup in setups("trim_keeps_only_pages_with_a_live_byte") {
        check_trim(&quiet(setup).build().unwrap(), &setup.to_string());
        let poisons = quiet(setup).poison_freed(true).build().unwrap();
        check_trim(&poisons, &format!("{setup}, poisoned"));
    }
}

#[test]
fn trim_releases_the_holes_of_a_stopped_arena() {
    for setup in setups("trim_releases_the_holes_of_a_stopped_arena") {
        let arena = quiet(setup).build().unwrap();
        let mut random = Random::new(7);
        let live = fragment(&arena, count(), &mut random);
        arena.stop().unwrap();
        arena.trim();
        assert!(is_tight(&live, arena.stats().memory_bytes), "{setup}: {}", arena.stats());
        verify(&live);
        let more = fragment(&arena, count(), &mut random);
        verify(&live);
        verify(&more);
        arena.check().unwrap();
    }
}

#[test]
fn trim_releases_the_holes_of_plain_memory() {
    if child_case().is_none() {
        passes_in_child("trim_releases_the_holes_of_plain_memory", "plain");
        return;
    }
    forbid_userfaultfd();
    let arena = Arena::builder().plain_memory_fallback(true).reserve(1 << 30).build().unwrap();
    assert!(arena.evict_now().is_err());
    check_trim(&arena, "plain");
}

/// Trim drops the stored pages of a hole without restoring them.
#[test]
fn trim_drops_evicted_holes_without_restoring_them() {
    for setup in setups("trim_drops_evicted_holes_without_restoring_them") {
        let arena = quiet(setup).build().unwrap();
        let (live, freed) = blocks(&arena, count(), &mut Random::new(9));
        evict_everything(&arena);
        free_all(&arena, freed);
        let before = arena.stats();
        arena.trim();
        let after = arena.stats();
        let touched = |stats: &Stats| (stats.faults, stats.refaults, stats.resident_bytes);
        assert_eq!(touched(&after), touched(&before), "{setup}: {after}");
        assert!(is_tight(&live, after.stored_bytes), "{setup}: {before}{after}");
        assert_eq!((after.memory_bytes, after.hole_bytes), (0, 0), "{setup}: {after}");
        verify(&live);
        arena.check().unwrap();
    }
}

/// An arena that scans often, and evicts no page.
fn attentive(builder: Builder) -> Builder {
    builder.scan_interval(Duration::from_millis(5)).cold_age(Duration::from_secs(500))
}

#[test]
fn holes_are_released_after_a_while() {
    for setup in setups("holes_are_released_after_a_while") {
        let arena = attentive(quiet(setup)).build().unwrap();
        // In a thread that ends, because a living thread caches some blocks: see the next test.
        let work = || fragment(&arena, count(), &mut Random::new(13));
        let live = thread::scope(|scope| scope.spawn(work).join().unwrap());
        eventually(&arena, "giving holes back", |stats| is_tight(&live, stats.memory_bytes));
        eventually(&arena, "giving all holes back", |stats| stats.hole_bytes == 0);
        verify(&live);
        arena.check().unwrap();
        let more = fragment(&arena, count(), &mut Random::new(14));
        verify(&live);
        verify(&more);
    }
}

/// An idle thread keeps its cache of few blocks. Each of these blocks may keep the two pages on which it lies.
#[test]
fn an_idle_thread_keeps_only_the_pages_of_its_cached_blocks() {
    for setup in setups("an_idle_thread_keeps_only_the_pages_of_its_cached_blocks") {
        let arena = attentive(quiet(setup)).build().unwrap();
        let live = fragment(&arena, count(), &mut Random::new(13));
        eventually(&arena, "giving holes back", |stats| {
            let heap = arena.heap_stats().unwrap();
            let cached: u64 = heap.lanes[0].classes.iter().map(|class| class.cached).sum();
            is_tight(&live, stats.memory_bytes.saturating_sub(cached * 2 * PAGE_BYTES))
        });
        // This is the idle thread. Its cache is freed when it trims.
        arena.trim();
        assert!(is_tight(&live, arena.stats().memory_bytes), "{setup}: {}", arena.stats());
        verify(&live);
    }
}

/// Threads use the heap while another thread trims and the evictor releases holes.
#[test]
fn threads_use_the_heap_while_holes_are_released() {
    for setup in setups("threads_use_the_heap_while_holes_are_released") {
        for poison in [false, true] {
            let builder = attentive(quiet(setup));
            let builder = builder.poison_freed(poison);
            let arena = builder.build().unwrap();
            let over = AtomicBool::new(false);
            let rounds = scaled(30, 5);
            thread::scope(|scope| {
                let worker = |seed: u64| {
                    let mut random = Random::new(seed);
                    let mut live = Vec::new();
                    for round in 0..rounds {
                        live.append(&mut fragment(&arena, 1000, &mut random));
                        verify(&live);
                        if round % 10 == 9 {
                            free_all(&arena, core::mem::take(&mut live));
                        }
                    }
                    live
                };
                let trimmer = scope.spawn(|| {
                    let mut trimmed = 0;
                    while !over.load(Ordering::Relaxed) {
                        trimmed += arena.trim();
                    }
                    trimmed
                });
                let set = SetOnDrop(&over);
                let workers = [1, 2, 3].map(|seed| scope.spawn(move || worker(seed)));
                let live: Vec<_> = workers.into_iter().flat_map(|w| w.join().unwrap()).collect();
                drop(set);
                assert!(trimmer.join().unwrap() > 0, "{setup}");
                verify(&live);
                free_all(&arena, live);
            });
            arena.check().unwrap();
            arena.trim();
            eventually(&arena, "giving all back", |stats| stats.memory_bytes == 0);
            arena.check().unwrap();
        }
    }
}
