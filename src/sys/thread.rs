//! Starting the library's own threads.

#![allow(unsafe_code)]

use super::event::DieOnPanic;
use super::signals::SignalsBlocked;
use crate::prim::own::AtWork;
use std::io;
use std::sync::mpsc;
use std::thread::Builder;

pub(crate) use std::thread::JoinHandle;

/// Starts a thread, and returns when it is [at work](AtWork). If it panics the process is aborted, with
/// `failed` as the reason.
///
/// That is waited for because the standard library allocates in a new thread, before its first
/// line: none of that is to come from an arena that is being built, and nothing can, before it is.
pub(crate) fn spawn(
    name: String,
    failed: &'static str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (started, starting) = mpsc::channel();
    // The thread inherits the mask: it never runs a handler of the program's, which could touch an
    // arena and wait for this very thread.
    let _blocked = SignalsBlocked::new();
    let thread = Builder::new().name(name).spawn(move || {
        AtWork::for_ever();
        let _die = DieOnPanic(failed);
        // There is somebody: who starts the thread waits below.
        let _ = started.send(());
        body();
    })?;
    starting.recv().map_err(|_| io::Error::other("the thread ended before its first line"))?;
    Ok(thread)
}

/// The calling thread's number in the kernel: `/proc/self/task/` has a folder of that name.
pub(crate) fn id() -> u32 {
    // SAFETY: takes nothing, returns an integer and cannot fail.
    unsafe { libc::gettid() }.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_thread_is_at_work_and_has_its_name() {
        static HOLDS: AtomicBool = AtomicBool::new(false);
        let body = || {
            let named = std::thread::current().name() == Some("thermocline-t");
            HOLDS.store(AtWork::holds() && named, Ordering::Relaxed);
        };
        spawn("thermocline-t".to_owned(), "a test failed", body).unwrap().join().unwrap();
        assert!(HOLDS.load(Ordering::Relaxed));
        assert!(!AtWork::holds());
    }
}
