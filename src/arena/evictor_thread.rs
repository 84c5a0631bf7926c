//! The thread that looks and evicts.

use super::budget::Budget;
use super::builder::Config;
use super::mailbox::{Command, Mailbox};
use crate::alloc::Heap;
use crate::evict::Evictor;
use crate::fault::{EmptyPages, FaultMode, Resolver};
use crate::policy::{self, EvictionPlan, Situation};
use crate::prim::{PageRange, Tick};
use crate::sys;
use crate::sys::event;
use crate::sys::sigbus;
use crate::sys::thread::JoinHandle;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// The running thread; dropping it stops it at the end of what it is doing.
#[derive(Debug)]
pub(super) struct EvictorThread {
    thread: Option<JoinHandle>,
    mailbox: Arc<Mailbox>,
}

impl EvictorThread {
    /// Starts it; called on the keeper's thread, whose descriptors it shares.
    pub(super) fn spawn(
        config: &Config,
        evictor: Evictor,
        resolver: Arc<Resolver>,
        mailbox: Arc<Mailbox>,
        budget: Arc<Budget>,
        heap: Weak<Heap>,
    ) -> std::io::Result<Self> {
        let thread = Loop {
            evictor,
            resolver,
            mailbox: Arc::clone(&mailbox),
            budget,
            heap,
            config: *config,
            started: Instant::now(),
            cycles: 0,
            pause: SHORTEST_PAUSE,
            sweep: None,
            warned: false,
        };
        // A panic may leave pages claimed, and their touchers waiting.
        let failed = "the evictor failed";
        let thread = sys::thread::spawn("thermo-evict", failed, || thread.run())?;
        Ok(Self { thread: Some(thread), mailbox })
    }
}

impl Drop for EvictorThread {
    fn drop(&mut self) {
        self.mailbox.stop();
        if let Some(thread) = self.thread.take() {
            // Its panic aborts the process.
            let _ = thread.join();
        }
    }
}

struct Loop {
    evictor: Evictor,
    resolver: Arc<Resolver>,
    mailbox: Arc<Mailbox>,
    budget: Arc<Budget>,
    heap: Weak<Heap>,
    config: Config,
    started: Instant,
    cycles: u64,
    /// How long to leave an arena alone that is above its limit and gives nothing away.
    pause: Duration,
    /// When to go on with giving free memory back, if that is not done.
    sweep: Option<Instant>,
    /// Whether [`Self::check_sigbus_handler`] has had something to say.
    warned: bool,
}

/// The shortest pause: a thread that writes fresh pages is done with some of them by then.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);

/// The pause between steps of giving free memory back, each of which takes a millisecond.
const SWEEP_PAUSE: Duration = Duration::from_millis(8);

impl Loop {
    fn run(mut self) {
        self.evictor.progress().set_thread(sys::thread::id());
        let mut due = self.started + self.config.scan_interval;
        // When to look before that, if somebody has asked for it.
        let mut early = None;
        while !self.mailbox.is_stopping() {
            let next = [early, self.sweep].into_iter().flatten().fold(due, Instant::min);
            self.mailbox.wait(next.saturating_duration_since(Instant::now()));
            let now = Instant::now();
            if self.mailbox.take_scan_request() && early.is_none() {
                early = Some(now);
            }
            if now >= due {
                self.cycle();
                // A whole interval after the last was due, unless that has passed already.
                due = (due + self.config.scan_interval).max(Instant::now());
            } else if early.is_some_and(|early| now >= early) {
                early = self.look_early();
            } else if self.sweep.is_some_and(|sweep| now >= sweep) {
                let more = self.heap.upgrade().is_some_and(|heap| heap.sweep());
                self.sweep = more.then(|| Instant::now() + SWEEP_PAUSE);
            }
            while !self.mailbox.is_stopping()
                && let Some(command) = self.mailbox.take()
            {
                self.execute(command);
            }
        }
        self.mailbox.close();
    }

