//! The public calls of an arena.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs, unsafe_code)]

mod common;

use allocator_api2::alloc::Allocator;
use allocator_api2::boxed::Box as ABox;
use allocator_api2::vec::Vec as AVec;
use common::numbers::{fill, verify};
use common::pages::{PAGE, PAGE_BYTES, eventually};
use common::{quiet, scaled, setups};
use std::alloc::Layout;
use std::time::{Duration, Instant};
use thermocline::{Advice, Arena, ArenaError, Swapping, Tracker};

/// Bytes that do not compress.
fn noise(arena: &Arena, pages: usize) -> AVec<u64, &Arena> {
    let mut state = 88_172_645_463_325_252u64;
    let mut numbers = AVec::with_capacity_in(pages * PAGE / 8, arena);
    numbers.extend((0..pages * PAGE / 8).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }));
    numbers
}

#[test]
fn evicted_pages_come_back_on_touch() {
    for setup in setups("evicted_pages_come_back_on_touch") {
        let arena = quiet(setup).build().unwrap();
        let numbers = fill(&arena, 1 << 20);
        assert!(arena.stats().memory_bytes >= 8 << 20);
        let evicted = arena.evict_now().unwrap();
        let after = arena.stats();
        // A late handler thread may still own a page.
        assert!(evicted.pages >= 2040, "{setup}: {evicted:?}\n{after}");
        assert_eq!(after.resident_bytes, after.memory_bytes, "{after}");
        assert!(after.saved_bytes() > 2 << 20 && after.ratio().unwrap() > 1.5, "{after}");
        arena.check().unwrap();
        verify(&numbers);
        arena.check().unwrap();
        eventually(&arena, "the count", |stats| {
            (stats.refaults + stats.readahead_pages) as usize == evicted.pages
        });
        eventually(&arena, "the histogram", |stats| stats.refault_time.count() == stats.refaults);
    }
}

#[test]
fn idle_pages_are_evicted_and_busy_pages_stay_resident() {
    for setup in setups("idle_pages_are_evicted_and_busy_pages_stay_resident") {
        let arena = quiet(setup)
            .scan_interval(Duration::from_millis(50))
            .cold_age(Duration::from_secs(2))
            .build()
            .unwrap();
        let idle = fill(&arena, 1 << 19);
        let busy = fill(&arena, 1 << 15);
        let (looked, mut sum) = (Instant::now(), 0);
        while arena.stats().evicted_pages < 1000 {
            // Touched many times in each cold age.
            sum += busy.iter().step_by(64).sum::<u64>();
            assert!(looked.elapsed() < Duration::from_secs(120), "{}", arena.stats());
        }
        std::hint::black_box(sum);
        // A machine that stalls for a cold age may make the evictor take busy pages now and then.
        assert!(arena.stats().refaults <= 64, "{setup}: {}", arena.stats());
        verify(&idle);
        verify(&busy);
    }
}

#[test]
fn touches_of_armed_pages_send_no_fault_messages() {
    for setup in setups("touches_of_armed_pages_send_no_fault_messages") {
        let arena = quiet(setup)
            .accessed_bits(false)
            .scan_interval(Duration::from_millis(1))
            .cold_age(Duration::from_secs(100))
            .build()
            .unwrap();
        let mut numbers = fill(&arena, 1 << 17);
        while arena.stats().scans < 100 {
            numbers.iter_mut().step_by(100).for_each(|number| *number += 3);
            numbers.iter_mut().step_by(100).for_each(|number| *number -= 3);
        }
        let stats = arena.stats();
        // The tracker by accessed bits arms nothing, so no page is touched after it was armed.
        let least = if setup.tracker == Tracker::Accessed { 1 } else { 1000 };
        assert!(stats.armed_pages > least, "{stats}");
        assert_eq!(stats.faults, 0, "{setup}: {stats}");
        verify(&numbers);
    }
}

#[test]
fn the_resident_limit_is_kept_at_any_cold_age() {
    for setup in setups("the_resident_limit_is_kept_at_any_cold_age") {
        let limit = 4 << 20;
        let arena = quiet(setup)
            .resident_limit(limit)
            .scan_interval(Duration::from_millis(10))
            .cold_age(Duration::from_secs(1000))
            .build()
            .unwrap();
        let numbers = fill(&arena, scaled(4 << 20, 1 << 20));
        eventually(&arena, "the limit", |stats| stats.resident_bytes <= limit as u64);
        verify(&numbers);
        eventually(&arena, "the limit, again", |stats| stats.resident_bytes <= limit as u64);
        arena.check().unwrap();
    }
}

