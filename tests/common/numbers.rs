//! A vector of numbers that depend on their places, in an arena.

#![allow(dead_code, reason = "each test program uses a part of it")]

use allocator_api2::vec::Vec as AVec;
use thermocline::Arena;

/// The numbers 0, 3, 6 and so on, which compress.
pub fn fill(arena: &Arena, count: u64) -> AVec<u64, &Arena> {
    let mut numbers = AVec::with_capacity_in(usize::try_from(count).unwrap(), arena);
    numbers.extend((0..count).map(|n| n * 3));
    // A handler thread owns a page a moment longer than the faulting thread waits. `check` waits for it.
    arena.check().unwrap();
    numbers
}

/// Checks all numbers.
pub fn verify(numbers: &[u64]) {
    for (n, number) in numbers.iter().enumerate() {
        assert_eq!(*number, n as u64 * 3, "number {n}");
    }
}
