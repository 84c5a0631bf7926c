//! Brings pages back, on a touch or ahead of it, and releases them.
//!
//! [`Resolver::resolve`] serves a fault; it decides by the page's word. Its callers are the [`handler`]
//! threads, which read messages from a descriptor, and the faulting thread in its SIGBUS handler
//! ([`inline`]). [`restore`] brings stored pages and their neighbours back. [`peek`] reads stored pages and
//! leaves them stored. [`pages`] fills runs with zeros, and releases runs.
//!
//! The fault path does not panic, does not allocate, and takes no lock that a thread of the program could
//! hold while it waits for a page. A thread of the program that owns pages (prefetch, peek, release) has its
//! signals blocked meanwhile: a signal handler that touched such a page would wait for the thread that it
//! interrupted.

pub(crate) mod handler;
pub(crate) mod inline;
mod pages;
mod peek;
mod restore;
mod scratch;

pub(crate) use crate::sys::backing::FillError;
pub(crate) use peek::Peeked;
pub(crate) use restore::{EmptyPages, RestoreOutcome};

use crate::alloc::BlockMap;
use crate::policy::{Readahead, ZeroFillWindow};
use crate::prim::sync::AtomicUsize;
use crate::prim::{PageIndex, PageRange};
use crate::stats::Progress;
use crate::sys::event;
use crate::table::{State, Waiters, Word};
use crate::track::Core;
use scratch::ScratchPool;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// The thread that brings a touched page back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultMode {
    /// [`Inline`](Self::Inline) if the process may serve only the faults of user code,
    /// [`Handler`](Self::Handler) if it may serve those of system calls too.
    #[default]
    Auto,
    /// A handler thread of the arena, to which the kernel sends a message for each fault. The faulting thread
    /// waits until the handler thread wakes up, which takes most of the time of a fault. While faults follow
    /// each other closely, handler threads stay awake. System calls on evicted memory work if the process has
    /// the privilege to serve their faults (see [`DescriptorRoute`](crate::DescriptorRoute)).
    ///
    /// Without that privilege, a signal on a stack in an evicted page ends the process (SIGSEGV): the kernel
    /// writes the signal frame, and such a write counts as a write of a system call.
    /// [`pin`](crate::Arena::pin) stacks that lie in an arena, those of coroutines too.
    Handler,
    /// The faulting thread itself, in a SIGBUS handler (`UFFD_FEATURE_SIGBUS`). A fault is served several
    /// times as fast, and faulting threads do not wait for each other. The conditions:
    ///
    /// * A system call on memory that is evicted, or is being evicted, fails with `EFAULT`, whether the
    ///   process has privileges or not. [`pin`](crate::Arena::pin) the memory before it goes to a system call.
    /// * The arena installs the process's SIGBUS handler. That handler passes a SIGBUS outside all arenas on
    ///   to the handler that was installed when the first such arena was built. A program that installs
    ///   another handler later must call the replaced one (`oldact` of `sigaction(2)`) for each SIGBUS that
    ///   the new handler does not serve. A line on standard error reminds of it. Install the new handler with
    ///   `SA_SIGINFO`, and, if other signal handlers touch evicted memory, with `SA_NODEFER` or with all
    ///   signals in its mask.
    /// * If the program ignored SIGBUS before, a program that it runs by `exec` does not ignore SIGBUS: `exec`
    ///   resets a handled signal to its default.
    /// * A thread that has SIGBUS blocked must not touch evicted memory: the kernel ends the process
    ///   (`signal(7)`, "a signal generated as a result of executing an instruction").
    /// * The handler starts on the thread's alternate signal stack (`sigaltstack(2)`), or on the thread's
    ///   own stack if it has no other. That stack needs room for a signal frame, which is 3 to 12 KiB on
    ///   x86-64 (`getauxval(AT_MINSIGSTKSZ)`), and 1 KiB more for each copy of this library in the
    ///   process. It needs the same room again if the previous handler touches evicted memory itself.
    ///   The build profile does not matter: the handler works on service stacks of the library (at least 64,
    ///   of 64 KiB of addresses each; they take memory as they are used). On machines other than x86-64,
    ///   aarch64 and riscv64 it works on the stack on which it starts, which then needs 16 KiB.
    /// * A stack may lie in an arena only if it is [pinned](crate::Arena::pin): the thread's own,
    ///   a coroutine's, and an alternate one. If it is not pinned, the kernel ends the process (SIGSEGV),
    ///   because it cannot write a signal frame to an evicted page.
    /// * Go's runtime allows a C library only handlers that start on the alternate stack
    ///   (`SA_ONSTACK`), because a goroutine's own stack is small and lies in Go's heap. The library's handler
    ///   starts there in every build. Go's SIGBUS handler is then the previous handler.
    Inline,
}

impl fmt::Display for FaultMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Handler => "handler",
            Self::Inline => "inline",
        })
    }
}

/// How a fault was resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// The page was empty, and has zeros now.
    Zeroed,
    /// The page was resident and protected. The protection is lifted.
    Unprotected,
    /// The page was claimed. It was taken back from the evictor, and its protection is lifted.
    TakenBack,
    /// The page has an owner, which will wake the faulting thread.
    Waiting,
    /// The page was stored, and has its bytes back.
    Restored,
    /// The page is lost. The faulting thread gets SIGBUS.
    Lost,
}

