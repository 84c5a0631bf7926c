//! Robust mutexes: when the owner ends, the kernel lets the next thread lock the mutex.

#![allow(dead_code, unsafe_code, reason = "each test program uses a part of it")]

use core::ffi::c_int;
use core::mem::MaybeUninit;

unsafe extern "C" {
    fn pthread_mutexattr_setrobust(
        attributes: *mut libc::pthread_mutexattr_t,
        robust: c_int,
    ) -> c_int;
    fn pthread_mutex_consistent(mutex: *mut libc::pthread_mutex_t) -> c_int;
}

/// `PTHREAD_MUTEX_ROBUST`, of glibc and musl alike.
const ROBUST: c_int = 1;

/// A robust mutex somewhere in memory.
#[derive(Clone, Copy)]
pub struct Robust(*mut libc::pthread_mutex_t);

// SAFETY: a mutex is for several threads.
unsafe impl Send for Robust {}

impl Robust {
    /// Initialises one, in memory that stays and has no other use.
    pub fn at(mutex: *mut libc::pthread_mutex_t) -> Self {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: attributes are initialised before their use, and the memory is the mutex's.
        unsafe {
            assert_eq!(libc::pthread_mutexattr_init(attributes.as_mut_ptr()), 0);
            assert_eq!(pthread_mutexattr_setrobust(attributes.as_mut_ptr(), ROBUST), 0);
            assert_eq!(libc::pthread_mutex_init(mutex, attributes.as_ptr()), 0);
        }
        Self(mutex)
    }

    pub fn lock(self) {
        // SAFETY: a mutex.
        assert_eq!(unsafe { libc::pthread_mutex_lock(self.0) }, 0);
    }

    /// Waits for the mutex, for `millis` at most, and returns the call's result.
    fn wait(self, millis: i64) -> c_int {
        let mut until = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the first call writes the time; the second takes a mutex and a time.
        unsafe {
            libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut until);
            until.tv_nsec += millis % 1000 * 1_000_000;
            until.tv_sec += millis / 1000 + until.tv_nsec / 1_000_000_000;
            until.tv_nsec %= 1_000_000_000;
            libc::pthread_mutex_timedlock(self.0, &raw const until)
        }
    }

    /// Locks and unlocks the mutex. Whether the lock says that its owner has ended.
    pub fn is_inherited(self) -> bool {
        // The wait ends at once. A minute is for a machine that is stuck.
        if self.wait(60_000) != libc::EOWNERDEAD {
            return false;
        }
        // SAFETY: a mutex that this thread has locked.
        unsafe { pthread_mutex_consistent(self.0) == 0 && libc::pthread_mutex_unlock(self.0) == 0 }
    }

    /// Whether the mutex stays locked after its owner has ended. A longer wait would change nothing.
    pub fn is_orphaned(self) -> bool {
        self.wait(200) == libc::ETIMEDOUT
    }
}
