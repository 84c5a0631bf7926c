//! Commands to the evictor.
//!
//! A thread rings the evictor's bell to wake the evictor. Handler threads and signal handlers ring too, so
//! ringing must not wait. A signal handler may interrupt a thread of the program while that thread rings, and
//! touch an evicted page; then the handler thread that serves the page rings too. So the mailbox is a futex,
//! flags and a lock-free queue, and not a channel.

use super::builder::ColdAge;
use super::error::ArenaError;
use crate::evict::Evicted;
use crate::prim::PageRange;
use crate::prim::sync::channel::{Sender, bounded};
use crate::prim::sync::{AtomicBool, Ordering, thread};
use crate::sys::bell::Bell;
use crossbeam::queue::ArrayQueue;
use std::fmt;
use std::time::Duration;

/// The capacity of the queue. If it is full, hints are lost, and requests wait.
const QUEUE: usize = 64;

/// A request to the evictor.
pub(super) enum Command {
    /// Evict every page that the program does not touch meanwhile, and answer.
    EvictNow(Sender<Evicted>),
    /// Evict the pages of this range that the program does not touch meanwhile.
    EvictRange(PageRange),
    /// Bring these pages back.
    Restore(PageRange),
    /// Change the cold age, and answer.
    SetColdAge(ColdAge, Sender<()>),
    /// Call this function between cycles.
    Run(Box<dyn FnOnce() + Send>),
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EvictNow(_) => "EvictNow",
            Self::EvictRange(_) => "EvictRange",
            Self::Restore(_) => "Restore",
            Self::SetColdAge(..) => "SetColdAge",
            Self::Run(_) => "Run",
        })
    }
}

/// The evictor's mailbox.
#[derive(Debug)]
pub(super) struct Mailbox {
    queue: ArrayQueue<Command>,
    scan_requested: AtomicBool,
    stop: AtomicBool,
    /// The evictor no longer reads the queue.
    closed: AtomicBool,
    bell: Bell,
}

impl Mailbox {
    pub(super) fn new() -> Self {
        Self {
            queue: ArrayQueue::new(QUEUE),
            scan_requested: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            bell: Bell::new(),
        }
    }

    // The other threads' side.

    /// Has the evictor scan and evict before the next scan is due. Neither allocates nor waits.
    pub(super) fn request_scan(&self) {
        if !self.scan_requested.swap(true, Ordering::AcqRel) {
            self.bell.ring();
        }
    }

    /// Whether the evictor no longer reads the queue.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Leaves a hint, or drops it if the queue is full.
    pub(super) fn hint(&self, command: Command) {
        if self.queue.push(command).is_ok() {
            self.bell.ring();
        }
    }

    /// Sends a request and waits for the answer.
    pub(super) fn ask<T>(
        &self,
        command: impl FnOnce(Sender<T>) -> Command,
    ) -> Result<T, ArenaError> {
        let (reply, answer) = bounded(1);
        let mut command = command(reply);
        while let Err(again) = self.queue.push(command) {
            if self.closed.load(Ordering::SeqCst) {
                return Err(ArenaError::NotSwapping);
            }
            command = again;
            thread::yield_now();
        }
        self.bell.ring();
        // SeqCst, here and in `close`: either `close` sees the command, or this thread sees it closed.
        if self.closed.load(Ordering::SeqCst) {
            self.drop_all();
        }
        // The thread that drops the command drops the sender of the answer with it.
        answer.recv().map_err(|_| ArenaError::NotSwapping)
    }

    /// Ends the evictor after its present work.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
    }

    // The evictor's side.

    /// Sleeps until a thread rings, for `timeout` at most.
    pub(super) fn wait(&self, timeout: Duration) {
        self.bell.wait(timeout);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Whether a thread has requested a scan since the last call.
    pub(super) fn take_scan_request(&self) -> bool {
        self.scan_requested.swap(false, Ordering::AcqRel)
    }

    pub(super) fn take(&self) -> Option<Command> {
        self.queue.pop()
    }

    /// Closes the mailbox. Every thread that waits for an answer, now or later, gets an error.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.drop_all();
    }

    fn drop_all(&self) {
        while self.queue.pop().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_to_a_closed_mailbox_fails() {
        let mailbox = Mailbox::new();
        thread::scope(|scope| {
            let waits = scope.spawn(|| mailbox.ask(Command::EvictNow));
            while mailbox.queue.is_empty() {
                thread::yield_now();
            }
            mailbox.close();
            assert_eq!(waits.join().unwrap(), Err(ArenaError::NotSwapping));
        });
        for _ in 0..2 * QUEUE {
            assert_eq!(mailbox.ask(Command::EvictNow), Err(ArenaError::NotSwapping));
        }
    }

    #[test]
    fn a_full_queue_drops_hints() {
        let mailbox = Mailbox::new();
        for _ in 0..3 * QUEUE {
            mailbox.hint(Command::Restore(PageRange::new(0, 1)));
        }
        assert_eq!(std::iter::from_fn(|| mailbox.take()).count(), QUEUE);
    }
}
