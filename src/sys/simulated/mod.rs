//! A simulated kernel.
//!
//! Under `--cfg thermocline_sim` the files of this folder replace the files of the same names in
//! `linux`, and the rest of the library runs on them unchanged. An arena is a list of [`Page`]s. A
//! program accesses its memory by [`Kernel::read`] and [`Kernel::write`]. Descriptors, messages and
//! waiters are lists too. Each call consists of many steps, at least one for each page, between which
//! the schedule may run other threads.
//!
//! Each call names the kernel's rules that it follows. The main rules:
//!
//! * A faulting thread decides by the page-table entry to wait, enqueues itself (which is the message),
//!   checks the entry again, and sleeps if the entry is still none, a marker, or protected. A woken
//!   thread repeats its access.
//! * `UFFDIO_COPY` places a page where neither the page table nor the page cache has one, page by page,
//!   and stops at the first page that it cannot place. It wakes waiters at the end.
//! * A hole punch drops the page and its entry, wakes no thread, and leaves a marker of write protection.
//! * `UFFDIO_SET_MODE` waits until no thread walks the page table, and wakes all waiters when it
//!   switches to async mode.
//! * Read-write protection exists only in the page table; write protection outlasts the entry.
//! * `mlock` fills holes.
//! * Private memory has its pages in the page table alone. `UFFDIO_MOVE` moves them page by page, also swapped-out
//!   ones, to places that have none, and stops at the first page that it cannot move.
//! * An access sets the page's accessed bit, and so does `UFFDIO_COPY` (`mfill_atomic_install_pte`).
//!
//! # What is not simulated
//!
//! Huge pages, NUMA, several arenas in a process, fork, system calls on arena memory, signals, time
//! (no wait times out), the processor's weak memory model (every access is sequentially consistent,
//! except accesses of words under the model checker), TLBs (all threads see a change of the page table
//! at once; a test injects the accessed bits that stale TLBs lose), torn accesses (each touch is atomic), and the kernel's bugs.

pub(crate) mod accessed;
pub(crate) mod cpu;
pub(crate) mod descriptor;
pub(crate) mod event;
pub(crate) mod futex;
pub(crate) mod keeper;
mod kernel;
// Lazily reserved tables are ordinary memory. Only the model checker's atomics need a simulated version.
#[cfg_attr(not(loom), path = "../linux/lazy.rs")]
pub(crate) mod lazy;
pub(crate) mod memory;
mod outcomes;
mod page;
pub(crate) mod pagemap;
pub(crate) mod private;
pub(crate) mod sigbus;
pub(crate) mod signals;
pub(crate) mod thread;
mod touch;
pub(crate) mod uffd;
mod waiters;

pub(crate) use kernel::{Call, Kernel};
pub(crate) use outcomes::Injected;
pub(crate) use page::{Entry, Page};

#[cfg(test)]
#[cfg(not(loom))]
pub(crate) use {
    kernel::{CallIndex, CallRecord},
    outcomes::{Cost, is_retried, outcomes},
    touch::Sigbus,
};
