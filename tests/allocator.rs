//! The allocator and cold pages: it does not touch them, gives memory back, and keeps lanes apart.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs, unsafe_code)]

mod common;

use allocator_api2::boxed::Box as ABox;
use allocator_api2::vec::Vec as AVec;
use common::blocks::{Block, Random, base_of, evict_everything, layout};
use common::pages::{PAGE, PAGE_BYTES, eventually};
use common::{LANES, quiet, scaled, setups};
use std::alloc::Layout;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::thread;
use std::time::Duration;
use thermocline::{Arena, Lane, Stats};

const SMALL: usize = 200;
const LARGE: usize = 100_000;
/// Larger than the blocks that threads cache.
const HUGE: usize = 1 << 20;

fn blocks(arena: &Arena, count: usize, size: usize) -> Vec<Block> {
    (0..count).map(|n| Block::allocate(arena, layout(size, 8), n as u64)).collect()
}

fn verify(blocks: &[Block]) {
    blocks.iter().for_each(|block| assert_eq!(block.wrong(), 0, "{block:?}"));
}

/// Frees every second block and returns the rest.
fn free_half(arena: &Arena, blocks: Vec<Block>) -> Vec<Block> {
    let (mut kept, mut freed) = (Vec::new(), Vec::new());
    for (n, block) in blocks.into_iter().enumerate() {
        if n % 2 == 0 { &mut kept } else { &mut freed }.push(block);
    }
    freed.into_iter().for_each(|block| block.free(arena));
    kept
}

/// Figures that change when a page is brought back.
fn touches(stats: &Stats) -> (u64, u64, u64, u64) {
    (stats.faults, stats.refaults, stats.prefetched_pages, stats.resident_bytes)
}

#[test]
fn freeing_touches_no_cold_page() {
    for setup in setups("freeing_touches_no_cold_page") {
        let arena = quiet(setup).build().unwrap();
        for (count, size) in [(scaled(20_000, 4000), SMALL), (40, LARGE), (10, HUGE)] {
            let blocks = blocks(&arena, count, size);
            evict_everything(&arena);
            let before = arena.stats();
            let kept = free_half(&arena, blocks);
            let after = arena.stats();
            assert_eq!(touches(&after), touches(&before), "{setup}, {size}: {after}");
            if size == SMALL {
                assert_eq!(after.stored_bytes, before.stored_bytes, "each page still has a block");
            }
            verify(&kept);
            assert!(arena.stats().refaults > before.refaults, "the pages were stored");
            kept.into_iter().for_each(|block| block.free(&arena));
            arena.trim();
        }
        arena.check().unwrap();
    }
}

#[test]
fn allocating_touches_no_cold_page() {
    for setup in setups("allocating_touches_no_cold_page") {
        let arena = quiet(setup).build().unwrap();
        for (count, size) in [(scaled(20_000, 4000), SMALL), (40, LARGE), (10, HUGE)] {
            let kept = free_half(&arena, blocks(&arena, count, size));
            evict_everything(&arena);
            let before = arena.stats();
            // Some take the place of freed blocks on cold pages. The test touches none of them.
            let given: Vec<_> = (0..count)
                .map(|n| {
                    let layout = layout(if n % 3 == 0 { size / 2 } else { size }, 8);
                    (arena.allocate(layout).unwrap().cast::<u8>(), layout)
                })
                .collect();
            let after = arena.stats();
            let counts = |stats: &Stats| (stats.faults, stats.refaults, stats.prefetched_pages);
            assert_eq!(counts(&after), counts(&before), "{setup}, {size}: {after}");
            for (pointer, layout) in given {
                // SAFETY: allocated above with this layout.
                unsafe { arena.deallocate(pointer, layout) };
            }
            let after = arena.stats();
            assert_eq!(counts(&after), counts(&before), "{setup}, {size}: {after}");
            verify(&kept);
            kept.into_iter().for_each(|block| block.free(&arena));
            arena.trim();
        }
        arena.check().unwrap();
    }
}

