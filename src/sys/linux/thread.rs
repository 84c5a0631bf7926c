//! Starts the library's own threads.
//!
//! `pthread_create(3)` starts them, not std: std allocates in a new thread before the thread's first line,
//! from the global allocator, which may be an arena.

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
use std::time::Duration;

/// The most bytes of a thread's name, without the NUL (`prctl(2)`, PR_SET_NAME).
const LONGEST_NAME: usize = 15;

struct Start {
    name: CString,
    failed: &'static str,
    own_table: bool,
    body: Box<dyn FnOnce() + Send>,
}

/// A started thread. Dropping this detaches the thread.
#[derive(Debug)]
pub(crate) struct JoinHandle(libc::pthread_t);

impl JoinHandle {
    /// Waits until the thread has ended.
    pub(crate) fn join(self) -> io::Result<()> {
        let this = ManuallyDrop::new(self);
        // SAFETY: the thread has been neither joined nor detached, and `this` is never dropped.
        check(unsafe { libc::pthread_join(this.0, core::ptr::null_mut()) })
    }
}

impl Drop for JoinHandle {
    fn drop(&mut self) {
        // SAFETY: the thread has not been joined: `join` does not drop the handle.
        unsafe { libc::pthread_detach(self.0) };
    }
}

/// Starts a thread that counts as [inside the library](InLibraryGuard) from its first line on. A panic in it
/// aborts the process, with `failed` as the reason. It shares the descriptor table of the calling thread.
pub(crate) fn spawn(
    name: &str,
    failed: &'static str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle> {
    debug_assert!(name.len() <= LONGEST_NAME);
    let own_table = descriptor::has_own_table();
    let start = Start { name: CString::new(name)?, failed, own_table, body: Box::new(body) };
    let start = Box::into_raw(Box::new(start));
    // The thread inherits the mask, so that it never runs a signal handler of the program. Such a
    // handler could touch an arena and then wait for this thread.
    let _blocked = SignalsBlocked::new();
    let mut thread = MaybeUninit::uninit();
    let done = Attributes::new().and_then(|attributes| {
        // SAFETY: `run` takes the pointer from `Box::into_raw`; the attributes are initialised.
        let done = unsafe {
            libc::pthread_create(thread.as_mut_ptr(), &raw const attributes.0, run, start.cast())
        };
        check(done)
    });
    if let Err(error) = done {
        // SAFETY: no thread was started, so no thread uses the box.
        drop(unsafe { Box::from_raw(start) });
        return Err(error);
    }
    // SAFETY: written by the call.
    Ok(JoinHandle(unsafe { thread.assume_init() }))
}

/// Processor time that the calling thread has used.
pub(crate) fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one struct.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0 {
        return Duration::ZERO;
    }
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(time.tv_sec.unsigned_abs(), nanos)
}

/// Bytes of a thread's stack. The unused part costs only address space.
const STACK: usize = 1 << 20;

struct Attributes(libc::pthread_attr_t);

impl Attributes {
    fn new() -> io::Result<Self> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: initialises the attributes.
        check(unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: initialised by the call.
        let mut this = Self(unsafe { attributes.assume_init() });
        // SAFETY: initialised attributes.
        check(unsafe { libc::pthread_attr_setstacksize(&raw mut this.0, STACK) })?;
        Ok(this)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, and not used after this.
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
    // SAFETY: a C string, and the calling thread. The call refuses a name that is too long.
    unsafe { libc::pthread_setname_np(libc::pthread_self(), name.as_ptr()) };
    // The guard aborts the process on a panic, so that no panic unwinds further.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _guard = AbortOnPanic(failed);
        body();
    }));
    core::ptr::null_mut()
}

/// The kernel's id of the calling thread (`gettid(2)`), as in `/proc/self/task/`.
pub(crate) fn id() -> u32 {
    // SAFETY: takes nothing, returns an integer and cannot fail.
    unsafe { libc::gettid() }.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_thread_counts_as_inside_the_library_and_has_its_name() {
        static HOLDS: AtomicBool = AtomicBool::new(false);
        let body = || {
            let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
            HOLDS.store(InLibraryGuard::is_held() && name == "thermo-test\n", Ordering::Relaxed);
        };
        spawn("thermo-test", "a test failed", body).unwrap().join().unwrap();
        assert!(HOLDS.load(Ordering::Relaxed));
        assert!(!InLibraryGuard::is_held());
    }

    #[test]
    fn a_thread_whose_handle_is_dropped_keeps_running() {
        static RAN: AtomicBool = AtomicBool::new(false);
        drop(spawn("thermo-test", "a test failed", || RAN.store(true, Ordering::Relaxed)));
        while !RAN.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
    }
}
