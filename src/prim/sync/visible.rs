//! A lock that thread sanitizer sees being taken, however long that takes (scripts/sanitize).
//!
//! Std comes compiled without the sanitizer. Where a lock is free, taking it is compiled here, with it;
//! where one has to wait, std takes the lock unseen, and all that the lock guards looks like a race.

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
