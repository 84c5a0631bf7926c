//! The model checker's: loom's.

pub(crate) use crossbeam::channel;
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use loom::sync::{Mutex, MutexGuard};

/// Threads of which loom tries every order.
pub(crate) mod thread {
    pub(crate) use loom::thread::{JoinHandle, Thread, current, park, yield_now};
    #[cfg(test)]
    pub(crate) use std::thread::scope;

    /// No time passes in a model: a sleeping thread yields.
    pub(crate) fn sleep(_: std::time::Duration) {
        yield_now();
    }

    /// Loom counts no steps.
    pub(crate) fn steps() -> usize {
        0
    }

    /// Ends the model.
    pub(crate) fn abort(why: String) -> ! {
        panic!("aborted: {why}")
    }

    /// Starts a thread. Loom does not use the name.
    pub(crate) fn start<T: 'static>(
        _: String,
        body: impl FnOnce() -> T + 'static,
    ) -> JoinHandle<T> {
        loom::thread::spawn(body)
    }
}
