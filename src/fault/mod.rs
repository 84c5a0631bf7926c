//! Bringing pages back: for whoever touched them, ahead of a touch, or never again.
//!
//! [`Resolver::resolve`] decides by the page's word what a fault on it means. A fault comes to it
//! by one of two ways: [`handler`], threads that read messages from a descriptor, or [`inline`], the
//! thread that touched the page, in its signal handler. [`restore`] brings pages back from the store
//! and [`neighbours`] says which ones along with another; [`peek`] reads them where they are; [`pages`]
//! does what has to be done to whole runs of pages.
//!
//! Nothing here panics, allocates, or takes a lock that a thread of the application could hold
//! while it waits for a page. A thread of the application that owns pages (prefetch, release) has
//! its signals blocked for that time: a handler of its own that touched one of those pages would
//! wait for the very thread that it interrupted.

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

/// Who brings back a page that was touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultMode {
    /// [`Inline`](Self::Inline) where the process may serve faults of user code only,
    /// [`Handler`](Self::Handler) where it may serve those of system calls too.
    #[default]
    Auto,
    /// Threads of the arena, which the kernel tells of each touch. A touch of an evicted page waits
    /// for one of them to wake up, which takes most of the time; while touches follow each other
    /// closely they stay awake. Where the process has the privilege for it (see
    /// [`DescriptorRoute`](crate::DescriptorRoute)), system calls on evicted memory work.
    ///
    /// Where the process lacks it, a signal that is delivered on a stack in an evicted page ends the
    /// process (SIGSEGV): the kernel writes the frame of the signal, as it writes for a system call.
    /// [`pin`](crate::Arena::pin) stacks that lie in an arena, those of coroutines too.
    Handler,
    /// The thread itself, in a handler for SIGBUS (`UFFD_FEATURE_SIGBUS`). Several times as fast,
    /// and threads that touch pages do not wait for each other. But:
    ///
    /// * A system call that is given evicted memory, or memory on its way out, fails with `EFAULT`,
    ///   whatever the privileges: [`pin`](crate::Arena::pin) what it is given.
    /// * The process's handler for SIGBUS is the arena's. What is none of its own it passes on to
    ///   the one that was there when the first such arena was built. A program that installs
    ///   another one later must call the one it has replaced (`oldact` of `sigaction(2)`) for
    ///   whatever is not its own; a line on standard error reminds of it. It has to be installed with
    ///   `SA_SIGINFO`, and with `SA_NODEFER` or all signals in its mask if other handlers touch
    ///   evicted memory.
    /// * A program that ignores SIGBUS does not pass that on by `exec` any more: what is handled is
    ///   reset to the default there.
    /// * A thread that has SIGBUS blocked must not touch evicted memory: the kernel ends the process
    ///   (`signal(7)`, "a signal generated as a result of executing an instruction").
    /// * The handler starts on the thread's alternate signal stack (`sigaltstack(2)`), or on the thread's
    ///   own stack if it has no other. That stack needs room for a signal frame, which is 3 to 12 KiB on
    ///   x86-64 (`getauxval(AT_MINSIGSTKSZ)`), and 1 KiB more for each copy of this library in the
    ///   process. It needs the same room again if the handler before ours touches evicted memory itself.
    ///   The build profile does not matter: the handler does its work on stacks that the library has for
    ///   it (at least 64, of 64 KiB of addresses each; they take memory as they are used). On machines
    ///   other than x86-64, aarch64 and riscv64 it works on the stack on which it starts, which then
    ///   needs 16 KiB.
    /// * A stack may lie in an arena only if it is [pinned](crate::Arena::pin): the thread's own,
    ///   a coroutine's, and an alternate one. Elsewhere the kernel ends the process (SIGSEGV), because
    ///   it cannot write the frame of a signal to an evicted page.
    /// * Go's runtime allows a C library only handlers that start on the alternate stack
    ///   (`SA_ONSTACK`), because a goroutine's own stack is small and lies in Go's heap. Ours does so in
    ///   every build. Go's handler for SIGBUS is the one before ours.
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

/// What resolving a fault came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// The page was empty; zeros were put in place.
    Zeroed,
    /// The page was in memory; access was given back.
    Unprotected,
    /// The page was taken from the evictor.
    TakenBack,
    /// Somebody else is at work on the page and will wake the toucher.
    Waiting,
    /// The page's bytes were brought back from the store.
    Restored,
    /// The page's bytes are gone; the toucher gets SIGBUS.
    Lost,
}

/// Brings pages back.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) core: Arc<Core>,
    map: Arc<BlockMap>,
    zero_fill: ZeroFillWindow,
    readahead: Readahead,
    scratches: ScratchPool,
    /// Handler threads that poll for a message.
    polling: AtomicUsize,
    /// The page that the handler thread of each descriptor is at.
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

    /// What the handler of the descriptor with this number is at.
    pub(crate) fn progress(&self, number: usize) -> &Progress {
        &self.progress[number]
    }

    /// Serves a fault on `page`, of whatever kind: what has to be done is in the page's word. A
    /// message may be late, and its flag tell of a state long gone.
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

    /// Fills the first page of `range`, and what is empty right after it. None if the first page
    /// is not empty any more, or has to be tried again because there was no memory for it.
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

    /// Gives access to the page, which the caller has taken.
    fn unprotect(&self, page: PageIndex, was: Word) -> Resolved {
        if let Err(e) = self.core.isolation.admit(page.only()) {
            event::abort_process("cannot give access to a page", &e);
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

    /// Counts a page that was brought back for its toucher, by whoever began at `start`.
    fn count_refault(&self, start: Instant) {
        self.core.counters.refaults.add(1);
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.core.counters.refault_time.record(nanos);
    }

    /// Wakes the waiters that a page's owner has found.
    fn wake(&self, range: PageRange, waiters: Waiters) {
        if waiters.0
            && let Err(e) = self.core.table.wake(&self.core.backing, range)
        {
            event::abort_process("cannot wake the waiters of a page", &e);
        }
    }

    /// Makes sure that whoever touches a lost page learns of it: poison does not outlast the page's
    /// being taken out of the page table. False if the page is not what it was any more.
    fn renew_poison(&self, page: PageIndex, seen: Word) -> bool {
        let taken = self.core.table.begin_poison(page, seen).is_ok();
        if taken {
            self.poison(page);
            self.wake(page.only(), self.core.table.finish_poison(page));
        }
        taken
    }

    /// Makes sure of it for all lost pages, before nobody serves touches any more.
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