/// The next scan would be due in an hour.
#[test]
fn pages_above_the_limit_are_evicted_before_the_next_scan() {
    for setup in setups("pages_above_the_limit_are_evicted_before_the_next_scan") {
        let arena = quiet(setup).resident_limit(4 << 20).build().unwrap();
        let numbers = fill(&arena, scaled(2 << 20, 1 << 20));
        for _ in 0..3 {
            eventually(&arena, "the limit", |stats| stats.resident_bytes <= 4 << 20);
            verify(&numbers);
        }
        assert!(arena.stats().evicted_pages > 3 * scaled(2000, 700), "{}", arena.stats());
    }
}

/// Prefetched pages stay resident for a cold age, also if they were resident before.
#[test]
fn prefetched_pages_count_as_touched() {
    for setup in setups("prefetched_pages_count_as_touched") {
        let arena = quiet(setup)
            .scan_interval(Duration::from_millis(20))
            .cold_age(Duration::from_secs(3))
            .build()
            .unwrap();
        let kept = fill(&arena, 1 << 14);
        let other = fill(&arena, 1 << 18);
        let start = Instant::now();
        while arena.stats().evicted_pages < 400 {
            arena.prefetch(&*kept).unwrap();
            std::thread::sleep(Duration::from_millis(10));
            assert!(start.elapsed() < Duration::from_secs(120), "{}", arena.stats());
        }
        assert_eq!(arena.stats().prefetched_pages, 0, "{setup}: {}", arena.stats());
        verify(&kept);
        verify(&other);
    }
}

#[test]
fn first_touches_of_small_and_sequential_blocks_rarely_fault() {
    for setup in setups("first_touches_of_small_and_sequential_blocks_rarely_fault") {
        let arena = quiet(setup).build().unwrap();
        let mut boxes = Vec::new();
        for n in 0..50_000u64 {
            boxes.push(ABox::new_in([n; 4], &arena));
        }
        assert_eq!(arena.stats().faults, 0, "{}", arena.stats());
        let numbers = fill(&arena, 4 << 20);
        let stats = arena.stats();
        assert!(stats.faults <= 40, "32 MiB in growing windows: {stats}");
        assert!(boxes.iter().enumerate().all(|(n, b)| **b == [n as u64; 4]));
        verify(&numbers);
    }
}

#[test]
fn a_sparse_block_takes_memory_for_touched_pages_only() {
    for setup in setups("a_sparse_block_takes_memory_for_touched_pages_only") {
        let arena = quiet(setup).build().unwrap();
        let layout = Layout::from_size_align(512 << 20, PAGE).unwrap();
        let block = arena.allocate_zeroed(layout).unwrap().cast::<u8>();
        for at in (0..512).rev().map(|mib| mib << 20) {
            // SAFETY: within the block.
            let byte = unsafe { block.add(at) };
            // SAFETY: as above; the memory is initialised with zeros.
            assert_eq!(unsafe { byte.read() }, 0);
            // SAFETY: as above.
            unsafe { byte.write(1) };
        }
        let used = arena.stats().memory_bytes as usize;
        assert!(used <= (2 << 20) + 512 * PAGE * 2, "{}", arena.stats());
        // SAFETY: allocated above with this layout.
        unsafe { arena.deallocate(block, layout) };
        arena.trim();
        assert_eq!(arena.stats().memory_bytes, 0);
    }
}

#[test]
fn freeing_gives_memory_and_store_space_back() {
    for setup in setups("freeing_gives_memory_back") {
        let arena = quiet(setup).build().unwrap();
        let numbers = fill(&arena, 1 << 19);
        let kept = fill(&arena, 1 << 19);
        arena.evict_now().unwrap();
        verify(&numbers[..1 << 18]);
        drop(numbers);
        arena.check().unwrap();
        let stats = arena.stats();
        assert_eq!(stats.stored_bytes, kept.len() as u64 * 8, "{stats}");
        assert_eq!(stats.allocated_bytes, kept.len() as u64 * 8, "{stats}");
        assert_eq!(arena.trim(), stats.memory_bytes);
        assert_eq!(arena.stats().memory_bytes, 0);
        drop(kept);
        assert_eq!((arena.stats().stored_bytes, arena.stats().compressed_bytes), (0, 0));
        // The evictor frees empty slabs in its next cycle.
        arena.evict_now().unwrap();
        assert_eq!(arena.stats().store_bytes, 0, "{}", arena.stats());
        arena.check().unwrap();
    }
}

