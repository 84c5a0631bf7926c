//! Faults that the faulting thread serves itself, in its SIGBUS handler.

#![allow(missing_docs, unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

mod arenas;
mod faults;
mod handlers;

use core::ffi::c_int;
use core::ptr;

fn block(signal: c_int) {
    // SAFETY: a set is valid as zeros, and of that thread alone.
    unsafe {
        let mut set: libc::sigset_t = core::mem::zeroed();
        libc::sigaddset(&raw mut set, signal);
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()), 0);
    }
}
