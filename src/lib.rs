//! Memory whose cold pages are compressed in the background and come back when they are touched.
//!
//! A program that has more data than memory, and touches a small part of the data at a time, allocates in
//! an [`Arena`]. The arena learns which pages the program touches, compresses the cold ones and gives their
//! memory back to the system. A touch brings a page back; the program notices only the time that it takes.
//! No root, no swap device, no change to the data structures: an arena is an allocator.
//!
//! ```
//! use hashbrown::HashMap;
//! use std::time::Duration;
//! use thermocline::{Arena, BuildError, Swapping};
//!
//! fn main() -> Result<(), BuildError> {
//!     let arena = Arena::builder()
//!         .resident_limit(64 << 20) // above this the evictor evicts the oldest pages
//!         .cold_age(Duration::from_secs(30)) // it always evicts pages of this age
//!         .plain_memory_fallback(true) // without a userfaultfd, work without eviction
//!         .build()?;
//!     if let Swapping::Off(reason) = arena.swapping() {
//!         eprintln!("the arena does not evict: {reason}");
//!     }
//!
//!     let mut squares = HashMap::new_in(&arena);
//!     for n in 0..100_000u64 {
//!         squares.insert(n, n * n);
//!     }
//!     let _ = arena.evict_now(); // or wait
//!     assert_eq!(squares[&4711], 22_193_521);
//!
//!     let stats = arena.stats();
//!     println!("{} bytes saved, {} refaults", stats.saved_bytes(), stats.refaults);
//!     Ok(())
//! }
//! ```
//!
//! # Which kernels
//!
//! Linux 5.19 and later on 64-bit machines with 4 KiB pages. [`probe`] tests each feature of the kernel, and
//! never its version.
//!
//! | Linux         | [tracker](Tracker)    | a touch of an armed page in memory                  |
//! |---------------|-----------------------|-----------------------------------------------------|
//! | 7.3 and later | [`Rwp`](Tracker::Rwp) | the kernel resolves it, once per scan               |
//! | 5.19 to 7.2   | [`Zap`](Tracker::Zap) | a minor fault, once per scan                        |
//! | before        | none: [`BuildError`], or [plain memory](Builder::plain_memory_fallback) | - |
//!
//! [Private memory](Backing::Private), on request, has huge pages where the system allows them. It needs Linux 6.18, and
//! its tracker before Linux 7.3 is [`Accessed`](Tracker::Accessed).
//!
//! A process needs no privilege for its own faults. System calls on evicted memory may need one: see the
//! [limits](#limits).
//!
//! # Limits
//!
//! * **System calls on evicted memory.** A system call that gets a pointer to an evicted page fails with
//!   `EFAULT` where the process may only have a user-mode userfaultfd (no access to `/dev/userfaultfd`, the
//!   sysctl `vm.unprivileged_userfaultfd` 0, no `CAP_SYS_PTRACE`), and always with [`FaultMode::Inline`].
//!   [`pin`](Arena::pin) the memory before the call. [`Arena::serves_system_calls`] tells whether it fails.
//!   Such a call may also fail on a page in memory that no thread has touched for a scan interval: while the
//!   evictor evicts that page, or, under [`Rwp`](Tracker::Rwp), while it evicts other pages.
//! * **Pages that a device reads or writes by itself** (`O_DIRECT`, registered io_uring buffers, RDMA) have
//!   to be [pinned](Arena::pin): the evictor does not notice the device. In [private memory](Backing::Private) the
//!   kernel keeps such pages in memory while an operation is under way.
//! * **Descriptors.** An arena's threads keep its descriptors in a descriptor table of their own. So a
//!   program that closes descriptors which it did not open only becomes slower. [`probe`] tells whether a
//!   sandbox forbids that table (`close_range(2)`); in such a sandbox a program must not close descriptors
//!   which it did not open.
//! * **SIGBUS.** [`FaultMode::Inline`] is the default for a process that may serve faults of user code only.
//!   With it, the library installs the process's SIGBUS handler, a thread that blocks SIGBUS must not touch
//!   evicted memory, and stacks need room for a signal frame and 1 KiB more. The documentation of
//!   [`FaultMode::Inline`] has the details.
//! * **Stacks in an arena**, of threads, of coroutines and for signals, have to be [pinned](Arena::pin) from
//!   before their first use until after their last. The kernel writes a signal's frame to the stack as it
//!   writes the result of a system call: where the process may serve faults of user code only, and with
//!   [`FaultMode::Inline`], an evicted page there ends the process (SIGSEGV). When a thread ends, the kernel
//!   writes to the top of its stack, and does not wait for a page in any mode: if that page was evicted a
//!   moment before, `pthread_join` waits for ever.
//! * **Robust mutexes** (`PTHREAD_MUTEX_ROBUST`) in an arena have to be [pinned](Arena::pin) from before
//!   their lock until their unlock, or until their owner has ended. The kernel walks the robust mutexes of a
//!   thread when the thread ends, and does not wait for an evicted page in any mode: that mutex, and those
//!   that the thread locked before it, stay locked.
//! * **fork.** A child has no mapping of its parent's arenas. In the child a touch of an arena is SIGSEGV, an
//!   allocation fails, and dropping the arena does nothing. `fork` followed by `exec` works, except with
//!   strings that lie in an arena (`EFAULT`). A child may build arenas of its own: a daemon builds its arenas
//!   after its forks.
//! * **exec.** `exec`, `posix_spawn` and [`Command`](std::process::Command) give their strings to a system
//!   call. The limits on system calls and on `fork` apply to strings in an arena.
//! * **Debuggers** cannot read evicted pages (`EIO`: gdb says "Cannot access memory"), and never wait for
//!   them. With [`FaultMode::Inline`], tell gdb to `handle SIGBUS nostop noprint pass`. A
//!   `process_vm_readv(2)` by another process behaves like a system call of this one. While this process is
//!   stopped, no thread serves that call: it waits until this process goes on or is killed.
//! * **Core dumps** leave out arenas and their stores. So dumps are small, and lack the arenas' data.
//! * **dlclose.** An object that contains this library and has built an arena stays loaded for ever:
//!   the process has addresses of its code.
//! * **Errors of a refault.** If a page's stored copy does not match its checksum, or the kernel refuses to
//!   put the page back, a touch of the page is SIGBUS, and a line on standard error says so. While the kernel
//!   has no memory for the page, the faulting thread waits. A handler thread that fails aborts the process with
//!   the reason, because the program would hang. The watchdog reports and counts a handler thread that is
//!   stuck ([`Builder::stall_limit`]), and aborts the process if the program chose
//!   [`Builder::abort_on_stall`].
//! * **Objects of different heat on one page** keep the page in memory. A hash map that grows
//!   touches all of its entries: reserve room up front.
//! * **`mlock` and `mlockall`.** Locked pages of [private memory](Backing::Private) stay in memory. Under
//!   [`Zap`](Tracker::Zap) a locked page keeps the 2 MiB around it in memory; [`Stats::kernel_errors`] counts
//!   it. Under [`Rwp`](Tracker::Rwp) the evictor evicts locked pages of shared memory too: do not keep secrets
//!   in an arena. `mlockall` without `MCL_ONFAULT` fills all address space that arenas have reserved.
//! * **The mapping is the arena's.** `mprotect`, `munmap`, `mremap` and `madvise` on arena memory are
//!   as wrong as on any allocator's, except the advice `MADV_RANDOM`, `MADV_SEQUENTIAL` and
//!   `MADV_NORMAL`.
//!
//! # When not to use it
//!
//! * The program touches all of its data all the time, or the data does not compress.
//! * The first touch of a cold page may not take microseconds.
//! * The data can stay on disk.
//! * The machine's own swap to zram is good enough. It needs root, but no change to the program.
//!
//! # Fault modes
//!
//! | [`FaultMode`] | a touch of an evicted page | system calls on evicted memory |
//! |---------------|----------------------------|--------------------------------|
//! | [`Handler`](FaultMode::Handler) | waits for a handler thread to wake up | work, with the privilege for it |
//! | [`Inline`](FaultMode::Inline)   | the thread itself serves it, several times as fast | `EFAULT`, unless pinned |
//!
//! [`Auto`](FaultMode::Auto), the default, is `Handler` where that serves system calls, else `Inline`.
//! Choose `Inline` for speed if the program gives no evicted memory to system calls. A program that knows
//! which memory it touches next can call [`ensure`](Arena::ensure), and then has no fault at all.
//!
//! # Reading once
//!
//! [`Arena::peek`] reads stored bytes without a refault: no page comes back, and the evictor need not evict
//! another page to make room. So data that the program reads seldom, by `peek`, takes no memory uncompressed.
//!
//! # Memory limits
//!
//! [`Builder::memory_limit`] bounds the pages in memory and the store together,
//! [`Builder::resident_limit`] the pages alone. Both are goals of the evictor, and can change at any time
//! ([`Arena::set_memory_limit`]). A thread that brings pages in waits for the evictor if the arena is far
//! above its limit: by more than a quarter of the limit or 4 MiB, whichever is less. A wait ends after 20 ms,
//! or at once if the evictor finds nothing to evict; [`Stats::limit_waits`] counts the waits.
//! [`Arena::excess_bytes`] is the evictor's backlog.
//!
//! # Lanes
//!
//! A page gets as cold as the warmest object on it. A program that knows which objects it touches often
//! allocates them in [`Arena::hot`], and objects that it will not touch for long in [`Arena::cold`]: a
//! [`Lane`] has pages of its own. [`Arena::heap_stats`] has the statistics of each lane.
//!
//! # Whole programs
//!
//! [`ArenaAlloc`] is a `#[global_allocator]`: the large blocks of all crates of a program come from an arena.
//!
//! # Features
//!
//! * `allocator-api2` (default): [`Arena`] and [`ArenaLane`] implement `allocator_api2::alloc::Allocator`.
//! * `serde`: [`Stats`], [`HeapStats`] and their parts, and [`Evicted`] implement `serde::Serialize`.
//!
//! # How it works
//!
//! [`design`] says how an arena works, and why it returns no wrong byte.

#![cfg_attr(any(not(feature = "allocator-api2"), thermocline_sim), allow(dead_code))]
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation, clippy::cast_sign_loss))]

mod alloc;
mod arena;
pub mod design;
mod evict;
mod fault;
mod policy;
mod prim;
mod stats;
mod store;
mod sys;
mod table;
mod track;

#[cfg(test)]
extern crate self as thermocline;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;

pub use alloc::{ClassStats, HeapStats, Lane, LaneStats};
pub use arena::{
    Advice, AllocError, Arena, ArenaAlloc, ArenaError, ArenaLane, Backing, BuildError, Builder,
    MemoryRange, Peek, PinGuard, StartError, Swapping,
};
pub use evict::Evicted;
pub use fault::FaultMode;
pub use stats::{Figure, FigureKind, LatencyHistogram, Stats, Unit};
pub use sys::{Capability, CapabilityStatus, DescriptorRoute, Probe, SysError, probe};
pub use track::Tracker;

/// Compiles and runs the README's program as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
