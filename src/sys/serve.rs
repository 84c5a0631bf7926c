//! Who serves a touch in the thread that made it, and what it comes to.

use super::error::SysError;

/// Servers that there can be at a time in a process.
pub(crate) const MAX_SERVERS: usize = 256;

/// What serving a fault came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// The access is to be tried again.
    Retry,
    /// The page cannot be given: SIGBUS is the answer.
    Refused,
}

/// Brings back pages that a thread has touched, in that thread.
///
/// `serve` is called from a signal handler with all signals blocked, on a stack of 64 KiB: it must not
/// allocate, panic, touch the memory that it serves, or wait for anything that a thread of the program
/// could hold.
pub(crate) trait Serve: Send + Sync {
    /// Serves a touch of `address`, which lies in the range that this was registered for.
    fn serve(&self, address: usize) -> Served;
}

/// Why nobody could be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegisterError {
    /// There are [`MAX_SERVERS`] already.
    Full,
    /// The kernel refused to install the handler.
    Sys(SysError),
}

impl From<SysError> for RegisterError {
    fn from(error: SysError) -> Self {
        Self::Sys(error)
    }
}
