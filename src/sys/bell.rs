//! A flag that one thread sleeps on, and that any thread may raise at any moment.
//!
//! A flag in memory needs no descriptor. The program may close a descriptor, and its number may then belong to
//! another file, which must not be written to.

use super::futex;
use crate::prim::sync::{AtomicU64, Ordering};
use std::time::Duration;

const QUIET: u64 = 0;
const RUNG: u64 = 1;
/// The half of [`QUIET`] that the kernel compares.
const QUIET_HALF: u32 = 0;

/// A bell stays rung until its thread has noticed. Ringing neither allocates nor waits, so a signal handler
/// may do it.
#[derive(Debug)]
pub(crate) struct Bell(AtomicU64);

impl Bell {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(QUIET))
    }

    /// Wakes the thread that sleeps on the bell, or keeps the next `wait` from sleeping.
    pub(crate) fn ring(&self) {
        if self.0.swap(RUNG, Ordering::AcqRel) == QUIET {
            futex::wake_all(&self.0);
        }
    }

    /// Sleeps until a ring, for `timeout` at most. True if the bell was rung. May return early.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        if self.0.load(Ordering::Acquire) == QUIET && !timeout.is_zero() {
            futex::wait(&self.0, QUIET_HALF, timeout);
        }
        self.0.swap(QUIET, Ordering::AcqRel) == RUNG
    }
}

#[cfg(test)]
#[cfg(not(thermocline_sim))]
mod tests {
    use super::*;

    #[test]
    fn one_ring_ends_one_wait_before_or_during_the_sleep() {
        const LONG: Duration = Duration::from_secs(1000);
        let bell = Bell::new();
        bell.ring();
        bell.ring();
        assert!(bell.wait(LONG));
        assert!(!bell.wait(Duration::ZERO));
        std::thread::scope(|scope| {
            scope.spawn(|| while !bell.wait(LONG) {});
            bell.ring();
        });
        assert!(!bell.wait(Duration::from_millis(1)));
    }
}
