//! Full arenas, extreme layouts, and wrong frees.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs, unsafe_code)]

mod common;

use allocator_api2::alloc::Allocator;
use common::blocks::{Block, Random, layout};
use common::child::{child_case, in_child, text};
use common::{LANES, Setup, quiet, scaled, setups};
use std::alloc::Layout;
use std::os::unix::process::ExitStatusExt;
use std::ptr::NonNull;
use std::thread;
use std::time::Duration;
use thermocline::{AllocError, Arena};

/// Allocates a block of random layout, of at most `size` bytes, in a random lane.
fn any_block(arena: &Arena, random: &mut Random, size: usize, n: u64) -> Result<Block, AllocError> {
    let layout = layout(1 + random.below(size), 1 << random.below(6));
    let lane = LANES[random.below(3)];
    let given = if n.is_multiple_of(5) {
        arena.lane(lane).allocate_zeroed(layout)?
    } else {
        arena.lane(lane).allocate(layout)?
    };
    Ok(Block::new(given, layout, n))
}

/// Allocates blocks of all sizes, and then smaller ones, until no page is free.
fn fill(arena: &Arena, random: &mut Random) -> Vec<Block> {
    let mut blocks = Vec::new();
    for size in [300_000, 100_000, 30_000, 1000] {
        let mut refusals = 0;
        while refusals < 5 {
            match any_block(arena, random, size, blocks.len() as u64) {
                Ok(block) => blocks.push(block),
                Err(AllocError) => refusals += 1,
            }
        }
    }
    // A block that is aligned to more than a page has pages of its own, at any size.
    for align in [8192, 4 << 20, 2 << 20] {
        let layout = layout(1, align);
        while let Ok(given) = arena.allocate(layout) {
            blocks.push(Block::new(given, layout, blocks.len() as u64));
        }
    }
    blocks
}

fn is_empty(arena: &Arena, what: &str) {
    arena.check().unwrap();
    assert_eq!(arena.stats().allocated_bytes, 0, "{what}: {}", arena.stats());
    // One block can take the whole arena.
    let whole = layout(arena.stats().reserved_bytes as usize, 4096);
    let block = arena.allocate(whole).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(arena.heap_stats().unwrap().free_bytes, 0);
    assert_eq!(arena.allocate(layout(1, 1)), Err(AllocError), "{what}");
    assert_eq!(arena.allocate(layout(1 << 16, 1)), Err(AllocError), "{what}");
    // SAFETY: just allocated with this layout.
    unsafe { arena.deallocate(block.cast(), whole) };
}

#[test]
fn an_arena_can_be_filled_and_emptied_repeatedly() {
    for setup in setups("an_arena_can_be_filled_and_emptied_repeatedly") {
        for reserve in [2 << 20, 12 << 20] {
            let interval = Duration::from_millis(1);
            let builder = quiet(setup).scan_interval(interval).cold_age(interval).zeal(true);
            let arena = builder.reserve(reserve).build().unwrap();
            let mut random = Random::new(reserve as u64);
            for round in 0..scaled(12, 3) {
                let what = format!("{setup}, {reserve}, round {round}");
                let mut blocks = fill(&arena, &mut random);
                let stats = arena.heap_stats().unwrap();
                // At most single pages between blocks are free.
                assert!(stats.free_bytes < reserve as u64 / 16, "{what}: {stats}");
                arena.check().unwrap();
                while !blocks.is_empty() {
                    let block = blocks.swap_remove(random.below(blocks.len()));
                    assert_eq!(block.wrong(), 0, "{what}: {block:?}");
                    block.free(&arena);
                }
                is_empty(&arena, &what);
            }
        }
    }
}

#[test]
fn equal_blocks_fill_an_arena_to_the_last_byte() {
    for setup in setups("equal_blocks_fill_an_arena_to_the_last_byte") {
        let arena = quiet(setup).reserve(4 << 20).build().unwrap();
        for size in [64 << 10, 1 << 20, 4 << 20, 4096, 32 << 10, 1024] {
            let equal = layout(size, 8);
            let mut blocks = Vec::new();
            while let Ok(given) = arena.allocate(equal) {
                blocks.push(Block::new(given, equal, blocks.len() as u64));
            }
            assert_eq!(blocks.len(), (4 << 20) / size, "{setup}, {size}");
            assert_eq!(arena.stats().allocated_bytes, 4 << 20);
            for block in blocks {
                assert_eq!(block.wrong(), 0, "{block:?}");
                block.free(&arena);
            }
            is_empty(&arena, &format!("{setup}, {size}"));
        }
    }
}

