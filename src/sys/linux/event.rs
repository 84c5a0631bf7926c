//! A flag that a thread can wait for together with a userfaultfd, and a last word before dying.

#![allow(unsafe_code)]

use super::stderr;
use crate::sys::error::SysError;
use core::fmt::{self, Write as _};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// An `eventfd(2)`: once raised, it stays raised. Raising it waits for nothing.
#[derive(Debug)]
pub(crate) struct Event(OwnedFd);

impl Event {
    pub(crate) fn new() -> Result<Self, SysError> {
        // SAFETY: no memory is passed; the call returns a new descriptor or -1.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(SysError::last("eventfd"));
        }
        // SAFETY: the descriptor is new, so nothing else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wakes all threads that wait for the event, now and later.
    pub(crate) fn raise(&self) {
        let one = 1u64;
        // SAFETY: writes eight bytes from a u64. It fails where the counter is at its maximum, so
        // that the event is raised already, or where the descriptor is not ours any more, which
        // whoever waits for it finds out.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }
}

impl AsRawFd for Event {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// What a wait for a descriptor ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The descriptor can be read.
    Readable,
    /// The event was raised.
    Raised,
}

/// Sleeps until `fd` can be read or `event` is raised, the event first.
pub(crate) fn wait_readable(fd: &impl AsRawFd, event: &Event) -> Result<Woken, SysError> {
    loop {
        let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [poll(event.as_raw_fd()), poll(fd.as_raw_fd())];
        // SAFETY: an array of two initialised pollfds.
        if unsafe { libc::poll(fds.as_mut_ptr(), 2, -1) } < 0 {
            match SysError::last("poll(userfaultfd)") {
                e if e.errno() == libc::EINTR => continue,
                e => return Err(e),
            }
        }
        if fds[0].revents & libc::POLLIN != 0 {
            return Ok(Woken::Raised);
        }
        if (fds[0].revents | fds[1].revents) & (libc::POLLERR | libc::POLLNVAL | libc::POLLHUP) != 0
        {
            return Err(SysError::new("poll(userfaultfd)", libc::EBADF));
        }
        if fds[1].revents & libc::POLLIN != 0 {
            return Ok(Woken::Readable);
        }
    }
}

/// Writes a line to standard error, without allocating or locking. Errors are to be given as `{:#}`.
pub(crate) fn report(what: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; 512], len: 0 };
    // A line that is too long is cut.
    let _ = writeln!(line, "thermocline: {what}");
    stderr::write(&line.bytes[..line.len]);
}

/// Says why on standard error and aborts the process.
///
/// For what must not happen while threads are parked on pages that only the caller could bring
/// back: a dead process can be restarted, a hanging one is found by nobody.
pub(crate) fn abort_process(what: &str, why: &dyn fmt::Display) -> ! {
    stderr::forward_captured();
    report(format_args!("{what}: {why:#}; threads may be waiting for evicted pages, so: abort"));
    std::process::abort()
}

/// Aborts the process if the thread that holds it panics: somebody would wait for it for ever.
#[derive(Debug)]
pub(crate) struct AbortOnPanic(pub(crate) &'static str);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            abort_process(self.0, &"it panicked, see the message above");
        }
    }
}

struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = (self.bytes.len() - self.len).min(text.len());
        self.bytes[self.len..self.len + room].copy_from_slice(&text.as_bytes()[..room]);
        self.len += room;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_stays_raised_and_goes_first() {
        let event = Event::new().unwrap();
        let other = Event::new().unwrap();
        other.raise();
        assert_eq!(wait_readable(&other, &event).unwrap(), Woken::Readable);
        event.raise();
        for _ in 0..2 {
            assert_eq!(wait_readable(&other, &event).unwrap(), Woken::Raised);
        }
    }
}
