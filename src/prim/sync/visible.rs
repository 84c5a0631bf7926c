//! A lock whose acquisition thread sanitizer always sees (scripts/sanitize).
//!
//! Std comes compiled without the sanitizer. The fast path of its lock is inlined here and instrumented.
//! Its slow path is not, so a lock taken there looks to the sanitizer like no lock, and each access under
//! it like a race. This lock therefore never takes std's slow path.

use std::sync::{LockResult, MutexGuard, TryLockError, TryLockResult};

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        loop {
            match self.0.try_lock() {
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(guard)) => return Err(guard),
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
    }

    pub(crate) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        self.0.try_lock()
    }
}
