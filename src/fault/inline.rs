//! Serving faults in the thread that touched the page, from its SIGBUS handler.
//!
//! No thread has to wake up, which is nine tenths of what a fault costs by way of a sleeping
//! handler. All that runs here runs in a signal handler, see [`Serve`].

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

/// Serves the touches of an arena's pages.
pub(crate) struct Inline {
    resolver: Arc<Resolver>,
    /// The memory is about to be ordinary memory, or is.
    stopped: AtomicBool,
    /// Threads that are being served.
    serving: CachePadded<AtomicUsize>,
    filled: Box<dyn Fn() + Send + Sync>,
}

impl Inline {
    /// `filled` is called after each page that was put in place, under the same conditions as
    /// [`Serve::serve`].
    pub(crate) fn new(resolver: Arc<Resolver>, filled: Box<dyn Fn() + Send + Sync>) -> Self {
        let serving = CachePadded::new(AtomicUsize::new(0));
        Self { resolver, stopped: AtomicBool::new(false), serving, filled }
    }

    /// Serves nobody any more, and waits for those that are being served: a touch is tried again from
    /// here on until the kernel resolves it by itself.
    pub(crate) fn stop(&self) {
        // SeqCst, here and in `serve`: either we see the thread that is served, or it sees this.
        self.stopped.store(true, Ordering::SeqCst);
        while self.serving.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
    }

    /// What is to be done about a touch of memory that is ordinary memory, or will be in a moment.
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

    /// Whether a page that is in memory, and whose protection was lifted, can be read at all. If
    /// not, touching it again would be SIGBUS again, for ever.
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
