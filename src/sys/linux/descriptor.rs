//! A descriptor that the program may close, or replace by another file, at any time.
//!
//! A program may close numbers that it has not opened (`close_range(2)` in daemonizers, test runners and
//! language runtimes), and a bug may close a number twice. The number of an arena's descriptor may then
//! refer to another file, and a call by that number would read, change or close that file. So each
//! descriptor remembers its file, and a call checks the file before it uses the number. The arena's own
//! threads need not check: no other thread can change their table (see [`super::keeper`]).

#![allow(unsafe_code)]

use crate::sys::error::SysError;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

thread_local! {
    // Needs no initialisation or destruction at run time. A signal handler must still not access it: in a
    // shared object a thread's first access may allocate.
    static OWN_TABLE: Cell<bool> = const { Cell::new(false) };
}

/// Records that the calling thread has a descriptor table that only threads of one arena share.
pub(super) fn enter_own_table() {
    OWN_TABLE.set(true);
}

/// Whether the calling thread has such a table. Not safe in a signal handler.
pub(crate) fn has_own_table() -> bool {
    OWN_TABLE.get()
}

/// Identifies an open file.
///
/// A memfd, a userfaultfd and a file of `/proc` each have an inode number of their own. An `eventfd(2)` has
/// none, at least before Linux 6.15, and cannot be identified this way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// A descriptor's number, with the identity of the file that it was opened for.
#[derive(Debug)]
pub(crate) struct Descriptor {
    number: RawFd,
    identity: Identity,
}

impl Descriptor {
    /// Takes ownership of a descriptor, under a number of 3 or higher: a program that writes to a standard
    /// stream that it has closed must not write to a file of an arena.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, SysError> {
        let fd = if fd.as_raw_fd() > libc::STDERR_FILENO { fd } else { above_standard(&fd)? };
        let identity = stat(fd.as_raw_fd()).map(|stat| identity(&stat))?;
        Ok(Self { number: fd.into_raw_fd(), identity })
    }

    /// The number, which may refer to another file by now.
    pub(crate) fn number(&self) -> RawFd {
        self.number
    }

    /// Whether the number refers to the original file in the calling thread's table.
    ///
    /// Another thread may change that right afterwards. Safe in a signal handler.
    pub(crate) fn is_original(&self) -> bool {
        stat(self.number).is_ok_and(|stat| identity(&stat) == self.identity)
    }

    /// The number, if it refers to the original file. Not safe in a signal handler.
    pub(crate) fn checked(&self, call: &'static str) -> Result<RawFd, SysError> {
        if has_own_table() || self.is_original() {
            Ok(self.number)
        } else {
            Err(SysError::new(call, libc::EBADF))
        }
    }

    /// The file's metadata. One `fstat(2)` gives metadata and identity, so both are of one file.
    pub(crate) fn metadata(&self, call: &'static str) -> Result<libc::stat, SysError> {
        match stat(self.number) {
            Ok(stat) if identity(&stat) == self.identity => Ok(stat),
            Ok(_) => Err(SysError::new(call, libc::EBADF)),
            Err(e) => Err(SysError::new(call, e.errno())),
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.is_original() {
            // SAFETY: the number refers to the original file, and is not used after this.
            drop(unsafe { OwnedFd::from_raw_fd(self.number) });
        }
    }
}

/// A duplicate of the descriptor, with a number above those of the standard streams.
pub(super) fn above_standard(fd: &impl AsRawFd) -> Result<OwnedFd, SysError> {
    let lowest = libc::STDERR_FILENO + 1;
    // SAFETY: takes and returns integers; the new descriptor belongs to the caller.
    let number = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
    if number < 0 {
        return Err(SysError::last("fcntl(F_DUPFD_CLOEXEC)"));
    }
    // SAFETY: the descriptor is new, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Fills `bytes` from the file, beginning at offset `from`.
pub(super) fn read_exact_at(
    number: RawFd,
    mut bytes: &mut [u8],
    mut from: u64,
    call: &'static str,
) -> Result<(), SysError> {
    while !bytes.is_empty() {
        let into = bytes.as_mut_ptr().cast();
        // SAFETY: writes at most as many bytes as the slice has.
        let got = unsafe { libc::pread(number, into, bytes.len(), from.cast_signed()) };
        match usize::try_from(got) {
            Ok(0) => return Err(SysError::new(call, libc::EIO)),
            Ok(got) => {
                bytes = &mut bytes[got..];
                from += got as u64;
            }
            Err(_) => match SysError::last(call) {
                e if e.errno() == libc::EINTR => {}
                e => return Err(e),
            },
        }
    }
    Ok(())
}

fn identity(stat: &libc::stat) -> Identity {
    Identity { device: stat.st_dev, inode: stat.st_ino }
}

fn stat(number: RawFd) -> Result<libc::stat, SysError> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: writes one struct.
    match unsafe { libc::fstat(number, stat.as_mut_ptr()) } {
        // SAFETY: integers, which the call has written.
        0 => Ok(unsafe { stat.assume_init() }),
        _ => Err(SysError::last("fstat")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    /// Makes the descriptor's number refer to another file.
    fn replace(descriptor: &Descriptor, file: &File) {
        // SAFETY: both are open descriptors; the file at the second is closed.
        assert!(unsafe { libc::dup2(file.as_raw_fd(), descriptor.number()) } >= 0);
    }

    #[test]
    fn a_replaced_file_is_noticed_and_not_closed() {
        let open = || File::open("/dev/null").unwrap();
        let ours = Descriptor::new(File::open("/proc/self/maps").unwrap().into()).unwrap();
        assert!(ours.is_original());
        assert_eq!(ours.checked("test"), Ok(ours.number()));
        replace(&ours, &open());
        assert!(!ours.is_original());
        assert_eq!(ours.checked("test").unwrap_err().errno(), libc::EBADF);
        assert_eq!(ours.metadata("test").unwrap_err().errno(), libc::EBADF);
        let number = ours.number();
        drop(ours);
        assert!(stat(number).is_ok(), "the descriptor closed another file");
        // SAFETY: opened by `replace`, and closed once.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }

    #[test]
    fn a_descriptor_closes_its_own_file() {
        let ours = Descriptor::new(File::open("/proc/self/maps").unwrap().into()).unwrap();
        let copy = Descriptor { number: ours.number, identity: ours.identity };
        drop(ours);
        assert!(!copy.is_original());
    }
}
