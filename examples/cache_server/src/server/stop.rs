//! Asking the server to stop.

use mio::Waker;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once, by a signal or by `SHUTDOWN`.
#[derive(Debug, Default)]
pub struct Stop {
    asked: AtomicBool,
    /// Of the thread that waits for it.
    waker: OnceLock<Waker>,
}

impl Stop {
    /// Has `waker` wake whoever waits, once it is asked for.
    pub fn wakes(&self, waker: Waker) {
        // There is one waiting thread.
        let _ = self.waker.set(waker);
    }

    pub fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        if let Some(waker) = self.waker.get() {
            // If it fails, the waiting thread finds out at its next regular look.
            let _ = waker.wake();
        }
    }

    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}
