//! An `ArenaAlloc` that is not the global allocator.

use super::common::pages::{PAGE, evict};
use super::common::{Setup, quiet, setups};
use std::alloc::{GlobalAlloc, Layout};
use thermocline::{Arena, ArenaAlloc, ArenaError, StartError};

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).unwrap()
}

/// Whether a block lies in the arena.
fn is_in(arena: &Arena, block: *mut u8) -> bool {
    match arena.ensure(core::ptr::slice_from_raw_parts(block, 1)) {
        Ok(()) => true,
        Err(ArenaError::OutsideArena) => false,
        Err(e) => panic!("{e}"),
    }
}

fn fill(block: *mut u8, len: usize) {
    // SAFETY: the caller's block, which has `len` bytes.
    (0..len).for_each(|i| unsafe { block.add(i).write((i % 251) as u8) });
}

fn is_filled(block: *mut u8, len: usize) -> bool {
    // SAFETY: the caller's block, which has `len` bytes.
    (0..len).all(|i| unsafe { block.add(i).read() } == (i % 251) as u8)
}

fn started(setup: Setup, reserve: usize) -> (ArenaAlloc, Arena) {
    let arena = quiet(setup).reserve(reserve).build().unwrap();
    let alloc = ArenaAlloc::new(1000);
    alloc.start_without_system_calls(&arena).unwrap();
    (alloc, arena)
}

#[test]
fn a_block_moves_when_it_crosses_the_threshold_and_keeps_its_bytes() {
    for setup in setups("a_block_moves_when_it_crosses") {
        let (alloc, arena) = started(setup, 1 << 30);
        let sizes =
            [10, 999, 1000, 1500, 40_000, 5000, 4_000_000, 70_000, 999, 1, 100_000, 2, 3000];
        let mut size = 100;
        // SAFETY: a layout with bytes.
        let mut block = unsafe { alloc.alloc(layout(size)) };
        for next in sizes {
            fill(block, size);
            arena.evict_now().unwrap();
            // SAFETY: the block was allocated with this size.
            block = unsafe { alloc.realloc(block, layout(size), next) };
            assert!(is_filled(block, size.min(next)), "{setup}: {size} to {next}");
            assert_eq!(is_in(&arena, block), next >= 1000, "{setup}: {size} to {next}");
            size = next;
        }
        // SAFETY: as above.
        unsafe { alloc.dealloc(block, layout(size)) };
        assert_eq!(arena.stats().allocated_bytes, 0);
        arena.check().unwrap();
    }
}

#[test]
fn alloc_zeroed_writes_only_to_reused_pages() {
    const LEN: usize = 256 << 20;
    for setup in setups("alloc_zeroed_writes_only_to_reused_pages") {
        let (alloc, arena) = started(setup, 1 << 30);
        for _ in 0..2 {
            // SAFETY: a layout with bytes.
            let block = unsafe { alloc.alloc_zeroed(layout(LEN)) };
            assert!(is_in(&arena, block));
            let memory = arena.stats().memory_bytes;
            // Pages that were populated ahead, and pages of the previous block that are not released yet.
            assert!(memory <= 6 << 20, "{setup}: {memory}");
            // SAFETY: within the block.
            let at = |i: usize| unsafe { block.add(i) };
            for page in (0..LEN).step_by(1 << 20) {
                // SAFETY: as above.
                assert_eq!(unsafe { at(page).read() }, 0);
                // SAFETY: as above.
                unsafe { at(page).write(1) };
            }
            // SAFETY: allocated above.
            unsafe { alloc.dealloc(block, layout(LEN)) };
        }
        // Small blocks lie on pages that are in use.
        for _ in 0..2 {
            // SAFETY: a layout with bytes.
            let blocks = [(); 20].map(|()| unsafe { alloc.alloc_zeroed(layout(1000)) });
            for block in blocks {
                // SAFETY: the block has 1000 bytes.
                assert!((0..1000).all(|i| unsafe { block.add(i).read() } == 0), "{setup}");
                fill(block, 1000);
                // SAFETY: allocated above, and freed once.
                unsafe { alloc.dealloc(block, layout(1000)) };
            }
        }
    }
}

