//! Processors: how many there are for us, and which one this is.

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