/// Freed blocks take no space in the store, also before the next allocation.
#[test]
fn freeing_drops_stored_pages_at_once() {
    for setup in setups("freeing_drops_stored_pages_at_once") {
        let arena = quiet(setup).build().unwrap();
        for (count, size) in [(20, LARGE), (10, HUGE)] {
            let mut blocks = blocks(&arena, count, size);
            evict_everything(&arena);
            while let Some(block) = blocks.pop() {
                block.free(&arena);
                let left = blocks.len() * size.next_multiple_of(PAGE);
                assert_eq!(arena.stats().stored_bytes, left as u64, "{setup}: {}", arena.stats());
            }
            assert_eq!(arena.stats().compressed_bytes, 0, "{setup}: {}", arena.stats());
        }
        // A block that shrinks drops the pages that it loses.
        let mut vec = AVec::new_in(&arena);
        vec.resize(100 * PAGE, 1u8);
        evict_everything(&arena);
        let before = arena.stats();
        vec.truncate(50 * PAGE);
        vec.shrink_to_fit();
        let after = arena.stats();
        assert_eq!(before.stored_bytes - after.stored_bytes, 50 * PAGE_BYTES, "{setup}: {after}");
        assert_eq!(touches(&after), touches(&before), "{setup}: {after}");
        drop(vec);
        // Small blocks: spans without a live block are dropped, except a few that threads cache.
        let blocks = blocks(&arena, scaled(20_000, 8000), SMALL);
        evict_everything(&arena);
        let before = arena.stats();
        blocks.into_iter().for_each(|block| block.free(&arena));
        let after = arena.stats();
        assert!(after.stored_bytes < 8 * 16 * PAGE_BYTES, "{setup}: {after}");
        assert_eq!(touches(&after), touches(&before), "{setup}: {after}");
        arena.trim();
        assert_eq!((arena.stats().stored_bytes, arena.stats().memory_bytes), (0, 0), "{setup}");
        arena.check().unwrap();
    }
}

#[test]
fn trim_gives_all_free_memory_back() {
    for setup in setups("trim_gives_all_free_memory_back") {
        let arena = quiet(setup).build().unwrap();
        let mut random = Random::new(3);
        for lane in LANES {
            let sizes = (0..2000).map(|_| layout(1 + random.below(20_000), 8));
            let blocks: Vec<_> = sizes
                .map(|layout| Block::new(arena.lane(lane).allocate(layout).unwrap(), layout, 1))
                .collect();
            blocks.into_iter().for_each(|block| block.free(&arena));
        }
        let before = arena.stats().memory_bytes;
        let released = arena.trim();
        assert!(before > 1 << 20 && released == before, "{setup}: {released} of {before}");
        assert_eq!(arena.stats().memory_bytes, 0, "{setup}: {}", arena.stats());
        assert_eq!(arena.heap_stats().unwrap().held_bytes(), 0);
    }
}

/// The arena releases memory that has been free for a while, except the caches of living threads.
#[test]
fn free_memory_is_given_back_after_a_while() {
    for setup in setups("free_memory_is_given_back_after_a_while") {
        let arena = quiet(setup)
            .scan_interval(Duration::from_millis(2))
            .cold_age(Duration::from_secs(500))
            .build()
            .unwrap();
        let work = || {
            for size in [16, SMALL, 5000, 30_000, LARGE, HUGE] {
                let blocks = blocks(&arena, 4_000_000 / size.max(1000), size);
                blocks.into_iter().for_each(|block| block.free(&arena));
            }
        };
        thread::scope(|scope| scope.spawn(work).join().unwrap());
        eventually(&arena, "giving all back", |stats| stats.memory_bytes == 0);
        let heap = arena.heap_stats().unwrap();
        assert_eq!(heap.held_bytes(), 0, "{setup}: {heap}");
        arena.check().unwrap();
    }
}