#[test]
fn allocate_zeroed_clears_freed_pages() {
    for setup in setups("allocate_zeroed_clears_freed_pages") {
        let arena = quiet(setup).build().unwrap();
        for size in [24, 700, 5000, 3 * PAGE, 100 * PAGE] {
            let layout = Layout::from_size_align(size, 8).unwrap();
            for round in 0..20 {
                let block = arena.allocate_zeroed(layout).unwrap();
                // SAFETY: the block is `block.len()` bytes of initialised memory, and ours.
                let bytes = unsafe { &mut *block.as_ptr() };
                assert!(bytes.iter().all(|byte| *byte == 0), "{setup}, {size}, round {round}");
                bytes.fill(0xA5);
                if round % 3 == 0 {
                    arena.evict_now().unwrap();
                }
                // SAFETY: allocated above with this layout.
                unsafe { arena.deallocate(block.cast(), layout) };
            }
        }
        arena.check().unwrap();
    }
}

#[test]
fn growing_and_shrinking_keep_the_content() {
    for setup in setups("growing_and_shrinking_keep_the_content") {
        let arena = quiet(setup).build().unwrap();
        let mut numbers: AVec<u64, _> = AVec::new_in(&arena);
        for n in 0..300_000u64 {
            numbers.push(n * 3);
            if n % 50_000 == 0 {
                arena.evict_now().unwrap();
            }
        }
        for len in [200_000, 70_001, 4000, 500, 3] {
            numbers.truncate(len);
            numbers.shrink_to_fit();
            verify(&numbers);
            arena.evict_now().unwrap();
            verify(&numbers);
            arena.check().unwrap();
        }
        // A block grows by zeros, also where other bytes were before.
        let (small, large) =
            (Layout::array::<u8>(5000).unwrap(), Layout::array::<u8>(9 * PAGE).unwrap());
        let block = arena.allocate(Layout::array::<u8>(20 * PAGE).unwrap()).unwrap();
        // SAFETY: the block's own bytes.
        unsafe { block.cast::<u8>().write_bytes(0xFF, block.len()) };
        // SAFETY: allocated with the first layout, shrunk to the second.
        let block = unsafe {
            arena.shrink(block.cast(), Layout::array::<u8>(20 * PAGE).unwrap(), small).unwrap()
        };
        // SAFETY: it has the small layout now.
        let block = unsafe { arena.grow_zeroed(block.cast(), small, large).unwrap() };
        // SAFETY: initialised over its whole length.
        let bytes = unsafe { &*block.as_ptr() };
        assert!(bytes[..5000].iter().all(|b| *b == 0xFF) && bytes[5000..].iter().all(|b| *b == 0));
        // SAFETY: it has the large layout now.
        unsafe { arena.deallocate(block.cast(), large) };
    }
}

#[test]
fn blocks_that_do_not_fit_are_refused() {
    for setup in setups("blocks_that_do_not_fit_are_refused") {
        let arena = quiet(setup).reserve(8 << 20).build().unwrap();
        let all = Layout::from_size_align(8 << 20, 1).unwrap();
        let too_much = Layout::from_size_align((8 << 20) + 1, 1).unwrap();
        let far = Layout::from_size_align(isize::MAX as usize - 4095, 4096).unwrap();
        let strange = Layout::from_size_align(1, 1 << 62).unwrap();
        for layout in [too_much, far, strange] {
            assert!(arena.allocate(layout).is_err(), "{layout:?}");
            assert!(arena.allocate_zeroed(layout).is_err(), "{layout:?}");
        }
        let block = arena.allocate(all).unwrap();
        assert!(arena.allocate(Layout::new::<u8>()).is_err());
        assert!(AVec::<u8, _>::new_in(&arena).try_reserve(1).is_err());
        // SAFETY: allocated above with this layout; a failed `grow` leaves it as it is.
        assert!(unsafe { arena.grow(block.cast(), all, too_much) }.is_err());
        // SAFETY: as above.
        unsafe { arena.deallocate(block.cast(), all) };
        for align in (0..=21).map(|shift| 1 << shift) {
            let layout = Layout::from_size_align(100, align).unwrap();
            let block = arena.allocate(layout).unwrap();
            assert!(block.cast::<u8>().addr().get().is_multiple_of(align));
            // SAFETY: as above.
            unsafe { arena.deallocate(block.cast(), layout) };
        }
        let nothing = arena.allocate(Layout::from_size_align(0, 1 << 20).unwrap()).unwrap();
        assert!(nothing.cast::<u8>().addr().get().is_multiple_of(1 << 20));
        assert_eq!(arena.stats().allocated_bytes, 0);
        arena.check().unwrap();
    }
}

