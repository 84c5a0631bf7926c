//! Memory whose cold pages are compressed in the background and come back when they are touched.
//!
//! A program whose data outgrows its memory, while most of it sleeps, allocates in an [`Arena`].
//! The arena learns which pages are touched, compresses those that are not and gives their memory
//! back to the system. A touch brings a page back; the program notices nothing but the time that it
//! takes. No root, no swap device, no change to the data structures: an arena is an allocator.
//!
//! ```
//! use hashbrown::HashMap;
//! use std::time::Duration;
//! use thermocline::{Arena, BuildError, Swapping};
//!
//! fn main() -> Result<(), BuildError> {
//!     let arena = Arena::builder()
//!         .resident_limit(64 << 20) // more than this is evicted, the longest idle first
//!         .cold_age(Duration::from_secs(30)) // and what has been idle for so long, in any case
//!         .plain_memory_fallback(true) // where there is no userfaultfd, go on without evicting
//!         .build()?;
//!     if let Swapping::Off(reason) = arena.swapping() {
//!         eprintln!("nothing will be evicted: {reason}");
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
//! Linux 5.19 and later on 64-bit machines with 4 KiB pages. What the kernel offers is asked for
//! feature by feature ([`probe`]), never by version.
//!
//! | Linux         | [tracker](Tracker) | a touch of a page in memory that is being watched             |
//! |---------------|--------------------|----------------------------------------------------------------|
//! | 7.3 and later | [`Rwp`](Tracker::Rwp) | resolved inside the kernel, once per scan interval          |
//! | 5.19 to 7.2   | [`Zap`](Tracker::Zap) | a minor fault, once per scan interval                        |
//! | before        | none: [`BuildError`], or [plain memory](Builder::plain_memory_fallback) | -               |
//!
//! A process needs no privilege for its own faults. For system calls that are given evicted
//! memory, see the limits.
//!
//! # Limits
//!
//! * **System calls on evicted memory.** Where the process may only have a user-mode userfaultfd
//!   (no access to `/dev/userfaultfd`, the sysctl `vm.unprivileged_userfaultfd` 0, no
//!   `CAP_SYS_PTRACE`), and with [`FaultMode::Inline`] in any case, a system call that is given a
//!   pointer to an evicted page fails with `EFAULT`. [`pin`](Arena::pin) what it is given.
//!   [`Arena::serves_system_calls`] tells which case it is. A page in memory that has not been touched
//!   for a scan interval can be met by that too, while it is being evicted, or under
//!   [`Rwp`](Tracker::Rwp) while others are.
//! * **Pages that a device reads or writes by itself** (`O_DIRECT`, registered io_uring buffers,
//!   RDMA) have to be [pinned](Arena::pin): an eviction does not notice the device.
//! * **Descriptors.** An arena's threads keep its descriptors in a table of their own, so a program that
//!   closes descriptors which it did not open loses nothing but speed. [`probe`] tells where a sandbox
//!   forbids that (`close_range(2)`); there a program must not do so.
//! * **SIGBUS.** With [`FaultMode::Inline`], which is the default for a process that may serve faults of
//!   user code only, the process's handler for SIGBUS is ours, a thread that has it blocked must not
//!   touch evicted memory, and stacks need room for a signal frame and 1 KiB more: see there.
//! * **Stacks in an arena**, of threads, of coroutines and for signals, have to be
//!   [pinned](Arena::pin) from before their first use until after their last. The kernel writes the frame
//!   of a signal to the stack, as it writes for a system call: where the process may serve faults of user
//!   code only, and with [`FaultMode::Inline`], an evicted page there ends the process (SIGSEGV). When a
//!   thread ends the kernel writes to the top of its stack once more, and does not wait for a page in any
//!   mode: if that page was evicted a moment before, `pthread_join` waits for ever.
//! * **Robust mutexes** (`PTHREAD_MUTEX_ROBUST`) in an arena have to be [pinned](Arena::pin) from before
//!   they are locked until they are unlocked, or their owner has ended. The kernel goes through the
//!   robust mutexes of a thread when the thread ends, and does not wait for an evicted page in any mode:
//!   that mutex, and those that the thread locked before it, stay locked.
//! * **fork.** A child has no mapping of an arena: touching it there is SIGSEGV, allocating fails, and
//!   dropping it does nothing. `fork` followed by `exec` is fine, but for strings that lie in an arena
//!   (`EFAULT`). A child may build arenas of its own: a daemon builds its arenas after it has become
//!   one.
//! * **exec.** Strings for a program that lie in an arena are what a system call is given, for
//!   `posix_spawn` and [`Command`](std::process::Command) as well: see above.
//! * **Debuggers** are refused evicted pages (`EIO`: gdb says "Cannot access memory"), and never wait
//!   for them. With [`FaultMode::Inline`] gdb needs to be told `handle SIGBUS nostop noprint pass`.
//!   `process_vm_readv(2)` of another process is served as a system call of this one's would be; while
//!   this one is stopped there is nobody to do so, and it waits until this one goes on or it is killed.
//! * **Core dumps** leave arenas and their stores out, and so are small; what was in them is lost to
//!   whoever reads the dump.
//! * **dlclose.** An object that contains this library and has built an arena stays loaded for ever:
//!   the process has addresses of its code.
//! * **Errors on the way back.** A page whose stored copy is found damaged (by its CRC-32), or that
//!   the kernel refuses to put back, is SIGBUS to whoever touches it, and a line on standard error
//!   says so. While the kernel has no memory for it, the toucher waits. If a thread that brings pages
//!   back cannot go on, the process is aborted with the reason, rather than left hanging; if it is
//!   stuck, that is told and counted ([`Builder::stall_limit`]), and the process is aborted where that
//!   was asked for ([`Builder::abort_on_stall`]).
//! * **Objects of different heat on one page** keep the page in memory. A hash map that grows
//!   touches all of its entries: reserve room up front.
//! * **`mlock` and `mlockall`.** Under [`Zap`](Tracker::Zap) a locked page keeps the 2 MiB around it in
//!   memory, which is counted in [`Stats::kernel_errors`]. Under [`Rwp`](Tracker::Rwp) a locked page is
//!   evicted like any other: do not keep secrets in an arena. `mlockall` without `MCL_ONFAULT` would
//!   fill everything that arenas have reserved.
//! * **The mapping is the arena's.** `mprotect`, `munmap`, `mremap` and `madvise` on arena memory are
//!   as wrong as on any allocator's, but for the advice `MADV_RANDOM`, `MADV_SEQUENTIAL` and
//!   `MADV_NORMAL`.
//!
//! # When not to use it
//!
//! When everything is touched all the time, or nothing compresses; when microseconds for the first
//! touch of a cold page are too much; when the data is better left on disk and read when needed; or
//! when the machine's own swap to zram, which needs root but no change to the program, does as well.
//!
//! # Who brings a page back
//!
//! | [`FaultMode`] | a touch of an evicted page | system calls on evicted memory |
//! |---------------|----------------------------|--------------------------------|
//! | [`Handler`](FaultMode::Handler) | waits for a thread of the arena to wake up | work, with the privilege for it |
//! | [`Inline`](FaultMode::Inline)   | is served in the thread itself, several times as fast | `EFAULT`, unless pinned |
//!
//! [`Auto`](FaultMode::Auto), the default, is `Handler` where that serves system calls, else `Inline`.
//! Who wants speed and gives no evicted memory to system calls chooses `Inline`; who knows what it is
//! going to touch calls [`ensure`](Arena::ensure) and has no fault at all.
//!
//! # What is read once
//!
//! [`Arena::peek`] reads what is stored where it is: no page comes back for it, none has to go. A program
//! that knows what it reads often and what seldom does not even need memory for the latter.
//!
//! # What it may cost
//!
//! [`Builder::memory_limit`] bounds the pages in memory and the compressed copies together,
//! [`Builder::resident_limit`] the pages alone. Both are goals that the evictor keeps up with, and can be
//! changed at any time ([`Arena::set_memory_limit`]). A thread that brings pages in waits for the evictor
//! where the arena is far above its limit: by more than a quarter of the limit, or 4 MiB. A wait ends after
//! 20 ms, and there is none where the evictor finds nothing to evict; [`Stats::limit_waits`] counts them.
//! [`Arena::excess_bytes`] tells how far the evictor is behind.
//!
//! # What lies together
//!
//! A page gets as cold as the warmest object on it. Who knows which objects are touched often allocates
//! them in [`Arena::hot`], and what is going to sleep in [`Arena::cold`]: a [`Lane`] has pages of its
//! own. [`Arena::heap_stats`] tells what each holds.
//!
//! # Whole programs
//!
//! [`ArenaAlloc`] is a `#[global_allocator]`: all large blocks of a program, whatever crates it is made
//! of, come from an arena.
//!
//! # How it works
//!
//! [`design`] tells what happens to a page, and why no byte is ever wrong.

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
    Advice, AllocError, Arena, ArenaAlloc, ArenaError, ArenaLane, BuildError, Builder, Peek,
    PinGuard, StartError, Swapping,
};
pub use evict::Evicted;
pub use fault::FaultMode;
pub use stats::{LatencyHistogram, Stats};
pub use sys::{Capability, CapabilityStatus, DescriptorRoute, Probe, SysError, probe};
pub use track::Tracker;

/// The README's program is compiled and run like any other example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