/// Returns the function from an address to its region, for an arena in which nothing is allocated yet.
fn regions(arena: &Arena) -> impl Fn(usize) -> usize {
    let base = base_of(arena);
    move |address| (address - base) >> 21
}

#[test]
fn blocks_of_different_lanes_share_no_region() {
    for setup in setups("blocks_of_different_lanes") {
        let arena = quiet(setup).build().unwrap();
        let region = regions(&arena);
        let mut random = Random::new(11);
        let mut live: Vec<(Lane, Block)> = Vec::new();
        for _ in 0..3 {
            for n in 0..scaled(9000, 1500) {
                let lane = LANES[n % 3];
                let size = 1 + random.below([100, 4000, 60_000][n / 3 % 3]);
                let layout = layout(size, 1 << random.below(5));
                let given = arena.lane(lane).allocate(layout).unwrap();
                live.push((lane, Block::new(given, layout, n as u64)));
            }
            let mut lanes = HashMap::new();
            for (lane, block) in &live {
                let last = block.address() + block.layout.size() - 1;
                for region in region(block.address())..=region(last) {
                    let known = *lanes.entry(region).or_insert(*lane);
                    assert_eq!(known, *lane, "{setup}: {block:?}");
                }
            }
            for _ in 0..live.len() / 2 {
                let (_, block) = live.swap_remove(random.below(live.len()));
                block.free(&arena);
            }
            arena.check().unwrap();
        }
        live.into_iter().for_each(|(_, block)| {
            assert_eq!(block.wrong(), 0);
            block.free(&arena);
        });
        arena.check().unwrap();
    }
}

#[test]
fn growing_a_block_takes_no_memory_of_another_lane() {
    use allocator_api2::alloc::Allocator;
    for setup in setups("growing_a_block_takes_no_memory_of_another_lane") {
        let arena = quiet(setup).build().unwrap();
        let region = regions(&arena);
        let two_mib = layout(2 << 20, 8);
        let mut block = Block::allocate(&arena, two_mib, 1);
        let part = layout(500_000, 8);
        let [first, second] =
            [1, 2].map(|n| Block::new(arena.cold().allocate(part).unwrap(), part, n));
        let end = block.address() + (2 << 20);
        assert_eq!((first.address(), region(second.address())), (end, region(end)));
        // The memory behind the block is free now, and belongs to the cold lane.
        first.free(&arena);
        let longer = layout((2 << 20) + 100_000, 8);
        // SAFETY: the block was allocated with the first layout, and has the other from here on.
        let grown = unsafe { arena.grow(block.pointer, two_mib, longer) };
        assert_eq!(block.resized(grown.unwrap(), longer), 0);
        let last = block.address() + longer.size() - 1;
        let regions = region(block.address())..=region(last);
        assert!(!regions.contains(&region(second.address())), "{setup}: {block:?}");
        block.free(&arena);
        second.free(&arena);
        arena.check().unwrap();
    }
}

#[test]
fn a_freed_block_goes_back_to_the_lane_that_allocated_it() {
    use allocator_api2::alloc::Allocator;
    for setup in setups("a_freed_block_goes_back_to_the_lane_that_allocated_it") {
        for (size, count) in [(64, 2000), (3000, 500), (LARGE, 40), (HUGE, 4)] {
            // In a new arena successive blocks are adjacent.
            let arena = quiet(setup).build().unwrap();
            let region = regions(&arena);
            let layout = layout(size, 8);
            let hot: Vec<_> = (0..count).map(|_| arena.hot().allocate(layout).unwrap()).collect();
            let cold = arena.lane(Lane::Cold);
            // One block stays in each region: any lane may take an empty region.
            let mut kept = HashMap::new();
            let mut freed = 0;
            for block in hot {
                match kept.entry(region(block.addr().get())) {
                    Entry::Vacant(place) => drop(place.insert(block)),
                    Entry::Occupied(_) => {
                        // SAFETY: allocated above with this layout, freed once.
                        unsafe { cold.deallocate(block.cast(), layout) };
                        freed += 1;
                    }
                }
            }
            assert!(freed > 0, "{size} bytes: each in a region of its own");
            for lane in [Lane::Cold, Lane::Default] {
                let handle = arena.lane(lane);
                let new: Vec<_> = (0..count).map(|_| handle.allocate(layout).unwrap()).collect();
                for block in new {
                    let place = region(block.addr().get());
                    assert!(!kept.contains_key(&place), "{setup}: {size} bytes of a hot region");
                    // SAFETY: allocated above with this layout, freed once.
                    unsafe { arena.deallocate(block.cast(), layout) };
                }
            }
            for block in kept.into_values() {
                // SAFETY: as above.
                unsafe { arena.deallocate(block.cast(), layout) };
            }
            arena.check().unwrap();
            arena.trim();
            assert_eq!(arena.heap_stats().unwrap().held_bytes(), 0);
        }
    }
}

