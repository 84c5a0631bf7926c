//! Events that end a wait for a userfaultfd; reports on standard error; the end of the process.

#![allow(unsafe_code)]

use super::stderr;
use crate::sys::error::SysError;
use core::fmt::{self, Write as _};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// An `eventfd(2)`. Once raised, it stays raised. Raising it does not wait.
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

    /// Wakes all threads that wait for the event now, and ends every later wait at once.
    pub(crate) fn raise(&self) {
        let one = 1u64;
        // SAFETY: writes eight bytes from a u64. It fails if the counter is at its maximum (the event
        // is raised already), or if the program has closed the descriptor, which the waiting thread
        // notices itself.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }
}

impl AsRawFd for Event {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Why a wait for a descriptor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The descriptor can be read.
    Readable,
    /// A thread raised the event.
    Raised,
}

/// Sleeps until `fd` can be read or `event` is raised. Reports the event if both are true.
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

/// Writes a line to standard error, without allocating or locking. Format errors with `{:#}`.
pub(crate) fn report(text: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; 512], len: 0 };
    // A longer line is cut.
    let _ = writeln!(line, "thermocline: {text}");
    stderr::write(&line.bytes[..line.len]);
}

/// Reports a fatal error on standard error and aborts the process.
///
/// For errors after which threads would wait for ever for pages that only the caller can bring back.
/// A supervisor restarts a process that has died, but does not notice one that hangs.
pub(crate) fn abort_process(failed: &str, reason: &dyn fmt::Display) -> ! {
    stderr::forward_captured();
    report(format_args!(
        "{failed}: {reason:#}; threads may be waiting for evicted pages, so: abort"
    ));
    std::process::abort()
}

/// Aborts the process if the thread that holds this panics: other threads would wait for it for ever.
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
    fn an_event_stays_raised_and_is_reported_first() {
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
