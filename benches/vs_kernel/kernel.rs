//! The system calls of the comparison.

#![allow(unsafe_code)]

use crate::common::PAGE;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Higher than any priority that swapon(8) assigns by default.
const HIGHEST_PRIORITY: libc::c_int = 0x7fff;
const SWAP_FLAG_PREFER: libc::c_int = 0x8000;

/// Private anonymous memory in pages of 4 KiB, which the kernel can swap.
#[derive(Debug)]
pub(crate) struct Anonymous {
    start: NonNull<AtomicU64>,
    bytes: usize,
}

// SAFETY: the memory belongs to this value alone, and all access to it is atomic.
unsafe impl Send for Anonymous {}
// SAFETY: see `Send`.
unsafe impl Sync for Anonymous {}

impl Anonymous {
    /// Maps `pages` pages, which the kernel fills with zeros on touch.
    pub(crate) fn new(pages: usize) -> io::Result<Self> {
        let bytes = pages * PAGE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice replaces no other.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = Self { start, bytes };
        match memory.advise(libc::MADV_NOHUGEPAGE) {
            // A kernel without huge pages rejects the advice with EINVAL, and does not need it.
            Err(e) if e.raw_os_error() != Some(libc::EINVAL) => Err(e),
            _ => Ok(memory),
        }
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is readable, writable, aligned, initially zero, and lives as long as
        // `self`. All accesses go through this slice.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.bytes / size_of::<AtomicU64>()) }
    }

    /// Makes the kernel swap out as many pages as it can, in this thread.
    pub(crate) fn page_out(&self) -> io::Result<()> {
        self.advise(libc::MADV_PAGEOUT)
    }

    fn advise(&self, advice: libc::c_int) -> io::Result<()> {
        // SAFETY: the range is this mapping, and neither advice changes its contents.
        checked(unsafe { libc::madvise(self.start.as_ptr().cast(), self.bytes, advice) })
    }
}

impl Drop for Anonymous {
    fn drop(&mut self) {
        // SAFETY: the mapping belongs to `self`, and no reference to it outlives `self`.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// The processor time of this process, all threads together.
pub(crate) fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for the one timespec that the kernel writes.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    checked(result).expect("Linux has the clock");
    let seconds = u64::try_from(time.tv_sec).expect("a time that has passed");
    Duration::from_secs(seconds) + Duration::from_nanos(time.tv_nsec.cast_unsigned())
}

/// Makes the kernel swap to `device` before any other.
pub(crate) fn swap_on(device: &Path) -> io::Result<()> {
    let path = CString::new(device.as_os_str().as_bytes())?;
    let flags = SWAP_FLAG_PREFER | HIGHEST_PRIORITY;
    // SAFETY: the path is a NUL-terminated string.
    checked(unsafe { libc::swapon(path.as_ptr(), flags) })
}

/// Makes the kernel bring back all pages on `device`, and stop swapping to it.
pub(crate) fn swap_off(device: &Path) -> io::Result<()> {
    let path = CString::new(device.as_os_str().as_bytes())?;
    // SAFETY: the path is a NUL-terminated string.
    checked(unsafe { libc::swapoff(path.as_ptr()) })
}

/// Ignores the signals that ask a process to end.
pub(crate) fn outlive_signals() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGPIPE, libc::SIGTERM] {
        // SAFETY: `SIG_IGN` installs no handler function.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
