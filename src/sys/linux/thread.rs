//! Starting the library's own threads.
//!
//! They are started by `pthread_create(3)` rather than by std, which allocates in a new thread before the
//! thread's first line: from the global allocator, and so perhaps from an arena.

#![allow(unsafe_code)]

use super::descriptor;
use super::event::AbortOnPanic;
use super::signals::SignalsBlocked;
use crate::prim::in_library::InLibraryGuard;
use core::ffi::c_void;
use core::mem::{ManuallyDrop, MaybeUninit};
use std::ffi::CString;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Bytes of a name that the kernel keeps, without the NUL (`prctl(2)`, PR_SET_NAME).
const LONGEST_NAME: usize = 15;

struct Start {
    name: CString,
    failed: &'static str,
    own_table: bool,
    body: Box<dyn FnOnce() + Send>,
}

/// A thread that was started. It runs on where this is dropped.
#[derive(Debug)]
pub(crate) struct JoinHandle(libc::pthread_t);

impl JoinHandle {
    /// Waits until the thread has ended.
    pub(crate) fn join(self) -> io::Result<()> {
        let this = ManuallyDrop::new(self);
        // SAFETY: the thread was neither joined nor detached before, and is not afterwards.
        check(unsafe { libc::pthread_join(this.0, core::ptr::null_mut()) })
    }
}

impl Drop for JoinHandle {
    fn drop(&mut self) {
        // SAFETY: the thread was not joined: `join` leaves nothing to drop.
        unsafe { libc::pthread_detach(self.0) };
    }
}

/// Starts a thread that is [at work](InLibraryGuard) for the library from its first line on. If it panics the process
/// is aborted, with `failed` as the reason. It shares the descriptor table of the calling thread.
pub(crate) fn spawn(
    name: &str,
    failed: &'static str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle> {
    debug_assert!(name.len() <= LONGEST_NAME);
    let own_table = descriptor::has_own_table();
    let start = Start { name: CString::new(name)?, failed, own_table, body: Box::new(body) };
    let start = Box::into_raw(Box::new(start));
    // The thread inherits the mask: it never runs a handler of the program's, which could touch an
    // arena and wait for this very thread.
    let _blocked = SignalsBlocked::new();
    let mut thread = MaybeUninit::uninit();
    let done = Attributes::new().and_then(|attributes| {
        // SAFETY: `run` takes what `Box::into_raw` gave; the attributes are initialised.
        let done = unsafe {
            libc::pthread_create(thread.as_mut_ptr(), &raw const attributes.0, run, start.cast())
        };
        check(done)
    });
    if let Err(error) = done {
        // SAFETY: there is no thread that has it.
        drop(unsafe { Box::from_raw(start) });
        return Err(error);
    }
    // SAFETY: written by the call.
    Ok(JoinHandle(unsafe { thread.assume_init() }))
}

/// Bytes of a thread's stack. What is not used costs address space alone.
const STACK: usize = 1 << 20;

struct Attributes(libc::pthread_attr_t);

impl Attributes {
    fn new() -> io::Result<Self> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: initialises the attributes.
        check(unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: initialised by the call.
        let mut this = Self(unsafe { attributes.assume_init() });
        // SAFETY: attributes that are initialised.
        check(unsafe { libc::pthread_attr_setstacksize(&raw mut this.0, STACK) })?;
        Ok(this)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, and not used any more.
        unsafe { libc::pthread_attr_destroy(&raw mut self.0) };
    }
}

fn check(errno: libc::c_int) -> io::Result<()> {
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
}

extern "C" fn run(start: *mut c_void) -> *mut c_void {
    InLibraryGuard::enter_for_thread();
    // SAFETY: made by `spawn` for this thread.
    let start = unsafe { Box::from_raw(start.cast::<Start>()) };
    let Start { name, failed, own_table, body } = *start;
    if own_table {
        descriptor::enter_own_table();
    }
    // SAFETY: a C string, and the calling thread. A name that is too long is refused, which is no matter.
    unsafe { libc::pthread_setname_np(libc::pthread_self(), name.as_ptr()) };
    // The guard ends the process on a panic, so that nothing unwinds any further.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _die = AbortOnPanic(failed);
        body();
    }));
    core::ptr::null_mut()
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
            let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
            HOLDS.store(InLibraryGuard::is_held() && name == "thermocline-t\n", Ordering::Relaxed);
        };
        spawn("thermocline-t", "a test failed", body).unwrap().join().unwrap();
        assert!(HOLDS.load(Ordering::Relaxed));
        assert!(!InLibraryGuard::is_held());
    }

    #[test]
    fn a_thread_that_is_not_joined_runs_on() {
        static RAN: AtomicBool = AtomicBool::new(false);
        drop(spawn("thermocline-t", "a test failed", || RAN.store(true, Ordering::Relaxed)));
        while !RAN.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
    }
}
