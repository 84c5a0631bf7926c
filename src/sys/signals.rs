//! Keeping signal handlers, and cancellation, off a thread for a while.

#![allow(unsafe_code)]

use core::ffi::c_int;
use core::mem::MaybeUninit;

/// The kernel leaves these two out of any mask.
const CAN_BE_BLOCKED: u64 = !(1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1));

/// The part of a set that the kernel knows, a bit for each signal.
fn mask(set: &libc::sigset_t) -> u64 {
    const { assert!(size_of::<libc::sigset_t>() >= size_of::<u64>()) };
    // SAFETY: a set is plain bits and at least that long.
    unsafe { core::ptr::from_ref(set).cast::<u64>().read() }
}

unsafe extern "C" {
    /// `pthread_setcancelstate(3)`: changes a word of the thread's own, also in a signal handler.
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

/// `PTHREAD_CANCEL_DISABLE`, of glibc and musl alike.
const CANCEL_DISABLE: c_int = 1;

/// All signals of the calling thread are blocked, and it is not cancelled, while this lives.
///
/// A thread that brings pages back holds them in a state in which others wait for it. Were it
/// interrupted by a handler that touches one of those pages, it would wait for itself; were it ended
/// by `pthread_cancel(3)`, for which many calls into the kernel are an occasion, they would wait for
/// ever.
#[derive(Debug)]
pub(crate) struct SignalsBlocked {
    /// None if they all were before.
    before: Option<libc::sigset_t>,
    cancel: c_int,
    // The mask is the thread's own.
    _not_send: core::marker::PhantomData<*const ()>,
}

impl SignalsBlocked {
    pub(crate) fn new() -> Self {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        // The kernel writes as many bytes as it has signals, the type has room for more.
        let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
        let mut cancel = 0;
        // SAFETY: sigfillset writes the whole set and cannot fail on a valid pointer.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: both point to sets, the first initialised; the call writes the second and can
        // fail only for an unknown `how`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
        // SAFETY: sets of integers, one written whole, the other zeros before the call.
        let (all, before) = unsafe { (all.assume_init(), before.assume_init()) };
        let changed = mask(&all) & !mask(&before) & CAN_BE_BLOCKED != 0;
        // SAFETY: writes one integer; the state is one that there is.
        unsafe { pthread_setcancelstate(CANCEL_DISABLE, &raw mut cancel) };
        Self { before: changed.then_some(before), cancel, _not_send: core::marker::PhantomData }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: what it was; the second argument may be null.
        unsafe { pthread_setcancelstate(self.cancel, core::ptr::null_mut()) };
        let Some(before) = &self.before else { return };
        // SAFETY: the set was filled by the kernel in `new`, on this same thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, core::ptr::null_mut()) };
    }
}
