//! The simulation's: std's, with a [step](schedule::step) before each access whose order another thread
//! could observe.

use crate::prim::schedule;
pub(crate) use std::sync::MutexGuard;
pub(crate) use std::sync::atomic::Ordering;
use std::sync::{LockResult, TryLockError, TryLockResult};

/// Relaxed accesses take no step: they are statistics and page contents, and stronger accesses order the
/// contents.
fn step(ordering: Ordering) {
    if ordering != Ordering::Relaxed {
        schedule::step();
    }
}

pub(crate) fn fence(ordering: Ordering) {
    std::sync::atomic::fence(ordering);
}

macro_rules! atomics {
    ($($name:ident: $value:ty, $($fetch:ident)*;)*) => {$(
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub(crate) struct $name(std::sync::atomic::$name);

        impl From<$value> for $name {
            fn from(value: $value) -> Self {
                Self::new(value)
            }
        }

        #[allow(dead_code)]
        impl $name {
            pub(crate) const fn new(value: $value) -> Self {
                Self(std::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, ordering: Ordering) -> $value {
                step(ordering);
                self.0.load(ordering)
            }

            pub(crate) fn store(&self, value: $value, ordering: Ordering) {
                step(ordering);
                self.0.store(value, ordering);
            }

            pub(crate) fn swap(&self, value: $value, ordering: Ordering) -> $value {
                step(ordering);
                self.0.swap(value, ordering)
            }

            pub(crate) fn compare_exchange(
                &self,
                seen: $value,
                next: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                step(success);
                self.0.compare_exchange(seen, next, success, failure)
            }

            pub(crate) fn compare_exchange_weak(
                &self,
                seen: $value,
                next: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(seen, next, success, failure)
            }

            $(pub(crate) fn $fetch(&self, value: $value, ordering: Ordering) -> $value {
                step(ordering);
                self.0.$fetch(value, ordering)
            })*
        }
    )*};
}

atomics! {
    AtomicBool: bool, fetch_and fetch_or fetch_xor;
    AtomicU32: u32, fetch_add fetch_sub fetch_and fetch_or fetch_xor fetch_max fetch_min;
    AtomicU64: u64, fetch_add fetch_sub fetch_and fetch_or fetch_xor fetch_max fetch_min;
    AtomicUsize: usize, fetch_add fetch_sub fetch_and fetch_or fetch_xor fetch_max fetch_min;
}

/// A lock that takes a step before each attempt, and yields while another thread holds it.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        loop {
            match self.try_lock() {
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(guard)) => return Err(guard),
                Err(TryLockError::WouldBlock) => schedule::yield_now(),
            }
        }
    }

    pub(crate) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        schedule::step();
        self.0.try_lock()
    }
}

/// Channels whose receiver yields while it waits.
pub(crate) mod channel {
    use super::schedule;
    use crossbeam::channel::{Receiver as Inner, TryRecvError};
    pub(crate) use crossbeam::channel::{RecvError, Sender};

    #[derive(Debug)]
    pub(crate) struct Receiver<T>(Inner<T>);

    pub(crate) fn bounded<T>(room: usize) -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = crossbeam::channel::bounded(room);
        (sender, Receiver(receiver))
    }

    impl<T> Receiver<T> {
        pub(crate) fn recv(&self) -> Result<T, RecvError> {
            loop {
                match self.0.try_recv() {
                    Ok(value) => return Ok(value),
                    Err(TryRecvError::Disconnected) => return Err(RecvError),
                    Err(TryRecvError::Empty) => schedule::yield_now(),
                }
            }
        }
    }
}

/// Threads that run one at a time.
pub(crate) mod thread {
    pub(crate) use super::schedule::spawn as start;
    pub(crate) use super::schedule::{JoinHandle, Thread, abort, current, park, steps, yield_now};
    #[cfg(test)]
    pub(crate) use std::thread::scope;

    /// No time passes in the simulation: a sleeping thread yields.
    pub(crate) fn sleep(_: std::time::Duration) {
        yield_now();
    }
}