#[test]
fn adopting_keeps_the_content() {
    for setup in setups("adopting_keeps_the_content") {
        let arena = quiet(setup).build().unwrap();
        let region = regions(&arena);
        let hot = region(
            Block::new(arena.hot().allocate(layout(8, 8)).unwrap(), layout(8, 8), 1).address(),
        );
        let numbers: Vec<u64> = (0..1000).map(|n| n * n).collect();
        let strings = || (0..100).map(|n| n.to_string());

        let mut vec = AVec::new_in(&arena);
        vec.extend(strings());
        evict_everything(&arena);
        let vec = arena.hot().adopt_vec(vec).unwrap();
        assert_eq!(region(vec.as_ptr().addr()), hot);
        assert!(vec.iter().cloned().eq(strings()) && vec.capacity() >= 100);
        let vec = arena.cold().adopt_vec(vec).unwrap();
        assert!(vec.iter().cloned().eq(strings()) && region(vec.as_ptr().addr()) != hot);
        // From the system's allocator, without items, and with items of zero size.
        let mut other: AVec<u64> = AVec::new();
        other.extend(&numbers);
        assert_eq!(*arena.hot().adopt_vec(other).unwrap(), *numbers);
        assert!(arena.hot().adopt_vec(AVec::<u64>::new()).unwrap().is_empty());
        assert_eq!(arena.hot().adopt_vec(AVec::from_iter([(), ()])).unwrap().len(), 2);

        let value = ABox::new_in((7u8, String::from("seven")), &arena);
        let value = arena.hot().adopt_box(value).unwrap();
        assert_eq!(
            (value.0, value.1.as_str(), region((&raw const *value).addr())),
            (7, "seven", hot)
        );
        let value = arena.cold().adopt_box(ABox::new([1u64; 600])).unwrap();
        assert!(value.iter().all(|n| *n == 1));

        let block = Block::allocate(&arena, layout(5001, 16), 5);
        evict_everything(&arena);
        let (pointer, layout) = (block.pointer, block.layout);
        // SAFETY: the block is this test's, which does not use the old address any more.
        let moved = unsafe { arena.hot().adopt(pointer, layout) }.unwrap();
        let mut block = block;
        assert_eq!(block.resized(moved, layout), 0);
        assert_eq!(region(block.address()), hot);
        block.free(&arena);
        drop((vec, value));
        arena.check().unwrap();
    }
}

#[test]
fn a_failed_adoption_returns_the_object() {
    for setup in setups("a_failed_adoption_returns_the_object") {
        let arena = quiet(setup).reserve(2 << 20).build().unwrap();
        let mut vec: AVec<String> = AVec::new();
        vec.extend((0..100_000).map(|n: u32| n.to_string()));
        let Err(vec) = arena.hot().adopt_vec(vec) else { panic!("{setup}: there is no room") };
        assert!(vec.iter().enumerate().all(|(n, text)| *text == n.to_string()));
        let block = Block::allocate(&arena, layout(1200 << 10, 8), 1);
        // SAFETY: the block is this test's; a failed adoption leaves it in place.
        assert!(unsafe { arena.cold().adopt(block.pointer, block.layout) }.is_err(), "{setup}");
        let rest = Block::allocate(&arena, layout(848 << 10, 8), 2);
        let Err(value) = arena.hot().adopt_box(ABox::new([3u8; 300])) else { panic!("no room") };
        assert!(value.iter().all(|n| *n == 3));
        rest.free(&arena);
        assert_eq!(block.wrong(), 0);
        block.free(&arena);
        assert_eq!(arena.stats().allocated_bytes, 0);
        arena.check().unwrap();
    }
}

