//! The clock that decides how long free pages keep their memory, in epochs.

#[cfg(any(test, fuzzing))]
use crate::prim::sync::plain::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

#[derive(Debug)]
#[cfg_attr(any(test, fuzzing), allow(dead_code, reason = "tests set the time"))]
pub(super) struct Clock {
    started: Instant,
    /// Epochs that a test has moved the clock forward by.
    #[cfg(any(test, fuzzing))]
    forward: AtomicU32,
}

#[cfg_attr(any(test, fuzzing), allow(dead_code, reason = "tests set the time"))]
impl Clock {
    /// Free pages that no allocation needed for a whole epoch are released.
    const EPOCH: Duration = Duration::from_millis(32);

    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            #[cfg(any(test, fuzzing))]
            forward: AtomicU32::new(0),
        }
    }

    /// Epochs since the heap was created; in tests and fuzz targets, the epochs of [`pass`](super::Heap::pass).
    pub(super) fn epoch(&self) -> u64 {
        #[cfg(any(test, fuzzing))]
        return self.forward.load(Ordering::Relaxed).into();
        #[cfg(not(any(test, fuzzing)))]
        {
            let epochs = self.started.elapsed().as_nanos() / Self::EPOCH.as_nanos();
            u64::try_from(epochs).unwrap_or(u64::MAX)
        }
    }
}

#[cfg(any(test, fuzzing))]
impl super::Heap {
    /// Moves the heap's clock forward.
    pub(crate) fn pass(&self, epochs: u32) {
        self.clock.forward.fetch_add(epochs, Ordering::Relaxed);
    }
}
