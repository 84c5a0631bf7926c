//! The userfaultfd descriptor: how to open it, and its calls with their outcomes.
//!
//! See `ioctl_userfaultfd(2)`, and where that is silent `mm/userfaultfd.c` of Linux 7.3.

#![allow(unsafe_code)]

use super::descriptor::{self, Descriptor};
use crate::sys::error::SysError;
use crate::sys::outcome::outcome;
use crate::sys::uapi::*;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub use crate::sys::route::DescriptorRoute;
pub(crate) use crate::sys::{outcome::Outcome, route::OpenError};

/// What a call changes. This decides what the call could do by a number that refers to another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallTarget {
    /// Pages of the process and their protection.
    Pages,
    /// State of the descriptor: registrations, waiters, the mode.
    Descriptor,
}

/// An open, initialised userfaultfd.
#[derive(Debug)]
pub(crate) struct Uffd {
    fd: Descriptor,
    route: DescriptorRoute,
    features: u64,
}

impl Uffd {
    /// The route and the features that this kernel offers to this process, by a temporary descriptor.
    pub(crate) fn supported() -> Result<(DescriptorRoute, u64), OpenError> {
        let (fd, route) = open_descriptor()?;
        let mut api = UffdioApi { api: UFFD_API, ..Default::default() };
        match ioctl(fd.as_raw_fd(), UFFDIO_API, &mut api, "ioctl(UFFDIO_API)") {
            Ok(()) => Ok((route, api.features)),
            Err(e) => Err(OpenError { device: e, system_call: e }),
        }
    }

    /// Opens a descriptor and asks for exactly `features`.
    pub(crate) fn open(features: u64) -> Result<Self, SysError> {
        let (fd, route) = open_descriptor().map_err(|e| e.system_call)?;
        Self::with_features(fd, route, features)
    }

    /// Opens a descriptor for the faults of user code alone, and asks for exactly `features`.
    pub(crate) fn open_for_user_mode(features: u64) -> Result<Self, SysError> {
        // A sandbox may forbid the system call and allow the device.
        match open_syscall(OPEN_FLAGS | UFFD_USER_MODE_ONLY) {
            Ok(fd) => Self::with_features(fd, DescriptorRoute::UserModeOnly, features),
            Err(_) => Self::open(features),
        }
    }

    fn with_features(fd: OwnedFd, route: DescriptorRoute, features: u64) -> Result<Self, SysError> {
        let mut api = UffdioApi { api: UFFD_API, features, ioctls: 0 };
        ioctl(fd.as_raw_fd(), UFFDIO_API, &mut api, "ioctl(UFFDIO_API)")?;
        Ok(Self { fd: Descriptor::new(fd)?, route, features })
    }

    pub(crate) fn descriptor(&self) -> &Descriptor {
        &self.fd
    }

    /// Whether the calling thread may make a call by the descriptor's number.
    ///
    /// The arena's own threads always may. A faulting thread that serves itself may make calls that put
    /// pages in place or change protection without a check: if the number refers to another file, such a
    /// call fails, or that file is another userfaultfd of this process and the call works all the same.
    pub(crate) fn is_usable(&self, target: CallTarget) -> bool {
        if self.has(UFFD_FEATURE_SIGBUS) {
            target == CallTarget::Pages || self.fd.is_original()
        } else {
            descriptor::has_own_table() || self.fd.is_original()
        }
    }

    /// Whether the number refers to the original file in the calling thread's table.
    pub(crate) fn is_original(&self) -> bool {
        self.fd.is_original()
    }

    pub(crate) fn route(&self) -> DescriptorRoute {
        self.route
    }

    pub(crate) fn has(&self, feature: u64) -> bool {
        self.features & feature == feature
    }

    /// Registers `[start, start + len)` for `mode`, a mask of `UFFDIO_REGISTER_MODE_*`.
    pub(crate) fn register(&self, start: u64, len: usize, mode: u64) -> Result<(), SysError> {
        let range = UffdioRange { start, len: len as u64 };
        let mut arg = UffdioRegister { range, mode, ioctls: 0 };
        ioctl(self.fd.number(), UFFDIO_REGISTER, &mut arg, "ioctl(UFFDIO_REGISTER)")
    }

    /// Ends the registration of a range, lifts its protection and wakes its waiters.
    pub(crate) fn unregister(&self, start: u64, len: usize) -> Result<(), SysError> {
        let mut arg = UffdioRange { start, len: len as u64 };
        ioctl(self.fd.number(), UFFDIO_UNREGISTER, &mut arg, "ioctl(UFFDIO_UNREGISTER)")
    }

    /// Wakes the threads that wait for a page of the range. They repeat their access, and may fault again.
    pub(crate) fn wake(&self, start: u64, len: usize) -> Result<(), SysError> {
        let mut arg = UffdioRange { start, len: len as u64 };
        ioctl(self.fd.number(), UFFDIO_WAKE, &mut arg, "ioctl(UFFDIO_WAKE)")
    }

