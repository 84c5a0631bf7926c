//! Keeping signal handlers off a thread for a while.

#![allow(unsafe_code)]

use core::mem::MaybeUninit;

/// The kernel leaves these two out of any mask.
const CAN_BE_BLOCKED: u64 = !(1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1));

/// The part of a set that the kernel knows, a bit for each signal.
fn mask(set: &libc::sigset_t) -> u64 {
    const { assert!(size_of::<libc::sigset_t>() >= size_of::<u64>()) };
    // SAFETY: a set is plain bits and at least that long.
    unsafe { core::ptr::from_ref(set).cast::<u64>().read() }
}

/// All signals of the calling thread are blocked while this lives.
///
/// A thread that brings pages back holds them in a state in which others wait for it. Were it
/// interrupted by a handler that touches one of those pages, it would wait for itself.
#[derive(Debug)]
pub(crate) struct SignalsBlocked {
    /// None if they all were before.
    before: Option<libc::sigset_t>,
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
        // SAFETY: written by the calls above.
        let (all, before) = unsafe { (all.assume_init(), before.assume_init()) };
        let changed = mask(&all) & !mask(&before) & CAN_BE_BLOCKED != 0;
        Self { before: changed.then_some(before), _not_send: core::marker::PhantomData }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        let Some(before) = &self.before else { return };
        // SAFETY: the set was filled by the kernel in `new`, on this same thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, core::ptr::null_mut()) };
    }
}
