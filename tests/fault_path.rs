//! Serving faults must not allocate: the program's allocator may be held by the very thread that
//! waits for the page.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs, unsafe_code)]

mod common;

use allocator_api2::vec::Vec as AVec;
use common::{quiet, setups};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

static BY_FAULTS: AtomicUsize = AtomicUsize::new(0);
static BY_OTHERS: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which counts who calls it.
struct Counting;

/// Whoever serves a fault has his signals blocked: a handler thread, and whoever touched the page, in
/// the handler for SIGBUS. The evictor and the watchdog have too, and serve none.
fn count() {
    let mut name = [0u8; 16];
    // SAFETY: the call writes at most sixteen bytes, and cannot fail on a valid buffer.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    // SAFETY: zeros are a set.
    let mut blocked: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: changes nothing, and writes the thread's mask.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut blocked) };
    // SAFETY: a set that is whole.
    let serves = unsafe { libc::sigismember(&raw const blocked, libc::SIGBUS) } == 1;
    let serves_none = [b"thermo-evict", b"thermo-watch"].iter().any(|none| name.starts_with(*none));
    let serves = serves && !serves_none;
    let counter = if serves { &BY_FAULTS } else { &BY_OTHERS };
    counter.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn serving_a_fault_allocates_nothing() {
    for setup in setups("serving_a_fault_allocates_nothing") {
        let arena = quiet(setup)
            .scan_interval(Duration::from_millis(1))
            .cold_age(Duration::from_millis(1))
            .resident_limit(1 << 20)
            .zeal(true)
            .build()
            .unwrap();
        // Handlers have everything that they need once they have served a fault.
        let mut numbers = AVec::with_capacity_in(1 << 21, &arena);
        numbers.extend(0..1u64 << 21);
        let before = BY_FAULTS.load(Ordering::Relaxed);
        let (mut at, mut round) = (0, 0u64);
        while arena.stats().refaults < 2000 {
            at = (at + 104_729) % numbers.len();
            assert_eq!(numbers[at] % (1 << 21), at as u64);
            round += 1;
            numbers[at] += (round % 3) << 21;
            if round.is_multiple_of(64) {
                std::thread::sleep(Duration::from_micros(300));
            }
        }
        assert_eq!(BY_FAULTS.load(Ordering::Relaxed) - before, 0, "{setup}");
        assert!(BY_OTHERS.load(Ordering::Relaxed) > 0);
    }
}