/// Allocations succeed while the evictor releases the free memory that they need.
#[test]
fn memory_that_is_being_released_can_be_allocated() {
    for setup in setups("memory_that_is_being_released_can_be_allocated") {
        let arena = quiet(setup)
            .reserve(16 << 20)
            .scan_interval(Duration::from_millis(1))
            .cold_age(Duration::from_secs(500))
            .build()
            .unwrap();
        let (whole, mut random) = (layout(16 << 20, 4096), Random::new(1));
        for round in 0..scaled(300, 40) {
            let given = arena.allocate(whole);
            let stats = arena.heap_stats().unwrap();
            let block = given.unwrap_or_else(|e| panic!("{setup}, {round}: {e}\n{stats}"));
            arena
                .ensure(std::ptr::slice_from_raw_parts(block.cast::<u8>().as_ptr(), 16 << 20))
                .unwrap();
            // SAFETY: just allocated with this layout.
            unsafe { arena.deallocate(block.cast(), whole) };
            thread::sleep(Duration::from_micros(random.below(4000) as u64));
        }
        arena.check().unwrap();
    }
}

/// The largest allowed reserve.
#[test]
fn an_arena_can_reserve_16_tib() {
    for setup in setups("an_arena_can_reserve_16_tib") {
        let arena = match quiet(setup).reserve(16 << 40).build() {
            Ok(arena) => arena,
            Err(e) => {
                let reason = format!("no 16 TiB of address space: {e}");
                common::skip("an_arena_can_reserve_16_tib", "16tib", &reason);
                continue;
            }
        };
        let small = Block::allocate(&arena, layout(100, 8), 1);
        let stats = arena.heap_stats().unwrap();
        let rest = layout(stats.free_bytes as usize - (4 << 20), 8);
        let block = arena.allocate(rest).unwrap();
        // SAFETY: just allocated with this layout.
        unsafe { arena.deallocate(block.cast(), rest) };
        assert_eq!(small.wrong(), 0);
        small.free(&arena);
        assert_eq!(arena.stats().allocated_bytes, 0);
    }
}

#[test]
fn impossible_layouts_are_refused() {
    for setup in setups("impossible_layouts_are_refused") {
        let arena = quiet(setup).reserve(64 << 20).build().unwrap();
        let most = isize::MAX as usize;
        let absurd = [
            (most, 1),
            (most - 4095, 4096),
            (most / 2 + 1, 1 << 20),
            (1, 1 << 40),
            (0x1000, 1 << 62),
            (1 << 40, 8),
            ((64 << 20) + 1, 1),
            (1 << 44, 1 << 44),
            (40_000, 128 << 20),
        ];
        let small = Block::allocate(&arena, layout(100, 8), 1);
        let large = Block::allocate(&arena, layout(100_000, 8), 2);
        for (size, align) in absurd {
            let absurd = layout(size, align);
            assert_eq!(arena.allocate(absurd), Err(AllocError), "{absurd:?}");
            assert_eq!(arena.allocate_zeroed(absurd), Err(AllocError), "{absurd:?}");
            assert_eq!(arena.cold().allocate(absurd), Err(AllocError), "{absurd:?}");
            for block in [&small, &large] {
                if size >= block.layout.size() {
                    // SAFETY: the block is this test's; a failed call leaves it in place.
                    let (grown, zeroed) = unsafe {
                        let grown = arena.grow(block.pointer, block.layout, absurd);
                        (grown, arena.grow_zeroed(block.pointer, block.layout, absurd))
                    };
                    assert!(grown.is_err() && zeroed.is_err(), "{absurd:?}");
                }
                assert_eq!(block.wrong(), 0);
            }
            arena.check().unwrap();
        }
        small.free(&arena);
        large.free(&arena);
        is_empty(&arena, &setup.to_string());
    }
}

#[test]
fn zero_sized_layouts_take_no_memory() {
    for setup in setups("zero_sized_layouts_take_no_memory") {
        let arena = quiet(setup).build().unwrap();
        for shift in [0, 3, 12, 13, 21, 40, 62] {
            let nothing = layout(0, 1 << shift);
            for given in [arena.allocate(nothing), arena.allocate_zeroed(nothing)] {
                let given = given.unwrap();
                assert!(given.is_empty() && given.addr().get().is_multiple_of(1 << shift));
                // SAFETY: just allocated with this layout.
                unsafe { arena.deallocate(given.cast(), nothing) };
            }
        }
        assert_eq!(arena.stats().allocated_bytes, 0);
        // From zero bytes to some and back.
        let (nothing, something) = (layout(0, 8), layout(1000, 8));
        // SAFETY: each call gets the block's present layout.
        unsafe {
            let given = arena.allocate(nothing).unwrap().cast();
            let mut block =
                Block::new(arena.grow_zeroed(given, nothing, something).unwrap(), something, 1);
            assert_eq!(block.wrong(), 0);
            let given = arena.shrink(block.pointer, something, nothing).unwrap();
            assert!(given.is_empty());
            assert_eq!(arena.stats().allocated_bytes, 0);
            block = Block::new(arena.grow(given.cast(), nothing, something).unwrap(), something, 2);
            block.free(&arena);
        }
        is_empty(&arena, &setup.to_string());
    }
}

