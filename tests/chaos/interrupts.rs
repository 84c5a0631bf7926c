//! Signals whose handler touches the arena and checks the words that it reads.

use super::common::blocks::Random;
use super::common::scaled;
use super::scene::Scene;
use super::standing::STANDING;
use super::tasks;
use std::sync::atomic::{AtomicU64, Ordering};

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn handle(_: libc::c_int) {
    let number = HANDLED.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the thread's own.
    let errno = unsafe { *libc::__errno_location() };
    STANDING.visit(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 7);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// How often the handler has run.
pub fn handled() -> u64 {
    HANDLED.load(Ordering::Relaxed)
}

/// Installs the handler, and starts a timer of real time and one of processor time.
pub fn start() {
    for signal in [libc::SIGALRM, libc::SIGPROF, libc::SIGUSR1] {
        // SAFETY: the handler only reads memory and adds to atomics.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            assert_eq!(libc::sigaction(signal, &raw const action, std::ptr::null_mut()), 0);
        }
    }
    set_timers(scaled(700, 20_000));
}

/// Ends the timers.
pub fn stop() {
    set_timers(0);
}

fn set_timers(microseconds: libc::suseconds_t) {
    let often = libc::timeval { tv_sec: 0, tv_usec: microseconds };
    let timer = libc::itimerval { it_interval: often, it_value: often };
    for clock in [libc::ITIMER_REAL, libc::ITIMER_PROF] {
        // SAFETY: the timers are this process's.
        let done = unsafe { libc::setitimer(clock, &raw const timer, std::ptr::null_mut()) };
        assert_eq!(done, 0);
    }
}

/// Sends a signal to each thread. The library's threads block all signals.
pub fn send(scene: Scene<'_>, random: Random) -> u64 {
    scene.repeat(random, 5000, |_| {
        for (task, _) in tasks::all() {
            // SAFETY: takes numbers. The call fails for a thread that has ended.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), task, libc::SIGUSR1) };
        }
    })
}
