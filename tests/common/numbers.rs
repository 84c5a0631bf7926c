//! An arena full of numbers of which each page knows where it belongs.

#![allow(dead_code, reason = "each test program uses a part of it")]

use allocator_api2::vec::Vec as AVec;
use thermocline::Arena;

/// Numbers that compress, each telling its place.
pub fn fill(arena: &Arena, count: u64) -> AVec<u64, &Arena> {
    let mut numbers = AVec::with_capacity_in(usize::try_from(count).unwrap(), arena);
    numbers.extend((0..count).map(|n| n * 3));
    // A toucher goes on a moment before the handler is done with its page; this waits for that.
    arena.check().unwrap();
    numbers
}

/// All of them are what they were.
pub fn verify(numbers: &[u64]) {
    for (n, number) in numbers.iter().enumerate() {
        assert_eq!(*number, n as u64 * 3, "number {n}");
    }
}
