//! Keeping signal handlers off a thread for a while.

#![allow(unsafe_code)]

use core::mem::MaybeUninit;

/// All signals of the calling thread are blocked while this lives.
///
/// A thread that brings pages back holds them in a state in which others wait for it. Were it
/// interrupted by a handler that touches one of those pages, it would wait for itself.
#[derive(Debug)]
pub(crate) struct SignalsBlocked {
    before: libc::sigset_t,
    // The mask is the thread's own.
    _not_send: core::marker::PhantomData<*const ()>,
}

impl SignalsBlocked {
    pub(crate) fn new() -> Self {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset writes the whole set and cannot fail on a valid pointer.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: both point to sets, the first initialised; the call writes the second and can
        // fail only for an unknown `how`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
        // SAFETY: written by the call above.
        let before = unsafe { before.assume_init() };
        Self { before, _not_send: core::marker::PhantomData }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the set was filled by the kernel in `new`, on this same thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, core::ptr::null_mut()) };
    }
}