    /// Puts new pages with the bytes of `src` at `dst`, and wakes the waiters if `wake` is set.
    pub(crate) fn copy(&self, dst: u64, src: &[u8], wake: bool) -> Result<Outcome, SysError> {
        let mut arg = UffdioCopy {
            dst,
            src: src.as_ptr().addr() as u64,
            len: src.len() as u64,
            // With SIGBUS there are no messages, and no thread waits in the kernel.
            mode: if wake && !self.has(UFFD_FEATURE_SIGBUS) {
                0
            } else {
                UFFDIO_COPY_MODE_DONTWAKE
            },
            copy: 0,
        };
        let done = ioctl(self.fd.number(), UFFDIO_COPY, &mut arg, "ioctl(UFFDIO_COPY)");
        outcome(done, arg.copy)
    }

    /// Moves the pages at `src` to `dst` and wakes the threads that wait for them there (Linux 6.8). The source
    /// is private memory, which need not be registered; there is no page at the destination. A page that is
    /// moved keeps its bytes, also if the kernel has swapped it out.
    pub(crate) fn move_pages(
        &self,
        dst: u64,
        src: u64,
        len: usize,
        wake: bool,
    ) -> Result<Outcome, SysError> {
        let mode =
            if wake && !self.has(UFFD_FEATURE_SIGBUS) { 0 } else { UFFDIO_MOVE_MODE_DONTWAKE };
        let mut arg = UffdioMove { dst, src, len: len as u64, mode, moved: 0 };
        let done = ioctl(self.fd.number(), UFFDIO_MOVE, &mut arg, "ioctl(UFFDIO_MOVE)");
        match outcome(done, arg.moved) {
            // The range lies in several mappings, or the program has locked it or changed its protection.
            Err(e) if e.errno() == libc::EINVAL => Ok(Outcome::Gone),
            outcome => outcome,
        }
    }

    /// Places new pages of zeros at `start` and wakes the waiters.
    pub(crate) fn zeropage(&self, start: u64, len: usize) -> Result<Outcome, SysError> {
        let range = UffdioRange { start, len: len as u64 };
        let mut arg = UffdioZeropage { range, ..Default::default() };
        let done = ioctl(self.fd.number(), UFFDIO_ZEROPAGE, &mut arg, "ioctl(UFFDIO_ZEROPAGE)");
        outcome(done, arg.zeropage)
    }

    /// Makes every access to the range a SIGBUS and wakes the waiters (Linux 6.6).
    pub(crate) fn poison(&self, start: u64, len: usize) -> Result<Outcome, SysError> {
        let range = UffdioRange { start, len: len as u64 };
        let mut arg = UffdioPoison { range, ..Default::default() };
        let done = ioctl(self.fd.number(), UFFDIO_POISON, &mut arg, "ioctl(UFFDIO_POISON)");
        outcome(done, arg.updated)
    }

    /// Sets write protection on the range, or lifts it and wakes the waiters.
    pub(crate) fn write_protect(
        &self,
        start: u64,
        len: usize,
        on: bool,
    ) -> Result<Outcome, SysError> {
        self.protect(UFFDIO_WRITEPROTECT, "ioctl(UFFDIO_WRITEPROTECT)", start, len, on)
    }

    /// Sets read-write protection on the present pages of the range, or lifts it and wakes the
    /// waiters (Linux 7.3).
    pub(crate) fn rw_protect(&self, start: u64, len: usize, on: bool) -> Result<Outcome, SysError> {
        self.protect(UFFDIO_RWPROTECT, "ioctl(UFFDIO_RWPROTECT)", start, len, on)
    }

    fn protect(
        &self,
        request: u32,
        call: &'static str,
        start: u64,
        len: usize,
        on: bool,
    ) -> Result<Outcome, SysError> {
        let range = UffdioRange { start, len: len as u64 };
        let mode = if on { UFFDIO_PROTECT_MODE_SET } else { 0 };
        let done = ioctl(self.fd.number(), request, &mut UffdioProtect { range, mode }, call);
        outcome(done, 0)
    }

    /// Switches read-write protection to async mode (`true`) or to sync mode (`false`), Linux 7.3.
    ///
    /// In async mode the kernel lifts the protection of a touched page and sends no message; the switch
    /// to it wakes every waiter. In sync mode an access to a protected page waits for the library. When
    /// the call returns, no access is under way any more in the mode before.
    pub(crate) fn set_rwp_async(&self, on: bool) -> Result<(), SysError> {
        let (enable, disable) =
            if on { (UFFD_FEATURE_RWP_ASYNC, 0) } else { (0, UFFD_FEATURE_RWP_ASYNC) };
        let mut arg = UffdioSetMode { enable, disable };
        ioctl(self.fd.number(), UFFDIO_SET_MODE, &mut arg, "ioctl(UFFDIO_SET_MODE)")
    }

