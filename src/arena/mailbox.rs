//! How others talk to the evictor's thread.
//!
//! A fault handler talks to it too, so ringing must wait for nothing: a thread of the program may be
//! interrupted while it rings, by a signal handler that touches an evicted page, and the handler
//! that serves that page rings next. Hence a futex, flags and a lock-free queue, and no channel.

use super::error::ArenaError;
use super::limits::Limits;
use crate::evict::Evicted;
use crate::prim::PageRange;
use crate::prim::sync::channel::{Sender, bounded};
use crate::prim::sync::{AtomicBool, Ordering, thread};
use crate::stats::Counters;
use crate::store::Store;
use crate::sys::bell::Bell;
use crate::table::PageTable;
use crossbeam::queue::ArrayQueue;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Commands that may wait at a time. Hints beyond are dropped, demands wait for their turn.
const QUEUE: usize = 64;

/// What the evictor can be asked for.
pub(super) enum Command {
    /// Evict all that is not touched, and answer.
    EvictNow(Sender<Evicted>),
    /// Evict those of these pages that are not touched.
    EvictRange(PageRange),
    /// Bring these pages back.
    Restore(PageRange),
    /// Do this between cycles.
    Run(Box<dyn FnOnce() + Send>),
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EvictNow(_) => "EvictNow",
            Self::EvictRange(_) => "EvictRange",
            Self::Restore(_) => "Restore",
            Self::Run(_) => "Run",
        })
    }
}

/// The evictor's mailbox.
#[derive(Debug)]
pub(super) struct Mailbox {
    queue: ArrayQueue<Command>,
    /// There is something to evict before the next look is due.
    look: AtomicBool,
    stop: AtomicBool,
    /// Nobody reads any more.
    closed: AtomicBool,
    bell: Bell,
    table: Arc<PageTable>,
    store: Arc<Store>,
    limits: Limits,
    counters: Arc<Counters>,
    /// The evictor could not evict what it had to. Waiting for it would be in vain.
    cannot_keep_limit: AtomicBool,
}

/// For how long a thread waits at most, each time that it has brought pages in.
const LONGEST_WAIT: Duration = Duration::from_millis(20);
/// How long a waiting thread sleeps before it looks again. The evictor evicts a batch in about twice that.
const WAIT_STEP: Duration = Duration::from_micros(200);
/// With no more pages in memory than this the evictor has nothing to give: 4 MiB.
const FEW_PAGES: usize = 1024;

impl Mailbox {
    pub(super) fn new(
        table: Arc<PageTable>,
        store: Arc<Store>,
        limits: Limits,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            queue: ArrayQueue::new(QUEUE),
            look: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            bell: Bell::new(),
            table,
            store,
            limits,
            counters,
            cannot_keep_limit: AtomicBool::new(false),
        }
    }

    // Everybody else's side.

    /// Has the evictor look where there is more in memory than may be. Neither allocates nor waits.
    pub(super) fn look_if_over_limit(&self) {
        if self.is_over_limit() && !self.look.swap(true, Ordering::AcqRel) {
            self.bell.ring();
        }
    }

    /// Has the evictor look where there is more in memory than may be. Where there is far more, waits until
    /// the evictor has caught up, for 20 ms at most: a thread that brings pages in must not be
    /// faster than the evictor for long.
    ///
    /// For a thread that has just brought pages in, and owns none. Neither allocates nor locks, so a signal
    /// handler may call it. Not for the evictor, which would wait for itself.
    pub(super) fn keep_limit(&self) {
        if !self.is_over_limit() {
            return;
        }
        self.look_if_over_limit();
        if self.should_wait() {
            self.wait_for_evictor();
        }
    }

    /// Whether any limit is set.
    pub(super) fn has_limit(&self) -> bool {
        self.limits.are_set()
    }

    fn should_wait(&self) -> bool {
        self.excess() > self.limits.tolerance()
            && self.table.resident() > FEW_PAGES
            && !self.cannot_keep_limit.load(Ordering::Relaxed)
            && !self.closed.load(Ordering::Relaxed)
    }

    #[cold]
    fn wait_for_evictor(&self) {
        let start = Instant::now();
        while self.should_wait() && start.elapsed() < LONGEST_WAIT {
            thread::sleep(WAIT_STEP);
            self.look_if_over_limit();
        }
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counters.limit_waits.add(1);
        self.counters.limit_wait_nanos.add(nanos);
    }

    /// Whether there is more in memory than may be.
    pub(super) fn is_over_limit(&self) -> bool {
        self.limit().is_some_and(|limit| self.table.resident() > limit)
    }

    /// How many pages' worth of memory there is beyond what may be.
    pub(super) fn excess(&self) -> usize {
        self.limits.excess(self.table.resident(), self.store.held_bytes())
    }

    /// Pages that may be in memory, if there is a limit.
    pub(super) fn limit(&self) -> Option<usize> {
        self.limits.resident(self.store.held_bytes())
    }

    /// Changes the limits, and has the evictor look where there is more in memory than may be now.
    pub(super) fn change_limits(&self, change: impl FnOnce(&Limits)) {
        change(&self.limits);
        self.look_if_over_limit();
    }

    /// Leaves a hint, or drops it where there is no room.
    pub(super) fn hint(&self, command: Command) {
        if self.queue.push(command).is_ok() {
            self.bell.ring();
        }
    }

    /// Asks for something and waits for the answer.
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
        // SeqCst, here and in `close`: either the closer sees the command, or we see it closed.
        if self.closed.load(Ordering::SeqCst) {
            self.drop_all();
        }
        // Who drops the command drops the other end of the answer with it.
        answer.recv().map_err(|_| ArenaError::NotSwapping)
    }

    /// Ends the evictor's thread when it is done with what it is doing.
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

    /// Whether somebody has asked for a look.
    pub(super) fn take_look(&self) -> bool {
        self.look.swap(false, Ordering::AcqRel)
    }

    /// Notes whether the evictor could evict what it had to.
    pub(super) fn set_cannot_keep_limit(&self, cannot: bool) {
        self.cannot_keep_limit.store(cannot, Ordering::Relaxed);
    }

    pub(super) fn take(&self) -> Option<Command> {
        self.queue.pop()
    }

    /// Nobody will read any more: whoever waits for an answer, now or later, is told.
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

    fn mailbox() -> Mailbox {
        let table = Arc::new(PageTable::new(512).unwrap());
        let store = Arc::new(Store::new(1 << 20).unwrap());
        Mailbox::new(table, store, Limits::new(None, None), Arc::default())
    }

    #[test]
    fn who_asks_a_closed_mailbox_is_told() {
        let mailbox = mailbox();
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
    fn hints_beyond_what_there_is_room_for_are_dropped() {
        let mailbox = mailbox();
        for _ in 0..3 * QUEUE {
            mailbox.hint(Command::Restore(PageRange::new(0, 1)));
        }
        assert_eq!(std::iter::from_fn(|| mailbox.take()).count(), QUEUE);
    }
}
