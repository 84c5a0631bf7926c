//! Sleeping on a word until somebody changes it: `futex(2)`.

#![allow(unsafe_code)]

use crate::prim::sync::AtomicU64;
use std::time::Duration;

/// The half of the word that the kernel looks at: the low 32 bits.
fn low_half(word: &AtomicU64) -> *mut u32 {
    let half: *mut u32 = word.as_ptr().cast();
    half.wrapping_add(usize::from(cfg!(target_endian = "big")))
}

/// Sleeps until somebody wakes the word's sleepers, for `timeout` at most; not at all if the word's
/// low half is not `low` any more. May return early.
///
/// Safe to call from a signal handler.
pub(crate) fn wait(word: &AtomicU64, low: u32, timeout: Duration) {
    let timeout = libc::timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: the kernel reads four bytes of a live atomic, and the timespec. Whatever the call
    // answers, the caller looks at the word again.
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

/// Wakes everybody who sleeps on the word.
pub(crate) fn wake_all(word: &AtomicU64) {
    // SAFETY: the kernel takes the address as a name, and reads nothing there. The call fails for
    // no address of ours.
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
    fn a_sleeper_is_woken_and_a_word_that_has_changed_is_not_slept_on() {
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
