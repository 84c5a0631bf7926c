//! The ways to open a userfaultfd.

use super::error::SysError;
use std::{fmt, io};

/// How a userfaultfd was opened. This decides which faults can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DescriptorRoute {
    /// `/dev/userfaultfd` (Linux 6.1): faults of user code and of system calls.
    Device,
    /// `userfaultfd(2)`: faults of user code and of system calls.
    SystemCall,
    /// `userfaultfd(2)` with `UFFD_USER_MODE_ONLY`: a system call that touches an evicted page
    /// fails with `EFAULT`.
    UserModeOnly,
}

impl DescriptorRoute {
    /// Whether a system call that touches an evicted page waits for it instead of failing with
    /// `EFAULT`.
    #[must_use]
    pub const fn serves_system_calls(self) -> bool {
        !matches!(self, Self::UserModeOnly)
    }
}

impl fmt::Display for DescriptorRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "/dev/userfaultfd",
            Self::SystemCall => "userfaultfd(2)",
            Self::UserModeOnly => "userfaultfd(2), user mode only",
        })
    }
}

/// No userfaultfd could be opened: the error of each way to open one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenError {
    pub(crate) device: SysError,
    pub(crate) system_call: SysError,
}

/// Whether an error means that the process lacks a permission, rather than that the kernel lacks
/// the feature.
pub(crate) fn is_denied(error: SysError) -> bool {
    matches!(error.errno(), libc::EPERM | libc::EACCES)
}

/// The running kernel's release, as in `uname -r`.
pub(crate) fn kernel_release() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned())
}
