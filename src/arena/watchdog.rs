//! The thread that tells of others that do not go on.
//!
//! A thread of the arena that dies takes the process with it, and says why. One that is stuck, in the
//! kernel or for want of a processor, would leave threads parked on pages in silence. Neither the
//! evictor nor a handler could tell of it: each may be the one that is stuck, and the evictor sleeps
//! for up to an hour. So there is a thread for it, which sleeps, takes no lock, touches no arena and
//! needs nobody. It looks at
//!
//! * each handler: at which message it is, and whether its descriptor has some that it does not read;
//! * the evictor, while it has claimed pages;
//! * pages whose owner somebody waits for, whoever that is: a thread that prefetches or releases,
//!   or that serves its own touch.

use super::builder::Config;
use super::stall::{StallDetector, Verdict, is_punctual, period};
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

/// The running thread; dropping it ends it.
#[derive(Debug)]
pub(super) struct Watchdog {
    thread: Option<JoinHandle>,
    stop: Arc<Bell>,
}

impl Watchdog {
    /// Starts it; called on the keeper's thread, whose descriptors it shares.
    pub(super) fn spawn(
        config: &Config,
        resolver: Arc<Resolver>,
        evictor: Arc<Progress>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(Bell::new());
        let now = Instant::now();
        // Touches that are served inline send no messages.
        let inline = config.fault_mode == FaultMode::Inline;
        let handlers = if inline { 0 } else { config.handler_threads };
        let mut rounds = Rounds {
            resolver,
            evictor,
            of_handlers: (0..handlers).map(|_| StallDetector::new(now)).collect(),
            of_evictor: StallDetector::new(now),
            of_pages: (0..WAITER_LOG_ENTRIES).map(|_| StallDetector::new(now)).collect(),
            aborts: config.abort_on_stall,
        };
        let (stopped, period) = (Arc::clone(&stop), period(config.stall_limit));
        let failed = "the watchdog failed";
        let thread = sys::thread::spawn("thermo-watch", failed, move || {
            let mut before = Instant::now();
            while !stopped.wait(period) {
                let now = Instant::now();
                rounds.look(now, is_punctual(now.duration_since(before), period));
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

struct Rounds {
    resolver: Arc<Resolver>,
    evictor: Arc<Progress>,
    /// What each is at, and whether there are messages that it has not read.
    of_handlers: Vec<StallDetector<(Seen, bool)>>,
    of_evictor: StallDetector<Seen>,
    of_pages: Vec<StallDetector<WaiterSample>>,
    aborts: bool,
}

impl Rounds {
    fn look(&mut self, now: Instant, punctual: bool) {
        let resolver = &self.resolver;
        let report = Report { resolver, aborts: self.aborts };
        for (number, suspicion) in self.of_handlers.iter_mut().enumerate() {
            let progress = resolver.progress(number);
            let seen = progress.seen();
            let unread = resolver.core.backing.uffds()[number].has_messages();
            // Whether there are more is no matter while it is at one.
            let at = match seen.page() {
                Some(_) => Some((seen, false)),
                None => unread.then_some((seen, true)),
            };
            let handler = Stuck::Handler { number, thread: progress.thread(), page: seen.page() };
            report.tell(&handler, suspicion.look(at, now, punctual));
        }
        let seen = self.evictor.seen();
        let evictor = Stuck::Evictor { thread: self.evictor.thread(), page: seen.page() };
        let at = seen.page().map(|_| seen);
        report.tell(&evictor, self.of_evictor.look(at, now, punctual));
        for (place, suspicion) in self.of_pages.iter_mut().enumerate() {
            let waited = resolver.core.table.waiter_sample(place);
            let page = waited.map(WaiterSample::page);
            report.tell(&Stuck::Owner { page }, suspicion.look(waited, now, punctual));
        }
    }
}

/// Who is stuck, and at which page; at none, where it is about going on.
enum Stuck {
    Handler { number: usize, thread: u32, page: Option<PageIndex> },
    Evictor { thread: u32, page: Option<PageIndex> },
    Owner { page: Option<PageIndex> },
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handler { number, thread, .. } => {
                write!(f, "the fault handler thermo-fault{number} (thread {thread})")
            }
            Self::Evictor { thread, .. } => {
                write!(f, "the evictor thermo-evict (thread {thread})")
            }
            Self::Owner { .. } => f.write_str("the owner of a page that others wait for"),
        }
    }
}

struct Report<'a> {
    resolver: &'a Resolver,
    aborts: bool,
}

impl Report<'_> {
    fn tell(&self, who: &Stuck, found: Verdict) {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        match found {
            Verdict::Nothing => {}
            Verdict::GoesOn(stood) => {
                event::report(format_args!("{who} goes on, after {}", seconds(stood)));
            }
            Verdict::Stalled(stood) => {
                self.resolver.core.counters.stalls.add(1);
                let at = self.at(who);
                let stall = format!("{who} has been {at} for {}", seconds(stood));
                if self.aborts {
                    event::abort_process(
                        "a stall, and Builder::abort_on_stall was asked for",
                        &stall,
                    );
                }
                event::report(format_args!(
                    "{stall}; touches of evicted pages wait for it. What a thread is doing is in wchan, \
                     status and stack of /proc/{}/task/THREAD, and in a debugger",
                    std::process::id()
                ));
            }
        }
    }

    /// What somebody is at.
    fn at(&self, who: &Stuck) -> String {
        let state = |page| self.resolver.core.table.load(page).state();
        match *who {
            Stuck::Handler { page: None, .. } => "leaving messages unread".to_owned(),
            Stuck::Handler { page: Some(page), .. } | Stuck::Evictor { page: Some(page), .. } => {
                format!("at page {} ({:?})", page.0, state(page))
            }
            Stuck::Owner { page: Some(page) } => {
                format!("keeping page {} {:?}", page.0, state(page))
            }
            Stuck::Evictor { page: None, .. } | Stuck::Owner { page: None } => String::new(),
        }
    }
}
