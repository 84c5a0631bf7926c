//! Detects that this process is a forked child, which has neither the arena's memory nor its threads.

#![allow(unsafe_code)]

use super::error::SysError;
use core::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

static FORKS: AtomicU32 = AtomicU32::new(0);
static HOOK: OnceLock<Result<(), i32>> = OnceLock::new();
static CHILD_HOOK: OnceLock<fn()> = OnceLock::new();

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    map_inaccessible();
    if let Some(work) = CHILD_HOOK.get() {
        work();
    }
}

/// Registers `work`, which the only thread of each forked child calls. It must be async-signal-safe.
/// Later calls have no effect.
pub(crate) fn in_children(work: fn()) {
    CHILD_HOOK.get_or_init(|| work);
}

/// Addresses that stay inaccessible in children.
struct Range {
    start: usize,
    len: usize,
    next: *mut Range,
}

static EMPTY_IN_CHILDREN: AtomicPtr<Range> = AtomicPtr::new(ptr::null_mut());

/// Keeps children from mapping anything else at these addresses, which they do not inherit: an access there
/// is SIGSEGV, and an address there can only be the parent's. Cannot be undone.
pub(crate) fn keep_empty_in_children(addresses: std::ops::Range<usize>) -> Result<(), SysError> {
    // Registers the fork hook, which maps the ranges.
    Generation::current()?;
    let (start, len) = (addresses.start, addresses.len());
    let range = Box::into_raw(Box::new(Range { start, len, next: ptr::null_mut() }));
    let mut next = EMPTY_IN_CHILDREN.load(Ordering::Acquire);
    loop {
        // SAFETY: allocated above; no other thread knows it before it is in the list.
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

/// Maps inaccessible memory where the parent's arenas were. Neither allocates nor locks.
fn map_inaccessible() {
    let mut next = EMPTY_IN_CHILDREN.load(Ordering::Acquire);
    // SAFETY: the ranges in the list are never freed or changed.
    while let Some(range) = unsafe { next.as_ref() } {
        let flags = libc::MAP_PRIVATE
            | libc::MAP_ANONYMOUS
            | libc::MAP_NORESERVE
            | libc::MAP_FIXED_NOREPLACE;
        let start = ptr::without_provenance_mut(range.start);
        // SAFETY: replaces no mapping: it fails where one exists, as in a child's own child.
        unsafe { libc::mmap(start, range.len, libc::PROT_NONE, flags, -1, 0) };
        next = range.next;
    }
}

/// The number of forks between this process and the first one that called [`Generation::current`].
///
/// A value made in one generation is not usable in another. A child made by the raw `clone` system
/// call does not run the hook and is not noticed; its access to an arena is still SIGSEGV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Generation {
    /// The generation of this process. Forks are counted from the first call on.
    pub(crate) fn current() -> Result<Self, SysError> {
        let hooked = HOOK.get_or_init(|| {
            super::unload::prevent();
            // SAFETY: the hook is async-signal-safe (it adds to an atomic, maps memory and calls
            // `CHILD_HOOK`), and is never unloaded.
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

    /// The generation of this process, for callers that run after [`current`](Self::current).
    pub(crate) fn counted() -> Self {
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Whether this process is the one that made the value.
    pub(crate) fn is_current(self) -> bool {
        self.0 == FORKS.load(Ordering::Relaxed)
    }
}
