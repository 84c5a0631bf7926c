//! The watchdog: the thread that finds and reports stalls.
//!
//! A thread of the arena that panics aborts the process and reports why. A thread that is stuck, in the
//! kernel or without a processor to run on, would leave threads waiting for pages without a report. The
//! evictor and the handler threads cannot report it: each may be the stuck one, and the evictor may sleep
//! for an hour. The watchdog takes no lock, touches no arena memory and depends on no other thread. It
//! checks
//!
//! * each handler thread: its present message, and whether its descriptor has unread messages;
//! * the evictor, while it has claimed pages;
//! * each page with waiters, because its owner may be any thread: one that prefetches or releases, or one
//!   that serves its own touch.

use super::builder::Config;
use super::stall::{StallDetector, StallEvent, is_on_time, period};
use crate::fault::{FaultMode, Resolver};
use crate::prim::PageIndex;
use crate::stats::{Progress, Seen};
use crate::sys;
use crate::sys::bell::Bell;
use crate::sys::event;
use crate::sys::thread::JoinHandle;
use crate::table::{WAITER_LOG_ENTRIES, WaiterSample};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The running thread. Dropping this ends the thread.
#[derive(Debug)]
pub(super) struct Watchdog {
    thread: Option<JoinHandle>,
    stop: Arc<Bell>,
}

impl Watchdog {
    /// Starts the thread. The keeper must call this, because the watchdog shares its descriptor table.
    pub(super) fn spawn(
        config: &Config,
        resolver: Arc<Resolver>,
        evictor: Arc<Progress>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(Bell::new());
        let now = Instant::now();
        // With inline faults there are no handler threads.
        let inline = config.fault_mode == FaultMode::Inline;
        let handlers = if inline { 0 } else { config.handler_threads };
        let mut checks = Checks {
            resolver,
            evictor,
            handlers: (0..handlers).map(|_| StallDetector::new(now)).collect(),
            evictor_stall: StallDetector::new(now),
            pages: (0..WAITER_LOG_ENTRIES).map(|_| StallDetector::new(now)).collect(),
            aborts: config.abort_on_stall,
        };
        let (stopped, period) = (Arc::clone(&stop), period(config.stall_limit));
        let failed = "the watchdog failed";
        let thread = sys::thread::spawn("thermo-watch", failed, move || {
            let mut before = Instant::now();
            while !stopped.wait(period) {
                let now = Instant::now();
                checks.run(now, is_on_time(now.duration_since(before), period));
                before = now;
            }
        })?;
        Ok(Self { thread: Some(thread), stop })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop.ring();
        if let Some(thread) = self.thread.take() {
            // Its panic aborts the process.
            let _ = thread.join();
        }
    }
}

/// A stall detector for each thread of the arena and for each sampled page with waiters.
struct Checks {
    resolver: Arc<Resolver>,
    evictor: Arc<Progress>,
    /// The page that each handler thread is at, and whether it leaves messages unread.
    handlers: Vec<StallDetector<(Seen, bool)>>,
    evictor_stall: StallDetector<Seen>,
    pages: Vec<StallDetector<WaiterSample>>,
    aborts: bool,
}

impl Checks {
    fn run(&mut self, now: Instant, on_time: bool) {
        let resolver = &self.resolver;
        let reporter = Reporter { resolver, aborts: self.aborts };
        for (number, detector) in self.handlers.iter_mut().enumerate() {
            let progress = resolver.progress(number);
            let seen = progress.seen();
            let unread = resolver.core.backing.uffds()[number].has_messages();
            // While the handler thread serves a message, it need not read the next ones.
            let work = match seen.page() {
                Some(_) => Some((seen, false)),
                None => unread.then_some((seen, true)),
            };
            let handler = Suspect::Handler { number, thread: progress.thread(), page: seen.page() };
            reporter.report(&handler, detector.check(work, now, on_time));
        }
        let seen = self.evictor.seen();
        let evictor = Suspect::Evictor { thread: self.evictor.thread(), page: seen.page() };
        let work = seen.page().map(|_| seen);
        reporter.report(&evictor, self.evictor_stall.check(work, now, on_time));
        for (place, detector) in self.pages.iter_mut().enumerate() {
            let waited = resolver.core.table.waiter_sample(place);
            let page = waited.map(WaiterSample::page);
            reporter.report(&Suspect::Owner { page }, detector.check(waited, now, on_time));
        }
    }
}

/// A thread that may be stuck, and the page that it is at, if any.
enum Suspect {
    Handler { number: usize, thread: u32, page: Option<PageIndex> },
    Evictor { thread: u32, page: Option<PageIndex> },
    Owner { page: Option<PageIndex> },
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handler { number, thread, .. } => {
                write!(f, "the fault handler thermo-fault{number} (thread {thread})")
            }
            Self::Evictor { thread, .. } => {
                write!(f, "the evictor thermo-evict (thread {thread})")
            }
            Self::Owner { .. } => f.write_str("the owner of a page with waiters"),
        }
    }
}

struct Reporter<'a> {
    resolver: &'a Resolver,
    aborts: bool,
}

impl Reporter<'_> {
    fn report(&self, suspect: &Suspect, event: Option<StallEvent>) {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        match event {
            None => {}
            Some(StallEvent::Ended(time)) => {
                event::report(format_args!(
                    "{suspect} makes progress again after {}",
                    seconds(time)
                ));
            }
            Some(StallEvent::Began(time)) => {
                self.resolver.core.counters.stalls.add(1);
                let work = self.work_of(suspect);
                let stall = format!("{suspect} has been {work} for {}", seconds(time));
                if self.aborts {
                    event::abort_process("a stall, and Builder::abort_on_stall is set", &stall);
                }
                event::report(format_args!(
                    "{stall}; touches of evicted pages wait for it. To see what the thread does, read \
                     wchan, status and stack in /proc/{}/task/THREAD, or attach a debugger",
                    std::process::id()
                ));
            }
        }
    }

    /// What the thread is doing, for a report.
    fn work_of(&self, suspect: &Suspect) -> String {
        let state = |page| self.resolver.core.table.load(page).state();
        match *suspect {
            Suspect::Handler { page: None, .. } => "leaving messages unread".to_owned(),
            Suspect::Handler { page: Some(page), .. }
            | Suspect::Evictor { page: Some(page), .. } => {
                format!("at page {} ({:?})", page.0, state(page))
            }
            Suspect::Owner { page: Some(page) } => {
                format!("keeping page {} {:?}", page.0, state(page))
            }
            Suspect::Evictor { page: None, .. } | Suspect::Owner { page: None } => String::new(),
        }
    }
}
