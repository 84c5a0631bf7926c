//! Blocks a thread's signals, and its cancellation.

#![allow(unsafe_code)]

use core::ffi::c_int;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

/// Every signal that can be blocked. The kernel removes SIGKILL and SIGSTOP from each mask.
pub(super) const ALL: u64 = !(1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1));

/// The part of a set that the kernel uses, one bit per signal.
pub(super) fn mask(set: &libc::sigset_t) -> u64 {
    const { assert!(size_of::<libc::sigset_t>() >= size_of::<u64>()) };
    // SAFETY: a set is plain bits, and at least as long as a mask.
    unsafe { core::ptr::from_ref(set).cast::<u64>().read() }
}

/// The set of the signals in a mask.
pub(super) fn set(mask: u64) -> libc::sigset_t {
    // SAFETY: zero bytes are the empty set.
    let mut set: libc::sigset_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: a set is plain bits, and at least as long as a mask (see `mask`).
    unsafe { (&raw mut set).cast::<u64>().write(mask) };
    set
}

/// The bit of a signal in a mask.
pub(super) const fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// Sets the calling thread's mask and returns the previous one.
///
/// Makes the system call itself: the C library's functions remove from each mask the signals that the
/// C library reserves for itself, and use more of the stack.
pub(super) fn set_mask(mask: u64) -> u64 {
    let mut before = 0u64;
    // SAFETY: both masks have the size that is passed. With these arguments the call cannot fail, so
    // errno does not change.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut before,
            size_of::<u64>(),
        )
    };
    before
}

unsafe extern "C" {
    /// `pthread_setcancelstate(3)` changes a word of the calling thread; safe in a signal handler.
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

/// `PTHREAD_CANCEL_DISABLE`, in glibc and in musl.
const CANCEL_DISABLE: c_int = 1;

/// The calling thread is not cancelled (`pthread_cancel(3)`) while this lives. Many system calls are
/// cancellation points.
#[derive(Debug)]
pub(super) struct Uncancellable {
    before: c_int,
    // The cancellation state belongs to the thread.
    _not_send: PhantomData<*const ()>,
}

impl Uncancellable {
    pub(super) fn new() -> Self {
        let mut before = 0;
        // SAFETY: writes one integer; the state is valid.
        unsafe { pthread_setcancelstate(CANCEL_DISABLE, &raw mut before) };
        Self { before, _not_send: PhantomData }
    }
}

impl Drop for Uncancellable {
    fn drop(&mut self) {
        // SAFETY: restores the previous state; the second argument may be null.
        unsafe { pthread_setcancelstate(self.before, core::ptr::null_mut()) };
    }
}

/// All signals of the calling thread are blocked, and it is not cancelled, while this lives.
///
/// A thread that brings pages back owns them, and faulting threads wait for it. If a signal handler
/// interrupted it and touched one of those pages, it would wait for itself; if it were cancelled,
/// the faulting threads would wait for ever.
///
/// Does not block the signals that the C library reserves for itself: a thread that is started meanwhile
/// inherits the mask, and `setuid(2)` waits for a handler in each thread.
#[derive(Debug)]
pub(crate) struct SignalsBlocked {
    // Dropped first: a handler that leaves by `siglongjmp(3)` would skip a later drop.
    _uncancellable: Uncancellable,
    _mask: Unmask,
}

/// Restores a mask when it is dropped, unless it is `None`.
#[derive(Debug)]
struct Unmask(Option<libc::sigset_t>);

impl SignalsBlocked {
    pub(crate) fn new() -> Self {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        // The kernel writes 8 bytes; the type has room for more.
        let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: sigfillset writes the whole set and cannot fail on a valid pointer.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: both point to sets, the first initialised; the call writes the second, and fails
        // only with an unknown `how`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
        // SAFETY: sets of integers; `sigfillset` wrote the first, the second was zeros before the call.
        let (all, before) = unsafe { (all.assume_init(), before.assume_init()) };
        let changed = mask(&all) & !mask(&before) & ALL != 0;
        let mask = Unmask(changed.then_some(before));
        Self { _uncancellable: Uncancellable::new(), _mask: mask }
    }
}

impl Drop for Unmask {
    fn drop(&mut self) {
        let Some(before) = &self.0 else { return };
        // SAFETY: the kernel filled the set in `SignalsBlocked::new`, on this thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, core::ptr::null_mut()) };
    }
}
