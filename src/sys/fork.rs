//! Knowing that this process is a child which has neither the arena's memory nor its threads.

#![allow(unsafe_code)]

use super::error::SysError;
use core::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

static FORKS: AtomicU32 = AtomicU32::new(0);
static HOOK: OnceLock<Result<(), i32>> = OnceLock::new();
static IN_CHILDREN: OnceLock<fn()> = OnceLock::new();

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    occupy();
    if let Some(work) = IN_CHILDREN.get() {
        work();
    }
}

/// Has `work` done in each forked child, by the one thread that it has. Only async-signal-safe work
/// will do, and the first that was asked for is all that is done.
pub(crate) fn in_children(work: fn()) {
    IN_CHILDREN.get_or_init(|| work);
}

/// Addresses that are to stay empty in children.
struct Range {
    start: usize,
    len: usize,
    next: *mut Range,
}

static EMPTY_IN_CHILDREN: AtomicPtr<Range> = AtomicPtr::new(ptr::null_mut());

/// Sees to it that in children nothing else comes to lie in these addresses, which they do not inherit:
/// an access there is SIGSEGV, and an address there can only be the parent's. For ever.
pub(crate) fn keep_empty_in_children(addresses: std::ops::Range<usize>) -> Result<(), SysError> {
    // Without the hook there would be nobody to do it.
    Generation::current()?;
    let (start, len) = (addresses.start, addresses.len());
    let range = Box::into_raw(Box::new(Range { start, len, next: ptr::null_mut() }));
    let mut next = EMPTY_IN_CHILDREN.load(Ordering::Acquire);
    loop {
        // SAFETY: made above, and nobody else's until it is in the list.
        unsafe { (*range).next = next };
        let pushed = EMPTY_IN_CHILDREN.compare_exchange_weak(
            next,
            range,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        match pushed {
            Ok(_) => return Ok(()),
            Err(other) => next = other,
        }
    }
}

/// Maps what may not be accessed where the parent's memory was. Neither allocates nor locks.
fn occupy() {
    let mut next = EMPTY_IN_CHILDREN.load(Ordering::Acquire);
    // SAFETY: the ranges in the list are never freed or changed.
    while let Some(range) = unsafe { next.as_ref() } {
        let flags = libc::MAP_PRIVATE
            | libc::MAP_ANONYMOUS
            | libc::MAP_NORESERVE
            | libc::MAP_FIXED_NOREPLACE;
        let start = ptr::without_provenance_mut(range.start);
        // SAFETY: replaces no mapping. It fails where one is there, as in a child's own child.
        unsafe { libc::mmap(start, range.len, libc::PROT_NONE, flags, -1, 0) };
        next = range.next;
    }
}

/// How many forks lie between this process and the first one that asked.
///
/// Something made in one generation is not usable in another. A child made by the raw `clone`
/// system call does not run the hook and is not noticed; its access to an arena is still SIGSEGV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Generation {
    /// The generation of this process; from here on forks are counted.
    pub(crate) fn current() -> Result<Self, SysError> {
        let hooked = HOOK.get_or_init(|| {
            super::unload::stay();
            // SAFETY: the hook is a function of ours that adds to an atomic, which is
            // async-signal-safe, and it is never unloaded.
            match unsafe { libc::pthread_atfork(None, None, Some(in_child)) } {
                0 => Ok(()),
                errno => Err(errno),
            }
        });
        match hooked {
            Ok(()) => Ok(Self(FORKS.load(Ordering::Relaxed))),
            Err(errno) => Err(SysError::new("pthread_atfork", *errno)),
        }
    }

    /// The number of this generation, from one.
    pub(crate) fn number(self) -> u32 {
        self.0.wrapping_add(1)
    }

    /// The generation of this process, if forks are being counted already.
    pub(crate) fn counted() -> Self {
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Whether this process is the one that made the value.
    pub(crate) fn is_current(self) -> bool {
        self.0 == FORKS.load(Ordering::Relaxed)
    }
}