    /// Whether there are unread messages.
    pub(crate) fn has_messages(&self) -> bool {
        let mut fd = libc::pollfd { fd: self.fd.number(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one initialised pollfd; the call does not wait.
        let ready = unsafe { libc::poll(&raw mut fd, 1, 0) };
        ready > 0 && fd.revents & libc::POLLIN != 0
    }

    /// Reads messages into `messages` and returns how many. Does not wait.
    pub(crate) fn read(&self, messages: &mut [UffdMsg]) -> Result<usize, SysError> {
        loop {
            // SAFETY: the kernel writes whole messages, at most as many bytes as the slice has, and any bytes
            // are a valid `UffdMsg`.
            let got = unsafe {
                libc::read(self.fd.number(), messages.as_mut_ptr().cast(), size_of_val(messages))
            };
            match usize::try_from(got) {
                // The kernel never answers zero, so the number refers to another file.
                Ok(0) => return Err(SysError::new("read(userfaultfd)", libc::EBADF)),
                Ok(bytes) => return Ok(bytes / size_of::<UffdMsg>()),
                Err(_) => match SysError::last("read(userfaultfd)") {
                    e if e.errno() == libc::EINTR => {}
                    e if e.errno() == libc::EAGAIN => return Ok(0),
                    e => return Err(e),
                },
            }
        }
    }
}

#[cfg(test)]
impl Uffd {
    /// Makes the number refer to another file, as a program may do that closes descriptors which it has
    /// not opened.
    pub(crate) fn replace_file(&self) {
        let other = File::open("/dev/null").unwrap();
        // SAFETY: both are open descriptors; the call closes the second one's file.
        assert!(unsafe { libc::dup2(other.as_raw_fd(), self.fd.number()) } >= 0);
    }
}

impl AsRawFd for Uffd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.number()
    }
}

/// Non-blocking, because otherwise poll(2) answers POLLERR.
const OPEN_FLAGS: i32 = libc::O_CLOEXEC | libc::O_NONBLOCK;

fn open_descriptor() -> Result<(OwnedFd, DescriptorRoute), OpenError> {
    let flags = OPEN_FLAGS;
    let device = match open_device(flags) {
        Ok(fd) => return Ok((fd, DescriptorRoute::Device)),
        Err(e) => e,
    };
    let system_call = match open_syscall(flags) {
        Ok(fd) => return Ok((fd, DescriptorRoute::SystemCall)),
        Err(e) => e,
    };
    match open_syscall(flags | UFFD_USER_MODE_ONLY) {
        Ok(fd) => Ok((fd, DescriptorRoute::UserModeOnly)),
        // The process has too many files, which is the error to report: this open needs no privilege.
        Err(e) if e.is_too_many_files() => Err(OpenError { device, system_call: e }),
        Err(_) => Err(OpenError { device, system_call }),
    }
}

fn open_device(flags: i32) -> Result<OwnedFd, SysError> {
    let device = File::options()
        .read(true)
        .write(true)
        .open("/dev/userfaultfd")
        .map_err(|e| SysError::from_io("open(/dev/userfaultfd)", &e))?;
    // SAFETY: the request takes flags by value and returns a new descriptor or -1.
    let fd = unsafe { libc::ioctl(device.as_raw_fd(), USERFAULTFD_IOC_NEW as libc::Ioctl, flags) };
    own(fd, "ioctl(USERFAULTFD_IOC_NEW)")
}

fn open_syscall(flags: i32) -> Result<OwnedFd, SysError> {
    // SAFETY: the call takes flags by value and returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
    // A descriptor is an int; syscall(2) returns long for every call.
    own(i32::try_from(fd).unwrap_or(-1), "userfaultfd")
}

fn own(fd: i32, call: &'static str) -> Result<OwnedFd, SysError> {
    if fd < 0 {
        return Err(SysError::last(call));
    }
    // SAFETY: the kernel has just made the descriptor, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes an ioctl. `arg` must be the struct that `request` names and whose size it encodes.
fn ioctl<T>(fd: RawFd, request: u32, arg: &mut T, call: &'static str) -> Result<(), SysError> {
    debug_assert_eq!((request >> 16) as usize & 0x3fff, size_of::<T>());
    // SAFETY: `arg` is a live, exclusively borrowed struct of the size that the request encodes, and
    // the kernel reads and writes no more bytes than that. The struct's fields name arena memory, to
    // which no Rust object belongs, or a slice that is borrowed for the call.
    let done = unsafe { libc::ioctl(fd, request as libc::Ioctl, core::ptr::from_mut(arg)) };
    if done == 0 { Ok(()) } else { Err(SysError::last(call)) }
}
