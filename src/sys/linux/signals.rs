//! Keeping signal handlers, and cancellation, off a thread for a while.

#![allow(unsafe_code)]

use core::ffi::c_int;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

/// Every signal that can be blocked. The kernel leaves SIGKILL and SIGSTOP out of any mask.
pub(super) const ALL: u64 = !(1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1));

/// The part of a set that the kernel knows, a bit for each signal.
pub(super) fn mask(set: &libc::sigset_t) -> u64 {
    const { assert!(size_of::<libc::sigset_t>() >= size_of::<u64>()) };
    // SAFETY: a set is plain bits and at least that long.
    unsafe { core::ptr::from_ref(set).cast::<u64>().read() }
}

/// A set of the signals in a mask.
pub(super) fn set(mask: u64) -> libc::sigset_t {
    // SAFETY: zero is a set without signals.
    let mut set: libc::sigset_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: a set is plain bits, and at least as long as a mask (see `mask`).
    unsafe { (&raw mut set).cast::<u64>().write(mask) };
    set
}

/// The bit of a signal in a mask.
pub(super) const fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// Makes `mask` the calling thread's, and gives the one before.
///
/// By the system call itself: the C library's functions take out of each mask the signals that the
/// library keeps for itself. It takes less of the stack, too.
pub(super) fn set_mask(mask: u64) -> u64 {
    let mut before = 0u64;
    // SAFETY: both masks are of the size that is given. With these arguments the call cannot fail, so
    // errno stays as it is.
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
    /// `pthread_setcancelstate(3)`: changes a word of the thread's own, also in a signal handler.
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

/// `PTHREAD_CANCEL_DISABLE`, of glibc and musl alike.
const CANCEL_DISABLE: c_int = 1;

/// The calling thread is not cancelled (`pthread_cancel(3)`) while this lives. Many calls into the kernel
/// are an occasion for that.
#[derive(Debug)]
pub(super) struct Uncancellable {
    before: c_int,
    // The state is the thread's own.
    _not_send: PhantomData<*const ()>,
}

impl Uncancellable {
    pub(super) fn new() -> Self {
        let mut before = 0;
        // SAFETY: writes one integer; the state is one that there is.
        unsafe { pthread_setcancelstate(CANCEL_DISABLE, &raw mut before) };
        Self { before, _not_send: PhantomData }
    }
}

impl Drop for Uncancellable {
    fn drop(&mut self) {
        // SAFETY: what it was; the second argument may be null.
        unsafe { pthread_setcancelstate(self.before, core::ptr::null_mut()) };
    }
}

/// All signals of the calling thread are blocked, and it is not cancelled, while this lives.
///
/// A thread that brings pages back holds them in a state in which others wait for it. Were it
/// interrupted by a handler that touches one of those pages, it would wait for itself; were it ended
/// by a cancellation, they would wait for ever.
///
/// The signals that the C library keeps for itself stay as they are: a thread that is started meanwhile
/// inherits the mask, and `setuid(2)` waits for a handler in each thread.
#[derive(Debug)]
pub(crate) struct SignalsBlocked {
    // Dropped first: a handler that jumps away (`siglongjmp(3)`) would leave it behind.
    _uncancellable: Uncancellable,
    _mask: Unmask,
}

/// Restores a mask when it is dropped, if there is one to restore.
#[derive(Debug)]
struct Unmask(Option<libc::sigset_t>);

impl SignalsBlocked {
    pub(crate) fn new() -> Self {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        // The kernel writes as many bytes as it has signals, the type has room for more.
        let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: sigfillset writes the whole set and cannot fail on a valid pointer.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: both point to sets, the first initialised; the call writes the second and can
        // fail only for an unknown `how`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
        // SAFETY: sets of integers, one written whole, the other zeros before the call.
        let (all, before) = unsafe { (all.assume_init(), before.assume_init()) };
        let changed = mask(&all) & !mask(&before) & ALL != 0;
        let mask = Unmask(changed.then_some(before));
        Self { _uncancellable: Uncancellable::new(), _mask: mask }
    }
}

impl Drop for Unmask {
    fn drop(&mut self) {
        let Some(before) = &self.0 else { return };
        // SAFETY: the set was filled by the kernel in `SignalsBlocked::new`, on this same thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, core::ptr::null_mut()) };
    }
}