/// Serves the faults of an arena, restores pages ahead of a touch, and releases pages.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) core: Arc<Core>,
    map: Arc<BlockMap>,
    zero_fill: ZeroFillWindow,
    readahead: Readahead,
    scratches: ScratchPool,
    /// Handler threads that poll for a message.
    polling: AtomicUsize,
    /// For each descriptor, the page that its handler thread serves.
    progress: Box<[Progress]>,
}

impl Resolver {
    pub(crate) fn new(core: Arc<Core>, map: Arc<BlockMap>) -> Self {
        let progress = core.backing.uffds().iter().map(|_| Progress::default()).collect();
        Self {
            core,
            map,
            zero_fill: ZeroFillWindow::default(),
            readahead: Readahead::new(),
            scratches: ScratchPool::new(),
            polling: AtomicUsize::new(0),
            progress,
        }
    }

    /// The progress of the handler thread of descriptor `number`.
    pub(crate) fn progress(&self, number: usize) -> &Progress {
        &self.progress[number]
    }

    /// Serves a fault on `page`. The page's word decides, not the flag of the fault message, which may be
    /// late and describe a former state.
    ///
    /// The calling thread must have its signals blocked.
    pub(crate) fn resolve(&self, page: PageIndex) -> Resolved {
        loop {
            let seen = self.core.table.load(page);
            match seen.state() {
                State::Empty => {
                    let range =
                        self.zero_fill.window(page, |most| self.map.rest_of_block(page, most));
                    if let Some(resolved) = self.zero_fill(range) {
                        return resolved;
                    }
                }
                State::Resident | State::Claimed => {
                    if self.core.table.begin_unprotect(page, seen).is_ok() {
                        return self.unprotect(page, seen);
                    }
                }
                State::Dropping | State::Filling => {
                    if self.core.table.request_wake(page, seen).is_ok() {
                        return Resolved::Waiting;
                    }
                }
                State::Stored => {
                    self.core.store.prefetch(seen.handle());
                    if self.core.table.begin_fill(page, seen).is_ok() {
                        return self.restore_touched(page, seen);
                    }
                }
                State::Lost => {
                    if self.renew_poison(page, seen) {
                        return Resolved::Lost;
                    }
                }
            }
        }
    }

    /// Fills the first page of `range`, and the empty pages right after it, with zeros. None if the first
    /// page is not empty any more, or if the kernel has no memory now and the caller must try again.
    fn zero_fill(&self, range: PageRange) -> Option<Resolved> {
        match self.zero_run(range) {
            (0, None) => None,
            (0, Some(FillError::NoMemory)) => {
                event::report(format_args!("a thread waits for memory for a page that it touched"));
                None
            }
            (0, Some(error)) => {
                self.core.table.begin_fill(range.start, Word::EMPTY).ok()?;
                self.mark_lost(range.start, Word::EMPTY, &error);
                Some(Resolved::Lost)
            }
            (filled, _) => {
                self.core.counters.zero_filled_pages.add(filled as u64);
                Some(Resolved::Zeroed)
            }
        }
    }

    /// Lifts the protection of `page`, which the caller owns and whose word was `was`.
    fn unprotect(&self, page: PageIndex, was: Word) -> Resolved {
        if let Err(e) = self.core.isolation.admit(page.only()) {
            event::abort_process("cannot lift the protection of a page", &e);
        }
        self.wake(page.only(), self.core.table.finish_unprotect(page, was));
        if was.state() == State::Claimed {
            self.core.counters.evictions_cancelled.add(1);
            Resolved::TakenBack
        } else {
            self.core.counters.protection_faults.add(1);
            Resolved::Unprotected
        }
    }

    /// Counts a refault whose service began at `start`.
    fn count_refault(&self, start: Instant) {
        self.core.counters.refaults.add(1);
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.core.counters.refault_time.record(nanos);
    }

    /// Wakes the waiters of `range`, if there are any. The caller has just left the owned state.
    fn wake(&self, range: PageRange, waiters: Waiters) {
        if waiters.0
            && let Err(e) = self.core.table.wake(&self.core.backing, range)
        {
            event::abort_process("cannot wake the waiters of a page", &e);
        }
    }

    /// Poisons a lost page again, because a zap of the page-table entry removes the poison. False if the
    /// page's word is not `seen` any more.
    fn renew_poison(&self, page: PageIndex, seen: Word) -> bool {
        let taken = self.core.table.begin_poison(page, seen).is_ok();
        if taken {
            self.poison(page);
            self.wake(page.only(), self.core.table.finish_poison(page));
        }
        taken
    }

    /// Poisons all lost pages again. The arena calls this before it stops serving faults.
    pub(crate) fn renew_poison_of_lost_pages(&self) {
        if self.core.table.lost() == 0 {
            return;
        }
        for page in self.core.table.extent().iter() {
            loop {
                let seen = self.core.table.load(page);
                if seen.state() != State::Lost || self.renew_poison(page, seen) {
                    break;
                }
            }
        }
    }

    fn poison(&self, page: PageIndex) {
        if let Err(e) = self.core.backing.poison(page) {
            event::abort_process("cannot poison a lost page", &e);
        }
    }
}

#[cfg(test)]
#[cfg(not(thermocline_sim))]
mod damage;
#[cfg(test)]
#[cfg(not(thermocline_sim))]
mod fixture;
#[cfg(test)]
#[cfg(not(thermocline_sim))]
mod tests;
