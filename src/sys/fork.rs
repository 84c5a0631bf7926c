//! Knowing that this process is a child which has neither the arena's memory nor its threads.

#![allow(unsafe_code)]

use super::error::SysError;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

static FORKS: AtomicU32 = AtomicU32::new(0);
static HOOK: OnceLock<Result<(), i32>> = OnceLock::new();
static IN_CHILDREN: OnceLock<fn()> = OnceLock::new();

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    if let Some(work) = IN_CHILDREN.get() {
        work();
    }
}

/// Has `work` done in each forked child, by the one thread that it has. Only async-signal-safe work
/// will do, and the first that was asked for is all that is done.
pub(crate) fn in_children(work: fn()) {
    IN_CHILDREN.get_or_init(|| work);
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
            // SAFETY: the hook is a function of ours that adds to an atomic, which is
            // async-signal-safe, and it is never unloaded while this code can run.
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
