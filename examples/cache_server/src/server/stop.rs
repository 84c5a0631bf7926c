//! A request to stop the server.

use mio::Waker;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once, by a signal or by `SHUTDOWN`.
#[derive(Debug, Default)]
pub struct Stop {
    requested: AtomicBool,
    /// Wakes the main thread.
    waker: OnceLock<Waker>,
}

impl Stop {
    /// Sets the waker of the main thread, which waits for the request.
    pub fn set_waker(&self, waker: Waker) {
        // Only the main thread waits.
        let _ = self.waker.set(waker);
    }

    pub fn request(&self) {
        self.requested.store(true, Ordering::Release);
        if let Some(waker) = self.waker.get() {
            // If the wake-up fails, the main thread notices the request at its next tick.
            let _ = waker.wake();
        }
    }

    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }
}
