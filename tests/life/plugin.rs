//! A shared object that contains the library, for the tests in `unload.rs` and `signal_stacks/copies.rs`.

#![allow(missing_docs, unsafe_code)]

use std::sync::OnceLock;
use std::time::Duration;
use thermocline::{Arena, FaultMode};

/// Uses an arena with inline faults or handler threads, and drops it, or leaves it behind with all of its
/// threads. Returns the number of wrong blocks, or a negative number after an error.
#[unsafe(no_mangle)]
pub extern "C" fn thermocline_plugin(inline: bool, leave: bool) -> i32 {
    let mode = if inline { FaultMode::Inline } else { FaultMode::Handler };
    let interval = Duration::from_millis(1);
    let builder = Arena::builder().reserve(64 << 20).fault_mode(mode).scan_interval(interval);
    let Ok(arena) = builder.cold_age(interval).zeal(true).build() else { return -1 };
    let numbers: Vec<u64> = (0..100_000).collect();
    let mut blocks = Vec::new();
    for _ in 0..10 {
        let layout = std::alloc::Layout::for_value(numbers.as_slice());
        let Ok(block) = arena.allocate(layout) else { return -2 };
        let block = block.cast::<u64>();
        // SAFETY: a block of that many numbers.
        unsafe { block.as_ptr().copy_from_nonoverlapping(numbers.as_ptr(), numbers.len()) };
        blocks.push((block, layout));
    }
    if arena.evict_now().is_err() {
        return -3;
    }
    let mut wrong = 0;
    for (block, layout) in blocks {
        // SAFETY: written above, and freed once.
        unsafe {
            let found = core::slice::from_raw_parts(block.as_ptr(), numbers.len());
            wrong += i32::from(found != numbers.as_slice());
            arena.deallocate(block.cast(), layout);
        }
    }
    if leave {
        std::mem::forget(arena);
    }
    wrong
}

static ARENA: OnceLock<Arena> = OnceLock::new();

/// The numbers from zero on, in an arena with inline faults that is never dropped. Null after an error.
#[unsafe(no_mangle)]
pub extern "C" fn thermocline_plugin_numbers(count: usize) -> *const u64 {
    let hour = Duration::from_secs(3600);
    let builder = Arena::builder().reserve(64 << 20).fault_mode(FaultMode::Inline);
    let Ok(built) = builder.scan_interval(hour).cold_age(hour).build() else {
        return std::ptr::null();
    };
    let arena = ARENA.get_or_init(|| built);
    let numbers: Vec<u64> = (0..count as u64).collect();
    let Ok(block) = arena.allocate(std::alloc::Layout::for_value(numbers.as_slice())) else {
        return std::ptr::null();
    };
    let block = block.cast::<u64>().as_ptr();
    // SAFETY: a block of that many numbers.
    unsafe { block.copy_from_nonoverlapping(numbers.as_ptr(), count) };
    block
}

/// Evicts the numbers, and returns how many bytes are stored.
#[unsafe(no_mangle)]
pub extern "C" fn thermocline_plugin_evict() -> usize {
    ARENA.get().map_or(0, |arena| {
        let _ = arena.evict_now();
        arena.stats().stored_bytes as usize
    })
}
