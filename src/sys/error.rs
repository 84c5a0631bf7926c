//! A failed call into the kernel: its name and its error number.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::{fmt, io};

/// A system call that failed: its name and the error number it returned.
///
/// `{}` adds the system's text for the number. `{:#}` does not, and neither allocates nor takes a
/// lock.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SysError {
    call: &'static str,
    errno: i32,
}

impl SysError {
    /// The error of the call that has just failed on this thread.
    pub(crate) fn last(call: &'static str) -> Self {
        Self::from_io(call, &io::Error::last_os_error())
    }

    pub(crate) const fn new(call: &'static str, errno: i32) -> Self {
        Self { call, errno }
    }

    pub(crate) fn from_io(call: &'static str, error: &io::Error) -> Self {
        Self { call, errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }

    /// The error of a call on a range that is no longer registered.
    pub(crate) const fn range_gone(call: &'static str) -> Self {
        Self::new(call, libc::ENOENT)
    }

    /// The error of a call that the kernel had no memory for.
    pub(crate) const fn no_memory(call: &'static str) -> Self {
        Self::new(call, libc::ENOMEM)
    }

    /// The error of a page that the kernel or another thread uses at the moment.
    pub(crate) const fn busy(call: &'static str) -> Self {
        Self::new(call, libc::EBUSY)
    }

    /// The error of a tracker that does not work on a kind of memory.
    pub(crate) const fn unsuited(call: &'static str) -> Self {
        Self::new(call, libc::EINVAL)
    }

    /// The error of a file that would be larger than allowed.
    pub(crate) const fn file_too_large(call: &'static str) -> Self {
        Self::new(call, libc::EFBIG)
    }

    /// The error of a call that would place a page where one exists.
    pub(crate) const fn page_exists(call: &'static str) -> Self {
        Self::new(call, libc::EEXIST)
    }

    /// The error of a message of a kind that the library has not enabled.
    pub(crate) const fn unknown_message() -> Self {
        Self::new("read(userfaultfd)", libc::EPROTO)
    }

    /// Whether the process has reached its limit of open descriptors.
    pub(crate) const fn is_too_many_files(self) -> bool {
        self.errno == libc::EMFILE
    }

    /// Whether the call asked for more address space than the process may have.
    pub(crate) fn is_lack_of_address_space(&self) -> bool {
        self.errno == libc::ENOMEM && self.call.starts_with("mmap(")
    }

    /// Whether the kernel had no memory.
    pub(crate) fn is_lack_of_memory(&self) -> bool {
        self.errno == libc::ENOMEM
    }

    /// The call, with its object where the name alone says too little, such as `ioctl(UFFDIO_API)`.
    #[must_use]
    pub const fn call(&self) -> &'static str {
        self.call
    }

    /// The error number, as in `errno(3)`.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        self.errno
    }
}

impl fmt::Debug for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return write!(f, "{}: errno {}", self.call, self.errno);
        }
        let mut text = [0 as libc::c_char; 128];
        // SAFETY: the buffer is writable for the length passed; the XSI function that libc binds
        // ends the text with a NUL.
        unsafe { libc::strerror_r(self.errno, text.as_mut_ptr(), text.len() - 1) };
        // SAFETY: the last byte is zero and never written, so there is a NUL.
        let text = unsafe { CStr::from_ptr(text.as_ptr()) };
        write!(f, "{}: {} (errno {})", self.call, text.to_str().unwrap_or("?"), self.errno)
    }
}

impl std::error::Error for SysError {}
