//! Serving faults must not allocate: the thread that waits for the page may hold the allocator's lock.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs, unsafe_code)]

mod common;

use allocator_api2::vec::Vec as AVec;
use common::{quiet, setups};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

static BY_FAULTS: AtomicUsize = AtomicUsize::new(0);
static BY_THE_REST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with a count of its calls.
struct Counting;

/// Handler threads, and faulting threads in the SIGBUS handler, have all signals blocked. So have the evictor
/// and the watchdog, which serve no faults and are told apart by their names.
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
    let counter = if serves { &BY_FAULTS } else { &BY_THE_REST };
    counter.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: passes each call to the system's allocator.
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
        // A handler thread may allocate for its first fault.
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
        assert!(BY_THE_REST.load(Ordering::Relaxed) > 0);
    }
}
