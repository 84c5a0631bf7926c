//! The kernel's calls that the comparison needs, and nothing else.

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

/// Higher than any that swapon(8) gives by itself.
const HIGHEST_PRIORITY: libc::c_int = 0x7fff;
const SWAP_FLAG_PREFER: libc::c_int = 0x8000;

/// Private anonymous memory in pages of 4 KiB, such as the kernel swaps.
#[derive(Debug)]
pub(crate) struct Anonymous {
    start: NonNull<AtomicU64>,
    bytes: usize,
}

// SAFETY: it is memory that belongs to this value alone, handed out as atomics.
unsafe impl Send for Anonymous {}
// SAFETY: likewise.
unsafe impl Sync for Anonymous {}

impl Anonymous {
    /// Memory for `pages` pages, which the kernel fills with zeros when they are touched.
    pub(crate) fn new(pages: usize) -> io::Result<Self> {
        let bytes = pages * PAGE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping where the kernel likes it touches no other.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = Self { start, bytes };
        match memory.advise(libc::MADV_NOHUGEPAGE) {
            // A kernel without huge pages does not know the advice, and does not need it.
            Err(e) if e.raw_os_error() != Some(libc::EINVAL) => Err(e),
            _ => Ok(memory),
        }
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is readable and writable, aligned, zeros at first, lives as long as
        // `self`, and nothing accesses it but through this.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.bytes / size_of::<AtomicU64>()) }
    }

    /// Has the kernel swap out what it can of it, in this thread.
    pub(crate) fn page_out(&self) -> io::Result<()> {
        self.advise(libc::MADV_PAGEOUT)
    }

    fn advise(&self, advice: libc::c_int) -> io::Result<()> {
        // SAFETY: it is the whole of our mapping, and neither advice changes its contents.
        checked(unsafe { libc::madvise(self.start.as_ptr().cast(), self.bytes, advice) })
    }
}

impl Drop for Anonymous {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference to it outlives `self`.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Time that the processors spent on this process, all threads together.
pub(crate) fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to where the pointer says.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    checked(result).expect("Linux has the clock");
    let seconds = u64::try_from(time.tv_sec).expect("a time that has passed");
    Duration::from_secs(seconds) + Duration::from_nanos(time.tv_nsec.cast_unsigned())
}

/// Swaps to `device` before any other.
pub(crate) fn swap_on(device: &Path) -> io::Result<()> {
    let path = CString::new(device.as_os_str().as_bytes())?;
    let flags = SWAP_FLAG_PREFER | HIGHEST_PRIORITY;
    // SAFETY: the path ends with a zero.
    checked(unsafe { libc::swapon(path.as_ptr(), flags) })
}

/// Brings back what is on `device` and swaps to it no more.
pub(crate) fn swap_off(device: &Path) -> io::Result<()> {
    let path = CString::new(device.as_os_str().as_bytes())?;
    // SAFETY: the path ends with a zero.
    checked(unsafe { libc::swapoff(path.as_ptr()) })
}

/// Lets the signals with which a program is told to end pass by.
pub(crate) fn outlive_signals() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGPIPE, libc::SIGTERM] {
        // SAFETY: to ignore a signal runs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
