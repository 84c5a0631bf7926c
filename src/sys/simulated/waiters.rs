//! Threads that wait for a page, a word or a descriptor.

use super::kernel::State;
use crate::prim::PageIndex;
use crate::prim::sync::thread::Thread;

/// Why a faulting thread has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Missing,
    WriteProtected,
    ReadWriteProtected,
}

/// A faulting thread that waits for a page. It is also the fault message, read or not.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) ticket: u64,
    pub(crate) descriptor: usize,
    pub(crate) page: PageIndex,
    pub(crate) read: bool,
    pub(crate) reason: Reason,
    pub(crate) thread: Thread,
}

/// A thread that sleeps until a word, an event or a message wakes it.
#[derive(Debug)]
pub(crate) struct Sleeper {
    pub(crate) on: WakeSource,
    pub(crate) ticket: u64,
    pub(crate) thread: Thread,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WakeSource {
    Word(usize),
    Event(usize),
    Messages(usize),
}

impl State {
    pub(crate) fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// Wakes the faulting threads that `which` selects. This removes their unread messages.
    pub(crate) fn wake_where(&mut self, which: impl Fn(&Waiter) -> bool) {
        self.waiters.retain(|waiter| {
            let woken = which(waiter);
            if woken {
                waiter.thread.unpark();
            }
            !woken
        });
    }

    pub(crate) fn wake_sleepers(&mut self, on: WakeSource) {
        self.sleepers.retain(|sleeper| {
            let woken = sleeper.on == on;
            if woken {
                sleeper.thread.unpark();
            }
            !woken
        });
    }

    /// Whether the descriptor has an unread message.
    pub(crate) fn has_message(&self, descriptor: usize) -> bool {
        self.waiters.iter().any(|w| w.descriptor == descriptor && !w.read)
    }
}
