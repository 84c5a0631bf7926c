//! Writes to the program's standard error, also from threads whose descriptor table does not contain it.
//!
//! An arena's threads have a descriptor table of their own (see [`super::keeper`]). It must not hold the
//! program's standard streams: the reader of a pipe sees its end only when all writers have closed it.
//! A small memfd takes their place and captures the message of a panic. To write a line to standard error,
//! such a thread briefly gets the program's descriptor (`pidfd_getfd(2)`, Linux 5.6).

#![allow(unsafe_code)]

use crate::sys::error::SysError;
use core::ffi::{c_int, c_void};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Bytes that the memfd can hold.
const CAPTURED: i64 = 64 << 10;
/// The seals that identify the memfd. A program whose standard error has the same seals gets its lines too.
const SEALS: c_int = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;

/// Replaces the calling thread's standard streams by an empty memfd.
pub(super) fn take_standard_streams() -> Result<(), SysError> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a C string; the call returns a descriptor or -1.
    let number = unsafe { libc::memfd_create(c"thermocline-stderr".as_ptr(), flags) };
    if number < 0 {
        return Err(SysError::last("memfd_create"));
    }
    // SAFETY: the calls take integers and change the new file.
    let sized = unsafe {
        libc::ftruncate(number, CAPTURED) == 0 && libc::fcntl(number, libc::F_ADD_SEALS, SEALS) == 0
    };
    if !sized {
        return Err(SysError::last("ftruncate(memfd)"));
    }
    for stream in 0..=libc::STDERR_FILENO {
        // SAFETY: takes integers. In this table each stream's number is closed or is the new file.
        if unsafe { libc::dup3(number, stream, libc::O_CLOEXEC) } < 0 && number != stream {
            return Err(SysError::last("dup3"));
        }
    }
    if number > libc::STDERR_FILENO {
        // SAFETY: opened above; the file has three other numbers now.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
    Ok(())
}

/// Writes to the program's standard error. Neither allocates nor locks; safe in a signal handler. Ignores
/// errors.
pub(super) fn write(bytes: &[u8]) {
    if is_captured() {
        with_program_stderr(|number| write_to(number, bytes));
    } else {
        write_to(libc::STDERR_FILENO, bytes);
    }
}

/// Copies the captured bytes to the program's standard error.
pub(super) fn forward_captured() {
    if !is_captured() {
        return;
    }
    // SAFETY: takes integers. All captured streams share one file position.
    let end = unsafe { libc::lseek(libc::STDERR_FILENO, 0, libc::SEEK_CUR) };
    with_program_stderr(|number| {
        let (mut at, mut buffer) = (0, [0u8; 512]);
        while at < end {
            let most =
                usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            let into = buffer.as_mut_ptr().cast::<c_void>();
            // SAFETY: writes at most `most` bytes, which the buffer has.
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
    // SAFETY: the bytes of a live slice. A failure is ignored.
    unsafe { libc::write(number, bytes.as_ptr().cast(), bytes.len()) };
}

/// Calls `write` with a descriptor of the main thread's standard error, if one can be opened.
fn with_program_stderr(write: impl FnOnce(c_int)) {
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
        return write(stderr.as_raw_fd());
    }
    // A sandbox may forbid the call but mount /proc, where `self` is the main thread.
    if let Ok(stderr) = File::options().append(true).open("/proc/self/fd/2") {
        write(stderr.as_raw_fd());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::child::{child_case, passes_in_child, text};
    use crate::common::skip;
    use crate::sys::keeper::Keeper;

    /// Runs in a child process, whose standard error is read.
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
