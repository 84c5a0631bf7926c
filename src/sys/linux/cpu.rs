//! Processors: how many there are, which one this is, and what it should load.

#![allow(unsafe_code)]

use crate::prim::units::index;
use std::thread;

/// The processor that the thread runs on at this moment: a hint, out of date at once.
///
/// Safe to call from a signal handler.
pub(crate) fn current() -> usize {
    // SAFETY: takes nothing; -1 where the kernel cannot tell.
    let cpu = unsafe { libc::sched_getcpu() };
    u64::try_from(cpu).map_or(0, index)
}

/// How many processors the process may use.
pub(crate) fn count() -> usize {
    thread::available_parallelism().map_or(1, |n| n.get())
}

/// Begins to load the cache line at `address`, and waits for nothing. A hint: any address will do.
#[inline]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction is part of every x86-64, faults for no address and changes nothing
    // that a program could see.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
