//! The interface between the SIGBUS handler and the engine that serves a fault inline.

use super::error::SysError;

/// The most servers that a process can have at a time.
pub(crate) const MAX_SERVERS: usize = 256;

/// The result of serving a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// The thread runs the access again.
    Retry,
    /// The page cannot be restored: the access is SIGBUS.
    Refused,
}

/// Serves faults inline, in the faulting thread.
///
/// A signal handler calls `serve` with all signals blocked, on a stack of 64 KiB. It must not allocate,
/// panic, touch the memory that it serves, or wait for anything that a thread of the program could hold.
pub(crate) trait Serve: Send + Sync {
    /// Serves a fault at `address`, which lies in the range that this was registered for.
    fn serve(&self, address: usize) -> Served;
}

/// Why a server could not be registered.
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
