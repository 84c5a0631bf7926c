//! A flag that one thread sleeps on, and that any thread may raise at any moment.
//!
//! It needs no descriptor: a program may close those, and a number that was closed and reused must not be
//! written to.

use super::futex;
use crate::prim::sync::{AtomicU64, Ordering};
use std::time::Duration;

const QUIET: u64 = 0;
const RUNG: u64 = 1;
/// The half of [`QUIET`] that the kernel compares.
const QUIET_HALF: u32 = 0;

/// Rung, it stays so until its thread has noticed. Ringing neither allocates nor waits, so a signal handler
/// may do it.
#[derive(Debug)]
pub(crate) struct Bell(AtomicU64);

impl Bell {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(QUIET))
    }

    /// Wakes the thread that sleeps on the bell, now or when it next does.
    pub(crate) fn ring(&self) {
        if self.0.swap(RUNG, Ordering::AcqRel) == QUIET {
            futex::wake_all(&self.0);
        }
    }

    /// Sleeps until the bell is rung, for `timeout` at most, and says whether it was. May return early.
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
    fn a_bell_is_heard_once_before_or_during_the_sleep() {
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
