//! Processors: their number, the current one, and cache prefetching.

#![allow(unsafe_code)]

use crate::prim::units::index;
use std::thread;

/// The processor that the thread runs on, as a hint: the thread may move at any time.
///
/// Safe to call from a signal handler.
pub(crate) fn current() -> usize {
    // SAFETY: takes no argument; returns -1 if the kernel has no such call.
    let cpu = unsafe { libc::sched_getcpu() };
    u64::try_from(cpu).map_or(0, index)
}

/// The number of processors that the process may use.
pub(crate) fn count() -> usize {
    thread::available_parallelism().map_or(1, |n| n.get())
}

/// Starts to load the cache line at `address` and does not wait for it. Any address is allowed.
#[inline]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction. It faults for no address and has no effect
    // that a program can observe.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