#[test]
fn with_a_full_store_the_other_pages_stay_resident() {
    for setup in setups("with_a_full_store_the_other_pages_stay_resident") {
        let arena = quiet(setup).store_limit(1 << 20).build().unwrap();
        let numbers = fill(&arena, 2 << 20);
        let evicted = arena.evict_now().unwrap();
        let stats = arena.stats();
        assert!(evicted.store_full && stats.store_full_pages > 0, "{evicted:?} {stats}");
        assert!(stats.store_bytes <= 1 << 20 && stats.resident_bytes > 4 << 20, "{stats}");
        verify(&numbers);
        arena.check().unwrap();
        // Restored pages have left room in the store.
        assert!(arena.evict_now().unwrap().pages > 0);
        verify(&numbers);
    }
}

#[test]
fn incompressible_pages_stay_resident_and_are_not_tried_again_soon() {
    for setup in setups("incompressible_pages_stay_resident_and_are_not_tried_again_soon") {
        let arena = quiet(setup).build().unwrap();
        let numbers = noise(&arena, 300);
        let first = arena.evict_now().unwrap();
        assert_eq!((first.pages, first.incompressible), (0, 300), "{}", arena.stats());
        let second = arena.evict_now().unwrap();
        assert_eq!((second.pages, second.incompressible), (0, 0), "not tried again so soon");
        assert_eq!(arena.stats().resident_bytes, 300 * PAGE_BYTES);
        assert!(*numbers == *noise(&arena, 300));
    }
}

#[test]
fn prefetch_restores_exactly_its_range() {
    for setup in setups("prefetch_restores_exactly_its_range") {
        let arena = quiet(setup).build().unwrap();
        let numbers = fill(&arena, 1 << 18);
        arena.evict_now().unwrap();
        let part = &numbers[512 * 100..512 * 150];
        assert_eq!(arena.prefetch(part).unwrap(), 50);
        assert_eq!(arena.prefetch(part).unwrap(), 0);
        let faults = arena.stats().faults;
        assert_eq!(part[77], (512 * 100 + 77) * 3);
        assert!(part.iter().zip(512 * 100..).all(|(number, n)| *number == n * 3));
        assert_eq!(arena.stats().faults, faults, "prefetched pages raise no fault");
        assert_eq!(
            (arena.stats().prefetched_pages, arena.stats().resident_bytes),
            (50, 50 * PAGE_BYTES)
        );
        arena.advise(&numbers[..512 * 10], Advice::WillNeed).unwrap();
        eventually(&arena, "the ten pages", |stats| stats.prefetched_pages == 60);
        verify(&numbers);
    }
}

#[test]
fn pages_advised_cold_are_evicted() {
    for setup in setups("pages_advised_cold_are_evicted") {
        let arena = quiet(setup).build().unwrap();
        let cold = fill(&arena, 1 << 16);
        let other = fill(&arena, 1 << 16);
        arena.advise(&*cold, Advice::Cold).unwrap();
        eventually(&arena, "the eviction", |stats| stats.stored_bytes == cold.len() as u64 * 8);
        assert_eq!(arena.stats().resident_bytes, other.len() as u64 * 8);
        verify(&cold);
        verify(&other);
    }
}

#[test]
fn ranges_outside_of_the_arena_are_refused() {
    for setup in setups("ranges_outside") {
        let arena = quiet(setup).build().unwrap();
        let numbers = fill(&arena, 100);
        let outside = Err(ArenaError::OutsideArena);
        assert_eq!(arena.prefetch(&[1, 2, 3]), outside);
        assert_eq!(arena.advise(&[1u8], Advice::Cold).unwrap_err(), ArenaError::OutsideArena);
        let past_the_end = std::ptr::slice_from_raw_parts(numbers.as_ptr(), 1 << 40);
        assert_eq!(arena.prefetch(past_the_end), outside);
        let beyond_all = std::ptr::slice_from_raw_parts(numbers.as_ptr(), usize::MAX);
        assert_eq!(arena.prefetch(beyond_all), outside);
        assert_eq!(arena.prefetch(&[0u8; 0]), Ok(0));
    }
}