/// Frees a block in a wrong way, by the name of the case.
fn misbehave(arena: &Arena, case: &str) {
    let allocate = |layout| arena.allocate(layout).unwrap().cast::<u8>();
    // SAFETY: none: each case is a wrong free, which the arena must notice.
    let free = |pointer: NonNull<u8>, layout: Layout| unsafe { arena.deallocate(pointer, layout) };
    let (small, large, huge) = (layout(100, 8), layout(100_000, 8), layout(1 << 20, 8));
    let twice = |layout| {
        let block = allocate(layout);
        free(block, layout);
        free(block, layout);
    };
    let inside = |layout, by| {
        // SAFETY: within the block.
        free(unsafe { allocate(layout).add(by) }, layout);
    };
    match case {
        "small twice" => twice(small),
        "large twice" => twice(large),
        "huge twice" => twice(huge),
        "small twice, with frees in between" => {
            let blocks: Vec<_> = (0..1000).map(|_| allocate(small)).collect();
            blocks.iter().for_each(|block| free(*block, small));
            free(blocks[500], small);
        }
        "huge twice, with a trim in between" => {
            let block = allocate(huge);
            free(block, huge);
            arena.trim();
            free(block, huge);
        }
        "small as another small" => free(allocate(small), layout(200, 8)),
        "small as large" => free(allocate(small), large),
        "large as small" => free(allocate(large), small),
        "large as another large" => free(allocate(large), layout(80_000, 8)),
        "huge as less" => free(allocate(huge), layout((1 << 20) - 4096, 8)),
        "inside a small one" => inside(small, 8),
        "inside a large one" => inside(large, 16),
        "inside a large one, a page on" => inside(large, 4096),
        "inside a huge one, a page on" => inside(huge, 4096),
        "never allocated" => {
            // SAFETY: within the arena's reserve, which is contiguous.
            free(unsafe { allocate(small).add(100 << 20) }, small);
        }
        "never allocated, with pages" => {
            // SAFETY: as above.
            free(unsafe { allocate(large).add(100 << 20) }, large);
        }
        "of the system" => free(NonNull::from(&mut 7u64).cast(), small),
        "of another arena" => {
            let other = Arena::builder().reserve(2 << 20).build().unwrap();
            free(other.allocate(large).unwrap().cast(), large);
        }
        "from another thread" => {
            let block = allocate(small);
            free(block, small);
            let address = block.expose_provenance();
            let again = || free(NonNull::with_exposed_provenance(address), small);
            thread::scope(|scope| drop(scope.spawn(again).join()));
        }
        _ => panic!("no such case: {case}"),
    }
}

/// Cases that every build notices.
const ALWAYS: [&str; 11] = [
    "huge twice",
    "huge twice, with a trim in between",
    "large as small",
    "large as another large",
    "huge as less",
    "inside a large one",
    "inside a large one, a page on",
    "inside a huge one, a page on",
    "never allocated, with pages",
    "of the system",
    "of another arena",
];

/// Cases that only builds with debug assertions notice.
const WITH_DEBUG_ASSERTIONS: [&str; 8] = [
    "small twice",
    "small twice, with frees in between",
    "large twice",
    "small as another small",
    "small as large",
    "inside a small one",
    "never allocated",
    "from another thread",
];

#[test]
fn wrong_frees_end_the_process_with_a_message() {
    const TEST: &str = "wrong_frees_end_the_process_with_a_message";
    if let Some(case) = child_case() {
        let (setup, case) = case.split_once(' ').unwrap();
        let (setup, poison) = match setup.strip_suffix("/poison") {
            Some(setup) => (setup, true),
            None => (setup, false),
        };
        let builder = quiet(Setup::parse(setup));
        let builder = builder.poison_freed(poison);
        misbehave(&builder.build().unwrap(), case);
        return;
    }
    for setup in setups(TEST) {
        let more = WITH_DEBUG_ASSERTIONS.iter().filter(|_| cfg!(debug_assertions));
        for case in ALWAYS.iter().chain(more) {
            for poison in ["", "/poison"] {
                let output = in_child(TEST, &format!("{setup}{poison} {case}"));
                let said = text(&output);
                let ended = output.status.signal();
                assert_eq!(ended, Some(libc::SIGABRT), "{setup}{poison}, {case}: {said}");
                let message = "memory is freed twice, with another layout, or is no block";
                assert!(said.contains(message), "{setup}{poison}, {case}: {said}");
            }
        }
    }
}
