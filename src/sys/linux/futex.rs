//! Sleeping on a word until another thread changes it: `futex(2)`.

#![allow(unsafe_code)]

use crate::prim::sync::AtomicU64;
use std::time::Duration;

/// The low 32 bits of the word, which the kernel compares.
fn low_half(word: &AtomicU64) -> *mut u32 {
    let half: *mut u32 = word.as_ptr().cast();
    half.wrapping_add(usize::from(cfg!(target_endian = "big")))
}

/// Sleeps until a thread calls [`wake_all`] on the word, for `timeout` at most. Returns at once if the
/// word's low half is not `low`. May return early.
///
/// Safe to call from a signal handler.
pub(crate) fn wait(word: &AtomicU64, low: u32, timeout: Duration) {
    let timeout = libc::timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: the kernel reads four bytes of a live atomic, and the timespec. The result is not
    // needed: the caller loads the word again.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            low_half(word),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            low,
            &raw const timeout,
        )
    };
}

/// Wakes all threads that sleep on the word.
pub(crate) fn wake_all(word: &AtomicU64) {
    // SAFETY: the kernel uses the address as a key, and does not access the memory. The call does
    // not fail for a valid address.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            low_half(word),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            i32::MAX,
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prim::sync::Ordering;

    #[test]
    fn a_sleeper_is_woken_and_a_changed_word_is_not_slept_on() {
        const LONG: Duration = Duration::from_secs(1000);
        let word = AtomicU64::new(7 << 32 | 5);
        wait(&word, 4, LONG);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while word.load(Ordering::Acquire) as u32 == 5 {
                    wait(&word, 5, LONG);
                }
            });
            std::thread::sleep(Duration::from_millis(20));
            word.store(6, Ordering::Release);
            wake_all(&word);
        });
    }
}
