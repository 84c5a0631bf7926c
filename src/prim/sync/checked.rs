//! What a model checker runs with: loom's.

pub(crate) use crossbeam::channel;
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use loom::sync::{Mutex, MutexGuard};

/// Threads whose every order is tried.
pub(crate) mod thread {
    pub(crate) use loom::thread::{JoinHandle, Thread, current, park, yield_now};
    #[cfg(test)]
    pub(crate) use std::thread::scope;

    /// Nothing takes any time: who sleeps gives way.
    pub(crate) fn sleep(_: std::time::Duration) {
        yield_now();
    }

    /// Nobody counts them.
    pub(crate) fn steps() -> usize {
        0
    }

    /// Ends the process that is checked.
    pub(crate) fn abort(why: String) -> ! {
        panic!("aborted: {why}")
    }

    /// Starts a thread; names tell the checker nothing.
    pub(crate) fn start<T: 'static>(
        _: String,
        body: impl FnOnce() -> T + 'static,
    ) -> JoinHandle<T> {
        loom::thread::spawn(body)
    }
}
