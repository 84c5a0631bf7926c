//! Signal handlers, and SIGBUS that no arena causes.

#![allow(dead_code, unsafe_code, reason = "each test program uses a part of it")]

use super::pages::PAGE;
use core::ffi::c_int;
use core::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

/// Installs a handler, or `SIG_DFL` or `SIG_IGN`, that runs with the signals `masked` blocked. Returns the
/// previous action.
pub fn install(signal: c_int, handler: usize, flags: c_int, masked: &[c_int]) -> libc::sigaction {
    // SAFETY: actions are valid as zeros; the handlers match their flags.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        let mut before: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        for signal in masked {
            libc::sigaddset(&raw mut action.sa_mask, *signal);
        }
        assert_eq!(libc::sigaction(signal, &raw const action, &raw mut before), 0);
        before
    }
}

/// A mapping beyond the end of its file: a touch is a SIGBUS that no arena causes. A process has one.
pub struct Foreign {
    pub address: usize,
}

/// The file of the process's [`Foreign`] mapping.
static FILE: AtomicI32 = AtomicI32::new(-1);

impl Foreign {
    pub fn new() -> Self {
        // SAFETY: a name that ends with zero.
        let file = unsafe { libc::memfd_create(c"foreign".as_ptr(), 0) };
        assert!(file >= 0, "{}", std::io::Error::last_os_error());
        FILE.store(file, Ordering::Relaxed);
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let address = unsafe { libc::mmap(ptr::null_mut(), PAGE, access, kind, file, 0) };
        assert_ne!(address, libc::MAP_FAILED);
        Self { address: address.addr() }
    }

    /// Reads a byte beyond the end of the file.
    pub fn touch(&self, at: usize) {
        // SAFETY: a file of ours.
        assert_eq!(unsafe { libc::ftruncate(FILE.load(Ordering::Relaxed), 0) }, 0);
        // SAFETY: within the mapping; a handler makes it succeed.
        unsafe { ptr::with_exposed_provenance::<u8>(self.address + at).read_volatile() };
    }

    /// Makes the file long enough. A handler may call it.
    pub fn lengthen() {
        // SAFETY: async-signal-safe, on a file of ours.
        unsafe { libc::ftruncate(FILE.load(Ordering::Relaxed), PAGE as i64) };
    }
}
