//! The clock by which free pages keep their memory, in epochs.

#[cfg(any(test, fuzzing))]
use crate::prim::sync::plain::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

#[derive(Debug)]
#[cfg_attr(any(test, fuzzing), allow(dead_code, reason = "tests say themselves what time it is"))]
pub(super) struct Clock {
    started: Instant,
    /// Epochs that a test has put it forward by.
    #[cfg(any(test, fuzzing))]
    forward: AtomicU32,
}

#[cfg_attr(any(test, fuzzing), allow(dead_code, reason = "tests say themselves what time it is"))]
impl Clock {
    /// Free pages that nobody has needed for so long give up their memory.
    const EPOCH: Duration = Duration::from_millis(32);

    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            #[cfg(any(test, fuzzing))]
            forward: AtomicU32::new(0),
        }
    }

    /// Epochs since the heap was made; in the heap's own tests, those that the test says.
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
    /// Puts the heap's clock forward.
    pub(crate) fn pass(&self, epochs: u32) {
        self.clock.forward.fetch_add(epochs, Ordering::Relaxed);
    }
}
