//! Keeps an arena within its limits.

use super::limits::Limits;
use super::mailbox::Mailbox;
use crate::prim::sync::{AtomicBool, Ordering, thread};
use crate::track::Core;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest time that a thread waits after it has brought pages in.
const LONGEST_WAIT: Duration = Duration::from_millis(20);
/// How long a waiting thread sleeps before it checks again. The evictor evicts a batch in about twice that.
const WAIT_STEP: Duration = Duration::from_micros(200);
/// With at most this many pages in memory (4 MiB) no thread waits: the evictor would find little to evict.
const FEW_PAGES: usize = 1024;

/// How much memory an arena may take, and takes.
#[derive(Debug)]
pub(super) struct Budget {
    core: Arc<Core>,
    limits: Limits,
    mailbox: Arc<Mailbox>,
    /// The evictor's last cycle evicted less than half of the pages above the limit. Threads do not wait
    /// for it then.
    cannot_keep_limit: AtomicBool,
}

impl Budget {
    pub(super) fn new(core: Arc<Core>, limits: Limits, mailbox: Arc<Mailbox>) -> Self {
        Self { core, limits, mailbox, cannot_keep_limit: AtomicBool::new(false) }
    }

    /// Whether any limit is set.
    pub(super) fn has_limit(&self) -> bool {
        self.limits.are_set()
    }

    /// The most pages that may be in memory, if there is a limit.
    pub(super) fn limit(&self) -> Option<usize> {
        self.limits.resident(self.core.store.held_bytes())
    }

    /// Whether the pages in memory take more than three quarters of the limit.
    pub(super) fn is_near_limit(&self) -> bool {
        self.limit().is_some_and(|limit| self.core.table.resident() * 4 > limit * 3)
    }

    /// Pages in memory above the limit.
    pub(super) fn pages_over_limit(&self) -> usize {
        let resident = self.core.table.resident();
        self.limit().map_or(0, |limit| resident.saturating_sub(limit))
    }

    pub(super) fn is_over_limit(&self) -> bool {
        self.pages_over_limit() > 0
    }

    /// Pages, and pages' worth of the store's bytes, above the limits.
    pub(super) fn excess(&self) -> usize {
        self.limits.excess(self.core.table.resident(), self.core.store.held_bytes())
    }

    /// Changes the limits, and has the evictor evict if the arena is above them now.
    pub(super) fn change_limits(&self, change: impl FnOnce(&Limits)) {
        change(&self.limits);
        self.request_eviction();
    }

    /// Has the evictor evict if the arena is above its limit. Neither allocates nor waits.
    fn request_eviction(&self) {
        if self.is_over_limit() {
            self.mailbox.request_scan();
        }
    }

    /// Has the evictor evict if the arena is above its limit. If the arena is far above, waits until the
    /// evictor has caught up, for 20 ms at most: a thread that brings pages in must not outrun it for long.
    ///
    /// The caller has just brought pages in, and owns none. Neither allocates nor locks, so a signal handler
    /// may call it. The evictor must not call it: it would wait for itself.
    pub(super) fn keep_limit(&self) {
        if !self.is_over_limit() {
            return;
        }
        self.mailbox.request_scan();
        if self.should_wait() {
            self.wait_for_evictor();
        }
    }

    fn should_wait(&self) -> bool {
        self.excess() > self.limits.tolerance()
            && self.core.table.resident() > FEW_PAGES
            && !self.cannot_keep_limit.load(Ordering::Relaxed)
            && !self.mailbox.is_closed()
    }

    #[cold]
    fn wait_for_evictor(&self) {
        let start = Instant::now();
        while self.should_wait() && start.elapsed() < LONGEST_WAIT {
            thread::sleep(WAIT_STEP);
            self.request_eviction();
        }
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.core.counters.limit_waits.add(1);
        self.core.counters.limit_wait_nanos.add(nanos);
    }

    /// Notes whether the evictor's last cycle fell short of the limit. Only the evictor calls this.
    pub(super) fn set_cannot_keep_limit(&self, cannot: bool) {
        self.cannot_keep_limit.store(cannot, Ordering::Relaxed);
    }
}
