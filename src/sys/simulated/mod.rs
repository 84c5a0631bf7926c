//! A kernel that is not there.
//!
//! Under `--cfg thermocline_sim` the files of this folder take the place of the files of the same names
//! in `linux`, and the rest of the library runs on them unchanged. An arena is a list of [`Page`]s
//! then, what a program does to its memory are calls of [`Kernel::read`] and [`Kernel::write`], and
//! descriptors, messages and waiters are lists too. Each call is many steps, one for each page at
//! least, at which other threads may go on.
//!
//! What it follows is written at each call; the rules that matter most:
//!
//! * A toucher decides by the page-table entry that it has to wait, queues up (which is the message),
//!   looks at the entry again, and sleeps if that is still none, a marker, or protected. Who is woken
//!   begins again from the start.
//! * `UFFDIO_COPY` puts a page where neither the page table nor the page cache has one, page by page,
//!   and stops at the first that it cannot. Waiters are woken at the end.
//! * A hole punch drops the page and its entry, wakes nobody, and leaves a mark of write protection.
//! * `UFFDIO_SET_MODE` waits until nobody is on the way through the page table, and wakes all waiters
//!   when it switches to async mode.
//! * Read-write protection is in the page table only; write protection outlasts the entry.
//! * `mlock` fills holes.
//!
//! # What is not simulated
//!
//! Huge pages, NUMA, several arenas in a process, fork, system calls on arena memory, signals, time
//! (nothing times out), the weakness of the processor's memory model (every access is sequentially
//! consistent; under a model checker that of words is not), TLBs (a change of the page table is seen
//! at once by all), accesses that are no faults but torn (a touch is whole), and all that the kernel
//! does wrong.

pub(crate) mod cpu;
pub(crate) mod descriptor;
pub(crate) mod event;
pub(crate) mod futex;
pub(crate) mod keeper;
mod kernel;
// Lazily reserved tables are ordinary memory. Only the model checker's atomics need a twin.
#[cfg_attr(not(loom), path = "../linux/lazy.rs")]
pub(crate) mod lazy;
pub(crate) mod memory;
mod outcomes;
mod page;
pub(crate) mod pagemap;
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
    kernel::{Chance, Made},
    outcomes::{Cost, is_asked_again, outcomes},
    touch::Sigbus,
};