/// Pages of both lanes hold the same number of objects. Mixed, every page would have a hot one.
#[test]
fn under_a_limit_objects_of_the_hot_lane_stay_resident() {
    for setup in setups("under_a_limit_objects_of_the_hot_lane_stay_resident") {
        let limit = 4 << 20;
        let arena = quiet(setup)
            .resident_limit(limit)
            .scan_interval(Duration::from_millis(10))
            .cold_age(Duration::from_secs(1000))
            .build()
            .unwrap();
        let layout = layout(500, 8);
        let block = |lane, n| Block::new(arena.lane(lane).allocate(layout).unwrap(), layout, n);
        let (mut hot, mut cold) = (Vec::new(), Vec::new());
        for n in 0..scaled(40_000, 16_000) {
            cold.push(block(Lane::Cold, n));
            if n % 20 == 0 {
                hot.push(block(Lane::Hot, n));
            }
        }
        let within = || arena.stats().resident_bytes <= limit as u64;
        for _ in 0..100_000 {
            verify(&hot);
            if within() {
                break;
            }
        }
        let before = arena.stats();
        assert!(within() && before.stored_bytes > limit as u64, "{setup}: {before}");
        while arena.stats().scans < before.scans + 20 {
            verify(&hot);
        }
        // A machine that stalls may make the evictor take hot pages now and then.
        let refaults = arena.stats().refaults - before.refaults;
        assert!(refaults <= 64, "{setup}: {refaults}, {}", arena.stats());
        verify(&cold);
        verify(&hot);
        cold.into_iter().chain(hot).for_each(|block| block.free(&arena));
        arena.check().unwrap();
    }
}

/// The bytes that a program reads after it freed them.
fn freed_bytes(address: usize, layout: Layout) -> Vec<u8> {
    let first = std::ptr::with_exposed_provenance::<u8>(address);
    // SAFETY: the memory still belongs to the arena, and no thread writes to it meanwhile.
    (0..layout.size()).map(|at| unsafe { first.add(at).read_volatile() }).collect()
}

#[test]
fn poison_freed_overwrites_freed_memory() {
    for setup in setups("poison_freed_overwrites_freed_memory") {
        let arena = quiet(setup).poison_freed(true).build().unwrap();
        for size in [24, 700, 20_000, LARGE] {
            let block = Block::allocate(&arena, layout(size, 8), 1);
            let (address, layout) = (block.pointer.expose_provenance().get(), block.layout);
            block.free(&arena);
            let bytes = freed_bytes(address, layout);
            assert!(bytes.iter().all(|byte| *byte == 0xdb), "{setup}, {size}");
            // The next block there is zeroed on request nevertheless.
            let zeros = arena.allocate_zeroed(layout).unwrap();
            assert_eq!(common::blocks::bytes_not_zero(zeros, 0, size), 0, "{setup}, {size}");
            // SAFETY: just allocated with this layout.
            unsafe { arena.deallocate(zeros.cast(), layout) };
        }
        // Cold pages stay stored.
        for (count, size) in [(1000, SMALL), (10, LARGE)] {
            let blocks = blocks(&arena, count, size);
            evict_everything(&arena);
            let before = arena.stats();
            let kept = free_half(&arena, blocks);
            assert_eq!(touches(&arena.stats()), touches(&before), "{setup}: {}", arena.stats());
            verify(&kept);
            kept.into_iter().for_each(|block| block.free(&arena));
        }
        arena.check().unwrap();
    }
}