    /// Looks because there is more in memory than may be, and says when to look again if there still
    /// is: at once where something went, after pauses that double where nothing did.
    fn look_early(&mut self) -> Option<Instant> {
        if self.cycle() > 0 {
            self.pause = SHORTEST_PAUSE;
            return self.budget.is_over_limit().then(Instant::now);
        }
        let again = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(self.config.scan_interval);
        self.budget.is_over_limit().then_some(again)
    }

    fn execute(&mut self, command: Command) {
        let all = self.resolver.core.table.all();
        match command {
            // Who asked may be gone, and who left a hint does not wait to hear.
            Command::EvictNow(reply) => drop(reply.send(self.evictor.evict_all(self.now(), all))),
            Command::EvictRange(range) => drop(self.evictor.evict_all(self.now(), range)),
            Command::Restore(range) => self.restore(range),
            Command::Run(what) => what(),
        }
    }

    /// The arena's time, in ticks since it was built. Under zeal each cycle is a tick.
    fn now(&self) -> Tick {
        if self.config.zeal {
            return Tick::new(self.cycles);
        }
        self.config.clock.tick_at(self.started.elapsed())
    }

    /// Looks and evicts once, and says how many pages went.
    fn cycle(&mut self) -> usize {
        self.cycles += 1;
        self.check_sigbus_handler();
        self.resolver.core.counters.scans.add(1);
        self.release_what_is_free();
        let now = self.now();
        if self.config.zeal {
            return self.evictor.evict_all(now, self.resolver.core.table.all()).pages;
        }
        let over = self.budget.pages_over_limit();
        let (plan, enough) = self.plan(now, false);
        // If it is not enough, only the resting regions are left.
        let plan = if enough { plan } else { self.plan(now, true).0 };
        let done = plan.map(|plan| self.evictor.execute(now, plan)).unwrap_or_default();
        self.evictor.trim();
        // Threads that bring pages in wait for the evictor only while that helps.
        self.budget.set_cannot_keep_limit(done.pages < over / 2);
        done.pages
    }

    /// Looks who was touched, and makes a plan of it; false if it will not bring the arena below
    /// its limit.
    fn plan(&mut self, now: Tick, all: bool) -> (Option<EvictionPlan>, bool) {
        // What the kernel refused has been counted, and the regions that it concerns rest.
        let _ = self.evictor.scan(now, all);
        let resident = self.resolver.core.table.resident();
        let limit = self.budget.limit();
        let ages = self.evictor.ages(now);
        let cold_age = self.config.cold_ticks;
        let plan = policy::plan(&Situation { ages: &ages, resident, limit, cold_age });
        (plan, plan.map_or(0, |plan| plan.pages) >= self.budget.pages_over_limit())
    }

    /// Gives back freed memory, if it has been free for a while or there is more than may be.
    fn release_what_is_free(&mut self) {
        let Some(heap) = self.heap.upgrade() else {
            self.sweep = None;
            return;
        };
        self.sweep = heap.tick().then(|| Instant::now() + SWEEP_PAUSE);
        if self.budget.is_over_limit() {
            heap.release_dirty();
        }
    }

    fn restore(&self, range: PageRange) {
        // A hint: what cannot be brought back now is brought back when it is touched.
        if let Ok(brought) = self.resolver.restore(range, EmptyPages::Leave) {
            self.resolver.core.counters.prefetched_pages.add(brought.restored as u64);
        }
    }

    /// Says so, once, when the program has installed a SIGBUS handler of its own after ours.
    fn check_sigbus_handler(&mut self) {
        if self.config.fault_mode == FaultMode::Inline && !self.warned && !sigbus::is_installed() {
            self.warned = true;
            event::report(format_args!(
                "another handler for SIGBUS has been installed; for what is not its own it has to \
                 call the one that it has replaced (see FaultMode::Inline)"
            ));
        }
    }
}