#[test]
fn a_stopped_arena_keeps_all_bytes_as_ordinary_memory() {
    for setup in setups("a_stopped_arena_keeps_all_bytes_as_ordinary_memory") {
        let arena = quiet(setup).build().unwrap();
        let numbers = fill(&arena, 1 << 19);
        arena.evict_now().unwrap();
        let sum = std::thread::scope(|scope| {
            let reader = scope.spawn(|| numbers.iter().sum::<u64>());
            arena.stop().unwrap();
            reader.join().unwrap()
        });
        assert_eq!(sum, (0..1u64 << 19).map(|n| n * 3).sum());
        assert_eq!(arena.swapping(), Swapping::Stopped);
        assert_eq!((arena.stats().stored_bytes, arena.stats().lost_bytes), (0, 0));
        arena.stop().unwrap();
        for refused in [arena.evict_now().map(|_| ()), arena.prefetch(&*numbers).map(|_| ())] {
            assert_eq!(refused, Err(ArenaError::NotSwapping));
        }
        verify(&numbers);
        // Allocating and freeing still work, and freed memory is released and reads as zeros.
        let more = fill(&arena, 1 << 20);
        verify(&more);
        drop(more);
        let layout = Layout::from_size_align(8 << 20, 8).unwrap();
        let block = arena.allocate_zeroed(layout).unwrap();
        // SAFETY: initialised with zeros over its whole length.
        assert!(unsafe { &*block.as_ptr() }.iter().all(|byte| *byte == 0));
        // SAFETY: allocated above with this layout.
        unsafe { arena.deallocate(block.cast(), layout) };
        drop(numbers);
        arena.trim();
        assert_eq!(arena.stats().memory_bytes, 0, "{}", arena.stats());
        arena.check().unwrap();
    }
}

#[test]
fn a_collection_with_a_clone_keeps_the_memory() {
    for setup in setups("a_collection_with_a_clone_keeps_the_memory") {
        let arena = quiet(setup).build().unwrap();
        let mut numbers = AVec::new_in(arena.clone());
        assert!(*numbers.allocator() == arena);
        assert!(arena.hot().arena() == &arena && arena.hot() != arena.cold());
        numbers.extend((0..100_000u64).map(|n| n * 3));
        drop(arena);
        let evicted = numbers.allocator().evict_now().unwrap();
        assert!(evicted.pages > 150, "{evicted:?}");
        let thread = std::thread::spawn(move || verify(&numbers));
        thread.join().unwrap();
    }
}

#[test]
fn a_hash_map_keeps_its_content_through_evictions() {
    for setup in setups("a_hash_map_keeps_its_content_through_evictions") {
        let arena = quiet(setup).build().unwrap();
        let mut map = hashbrown::HashMap::new_in(&arena);
        for n in 0..100_000u64 {
            map.insert(n, ABox::new_in([n; 10], &arena));
            if n % 20_000 == 0 {
                arena.evict_now().unwrap();
            }
        }
        arena.evict_now().unwrap();
        for n in (0..100_000).step_by(3) {
            assert_eq!(*map.remove(&n).unwrap(), [n; 10]);
        }
        arena.evict_now().unwrap();
        assert!(map.iter().all(|(n, values)| **values == [*n; 10]));
        drop(map);
        assert_eq!(arena.stats().allocated_bytes, 0);
        arena.check().unwrap();
    }
}

#[test]
fn arenas_do_not_affect_each_other() {
    for setup in setups("arenas_do_not_affect_each_other") {
        let arenas: Vec<Arena> = (0..8).map(|_| quiet(setup).build().unwrap()).collect();
        let numbers: Vec<_> = arenas.iter().map(|arena| fill(arena, 50_000)).collect();
        arenas.iter().for_each(|arena| assert!(arena.evict_now().unwrap().pages > 90));
        numbers.iter().for_each(|numbers| verify(numbers));
        arenas[3].stop().unwrap();
        arenas[4].evict_now().unwrap();
        numbers.iter().for_each(|numbers| verify(numbers));
    }
}