#[test]
fn allocations_beyond_the_reserve_return_null() {
    for setup in setups("allocations_beyond_the_reserve_return_null") {
        let (alloc, arena) = started(setup, 4 << 20);
        // SAFETY: layouts with bytes.
        let (none, some) = unsafe { (alloc.alloc(layout(8 << 20)), alloc.alloc(layout(1 << 20))) };
        assert!(none.is_null() && is_in(&arena, some), "{setup}");
        // SAFETY: as above.
        assert!(unsafe { alloc.alloc_zeroed(layout(8 << 20)) }.is_null());
        fill(some, 1 << 20);
        // SAFETY: allocated above.
        assert!(unsafe { alloc.realloc(some, layout(1 << 20), 8 << 20) }.is_null());
        evict(&arena, (1 << 20) / PAGE);
        assert!(is_filled(some, 1 << 20), "the old block has changed");
        // SAFETY: a layout with bytes.
        let small = unsafe { alloc.alloc(layout(500)) };
        fill(small, 500);
        // SAFETY: allocated above.
        assert!(unsafe { alloc.realloc(small, layout(500), 8 << 20) }.is_null());
        assert!(is_filled(small, 500));
        // SAFETY: both are freed once.
        unsafe {
            alloc.dealloc(small, layout(500));
            alloc.dealloc(some, layout(1 << 20));
        }
        assert_eq!(arena.stats().allocated_bytes, 0);
    }
}

#[test]
fn alignments_above_a_page_are_kept() {
    for setup in setups("alignments_above_a_page_are_kept") {
        let (alloc, arena) = started(setup, 1 << 30);
        for shift in 0..20 {
            let layout = Layout::from_size_align(3000, 1 << shift).unwrap();
            // SAFETY: a layout with bytes.
            let mut block = unsafe { alloc.alloc(layout) };
            let mut size = layout.size();
            for next in [200, 30_000, 10_000] {
                assert!(block.addr().is_multiple_of(layout.align()), "{setup}: {layout:?}");
                fill(block, size);
                let old = Layout::from_size_align(size, layout.align()).unwrap();
                // SAFETY: allocated with this layout.
                block = unsafe { alloc.realloc(block, old, next) };
                assert!(is_filled(block, next.min(size)));
                size = next;
            }
            let last = Layout::from_size_align(size, layout.align()).unwrap();
            // SAFETY: allocated with this layout.
            unsafe { alloc.dealloc(block, last) };
        }
        assert_eq!(arena.stats().allocated_bytes, 0);
    }
}

#[test]
fn an_allocator_has_one_arena() {
    for setup in setups("an_allocator_has_one_arena") {
        let (alloc, arena) = started(setup, 1 << 30);
        let other = quiet(setup).build().unwrap();
        assert_eq!(alloc.start_without_system_calls(&other), Err(StartError::AlreadyStarted));
        // The allocator keeps the arena after its builder drops it.
        drop(arena);
        // SAFETY: a layout with bytes.
        let block = unsafe { alloc.alloc(layout(5000)) };
        let arena = alloc.arena().unwrap();
        assert!(is_in(&arena, block) && !is_in(&other, block));
        assert!(ArenaAlloc::new(1).arena().is_none());
    }
}

#[test]
fn an_arena_that_serves_no_system_calls_is_refused_with_the_remedy() {
    for setup in setups("an_arena_that_serves_no_system_calls") {
        let arena = quiet(setup).build().unwrap();
        let alloc = ArenaAlloc::new(4096);
        let started = alloc.start(&arena);
        if arena.serves_system_calls() {
            started.unwrap();
            continue;
        }
        let error = started.unwrap_err();
        let StartError::SystemCalls { remedy } = &error else { panic!("{setup}: {error:?}") };
        assert!(error.to_string().contains(remedy) && remedy.contains("FaultMode"), "{error}");
        let privileged = thermocline::probe().route().unwrap().serves_system_calls();
        assert_eq!(remedy.contains("/dev/userfaultfd"), !privileged, "{error}");
        assert!(alloc.arena().is_none());
        alloc.start_without_system_calls(&arena).unwrap();
    }
}

#[test]
fn a_build_function_without_a_result_is_called_once() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let alloc = ArenaAlloc::lazy(1000, || {
        ASKED.fetch_add(1, Ordering::Relaxed);
        None
    });
    // SAFETY: a layout with bytes, and freed with the same.
    let once = |size| unsafe { alloc.dealloc(alloc.alloc(layout(size)), layout(size)) };
    once(10);
    assert_eq!(ASKED.load(Ordering::Relaxed), 0);
    once(1000);
    once(100_000);
    assert_eq!(ASKED.load(Ordering::Relaxed), 1);
    for setup in setups("a_build_function_without_a_result_is_called_once") {
        let arena = quiet(setup).build().unwrap();
        // The allocator can still be started, once.
        let first = alloc.arena().is_none();
        assert_eq!(alloc.start_without_system_calls(&arena).is_ok(), first);
    }
}
