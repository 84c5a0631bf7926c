//! Serves a fault in the faulting thread, from its SIGBUS handler.
//!
//! No handler thread has to wake up. Waking up takes nine tenths of the time of a fault that a sleeping handler
//! thread serves. The code here runs in a signal handler, see [`Serve`].

use super::{Resolved, Resolver};
use crate::prim::PageIndex;
use crate::prim::sync::{AtomicBool, AtomicUsize, Ordering, thread};
use crate::sys::event;
use crate::sys::sigbus::{Serve, Served};
use crate::table::State;
use crossbeam::utils::CachePadded;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Serves an arena's faults inline.
pub(crate) struct Inline {
    resolver: Arc<Resolver>,
    /// The arena's memory is ordinary memory, or will be in a moment.
    stopped: AtomicBool,
    /// Threads that serve a fault now.
    serving: CachePadded<AtomicUsize>,
    filled: Box<dyn Fn() + Send + Sync>,
}

impl Inline {
    /// The faulting thread calls `filled` after each fault for which the page is in memory now, under the
    /// same conditions as [`Serve::serve`].
    pub(crate) fn new(resolver: Arc<Resolver>, filled: Box<dyn Fn() + Send + Sync>) -> Self {
        let serving = CachePadded::new(AtomicUsize::new(0));
        Self { resolver, stopped: AtomicBool::new(false), serving, filled }
    }

    /// Stops serving faults, and waits for the threads that serve one now. From here on a faulting thread
    /// repeats its touch until the kernel resolves it by itself.
    pub(crate) fn stop(&self) {
        // SeqCst, here and in `serve`: either this thread sees the count, or the serving thread sees `stopped`.
        self.stopped.store(true, Ordering::SeqCst);
        while self.serving.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
    }

    /// Answers a fault after `stop`: the memory is ordinary memory, or will be in a moment.
    fn serve_stopped(&self, page: PageIndex) -> Served {
        thread::yield_now();
        match self.resolver.core.table.load(page).state() {
            State::Lost => Served::Refused,
            _ if self.is_readable(page) => Served::Retry,
            _ => Served::Refused,
        }
    }

    fn serve_page(&self, page: PageIndex) -> Served {
        let start = Instant::now();
        let resolver = &self.resolver;
        resolver.core.counters.faults.add(1);
        match resolver.resolve(page) {
            Resolved::Restored => {
                resolver.count_refault(start);
                (self.filled)();
            }
            Resolved::Waiting => resolver.core.table.wait(page),
            Resolved::Unprotected if !self.is_readable(page) => return Served::Refused,
            Resolved::Zeroed | Resolved::Unprotected | Resolved::TakenBack => (self.filled)(),
            Resolved::Lost => return Served::Refused,
        }
        Served::Retry
    }

    /// Whether a page that is in memory and unprotected can be read. If not, the faulting thread must not
    /// repeat its touch: it would get SIGBUS for ever.
    fn is_readable(&self, page: PageIndex) -> bool {
        let read = self.resolver.core.backing.check_readable(page);
        if let Err(e) = &read {
            event::report(format_args!("page {} of an arena cannot be read: {e:#}", page.0));
        }
        read.is_ok()
    }
}

impl Serve for Inline {
    fn serve(&self, address: usize) -> Served {
        let Some(page) = self.resolver.core.backing.page_of(address as u64) else {
            return Served::Refused;
        };
        if self.stopped.load(Ordering::SeqCst) {
            return self.serve_stopped(page);
        }
        self.serving.fetch_add(1, Ordering::SeqCst);
        let stopped = self.stopped.load(Ordering::SeqCst);
        let served = if stopped { Served::Retry } else { self.serve_page(page) };
        self.serving.fetch_sub(1, Ordering::SeqCst);
        served
    }
}

impl fmt::Debug for Inline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inline").field("stopped", &self.stopped).finish_non_exhaustive()
    }
}
