//! Writing to the program's standard error, also from threads whose table does not have it.
//!
//! An arena's own threads have a table of their own (see [`super::keeper`]). It must not hold the program's
//! standard streams: a program that closes them tells the reader of a pipe that there is no more to read.
//! In place of them there is a small file in memory, which captures the message of a panic. For a line on
//! standard error such a thread gets the program's descriptor for a moment (`pidfd_getfd(2)`, Linux 5.6).

#![allow(unsafe_code)]

use crate::sys::error::SysError;
use core::ffi::{c_int, c_void};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Bytes that the file in memory can hold.
const CAPTURED: i64 = 64 << 10;
/// What that file is known by. A program's standard error that is like it is used all the same.
const SEALS: c_int = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;

/// Puts an empty file in the place of the calling thread's standard streams.
pub(super) fn take_standard_streams() -> Result<(), SysError> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a C string; the call returns a descriptor or -1.
    let number = unsafe { libc::memfd_create(c"thermocline-stderr".as_ptr(), flags) };
    if number < 0 {
        return Err(SysError::last("memfd_create"));
    }
    // SAFETY: the calls take integers and change the file that was just made.
    let sized = unsafe {
        libc::ftruncate(number, CAPTURED) == 0 && libc::fcntl(number, libc::F_ADD_SEALS, SEALS) == 0
    };
    if !sized {
        return Err(SysError::last("ftruncate(memfd)"));
    }
    for stream in 0..=libc::STDERR_FILENO {
        // SAFETY: takes integers. The streams are closed in this table, or the file itself.
        if unsafe { libc::dup3(number, stream, libc::O_CLOEXEC) } < 0 && number != stream {
            return Err(SysError::last("dup3"));
        }
    }
    if number > libc::STDERR_FILENO {
        // SAFETY: made above, and known by three other numbers now.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
    Ok(())
}

/// Writes to the program's standard error. Neither allocates nor locks; safe in a signal handler. What cannot
/// be written is lost.
pub(super) fn write(bytes: &[u8]) {
    if is_captured() {
        with_program_stderr(|number| write_to(number, bytes));
    } else {
        write_to(libc::STDERR_FILENO, bytes);
    }
}

/// Copies what was captured in place of the standard streams to the program's standard error.
pub(super) fn forward_captured() {
    if !is_captured() {
        return;
    }
    // SAFETY: takes integers. All captured streams share one position.
    let end = unsafe { libc::lseek(libc::STDERR_FILENO, 0, libc::SEEK_CUR) };
    with_program_stderr(|number| {
        let (mut at, mut buffer) = (0, [0u8; 512]);
        while at < end {
            let most =
                usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            let into = buffer.as_mut_ptr().cast::<c_void>();
            // SAFETY: writes at most as many bytes as the buffer has.
            let got = unsafe { libc::pread(libc::STDERR_FILENO, into, most, at) };
            let Some(read) = usize::try_from(got).ok().filter(|read| *read > 0) else { break };
            write_to(number, &buffer[..read]);
            at += got as i64;
        }
    });
}

fn is_captured() -> bool {
    // SAFETY: takes and returns integers.
    unsafe { libc::fcntl(libc::STDERR_FILENO, libc::F_GET_SEALS) == SEALS }
}

fn write_to(number: c_int, bytes: &[u8]) {
    // SAFETY: the bytes of a live slice. Nothing can be done about a failure.
    unsafe { libc::write(number, bytes.as_ptr().cast(), bytes.len()) };
}

/// Calls `what` with a descriptor of the standard error of the process's first thread, if it can be had.
fn with_program_stderr(what: impl FnOnce(c_int)) {
    let own = |number: libc::c_long| {
        let number = c_int::try_from(number).ok().filter(|number| *number >= 0)?;
        // SAFETY: the kernel has just made the descriptor, so nothing else owns it.
        Some(unsafe { OwnedFd::from_raw_fd(number) })
    };
    // SAFETY: takes and returns integers.
    let process = own(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) });
    let stderr = process.and_then(|process| {
        let (process, stream) = (process.as_raw_fd(), libc::STDERR_FILENO);
        // SAFETY: as above.
        own(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, stream, 0) })
    });
    if let Some(stderr) = stderr {
        return what(stderr.as_raw_fd());
    }
    // A sandbox may forbid the call and have /proc, where `self` is the first thread.
    if let Ok(stderr) = File::options().append(true).open("/proc/self/fd/2") {
        what(stderr.as_raw_fd());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::child::{child_case, passes_in_child, text};
    use crate::common::skip;
    use crate::sys::keeper::Keeper;

    /// In a process of its own, whose standard error is read.
    #[test]
    fn a_thread_with_a_table_of_its_own_reaches_standard_error() {
        const TEST: &str =
            "sys::platform::stderr::tests::a_thread_with_a_table_of_its_own_reaches_standard_error";
        if !Keeper::start(&[]).unwrap().has_own_table() {
            skip(TEST, "descriptor table", "a thread may have no table of its own here");
            return;
        }
        if child_case().is_some() {
            let keeper = Keeper::start(&[]).unwrap();
            keeper.call(|| {
                write(b"a line\n");
                write_to(libc::STDERR_FILENO, b"captured\n");
                write(b"another line\n");
                forward_captured();
            });
            return;
        }
        let output = passes_in_child(TEST, "child");
        assert!(text(&output).contains("a line\nanother line\ncaptured\n"), "{}", text(&output));
    }
}
