//! The evictor thread: when it scans, evicts, releases free memory and executes commands.

use super::budget::Budget;
use super::builder::{ColdAge, Config};
use super::mailbox::{Command, Mailbox};
use crate::alloc::Heap;
use crate::evict::{Evicted, Evictor, Reach};
use crate::fault::{EmptyPages, FaultMode, Resolver};
use crate::policy::{self, EvictionPlan, Situation};
use crate::prim::{PageRange, Tick};
use crate::sys;
use crate::sys::event;
use crate::sys::sigbus;
use crate::sys::thread::JoinHandle;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// The running thread. Dropping this ends the thread after its present work.
#[derive(Debug)]
pub(super) struct EvictorThread {
    thread: Option<JoinHandle>,
    mailbox: Arc<Mailbox>,
}

impl EvictorThread {
    /// Starts the thread. The keeper must call this, because the evictor shares its descriptor table.
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
            next_sweep: None,
            has_reported_sigbus: false,
        };
        // A panic may leave pages claimed, and threads that wait for them.
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
    /// The time to the next early cycle, while the arena is above its limit and cycles evict no page.
    pause: Duration,
    /// The time of the heap's next sweep, if the last one left free memory.
    next_sweep: Option<Instant>,
    /// Whether [`Self::check_sigbus_handler`] has reported another SIGBUS handler.
    has_reported_sigbus: bool,
}

/// The shortest pause. After it a thread that writes new pages has finished with some of them.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);

/// The pause between two sweeps of the heap. A sweep takes about a millisecond.
const SWEEP_PAUSE: Duration = Duration::from_millis(8);

impl Loop {
    fn run(mut self) {
        self.evictor.progress().set_thread(sys::thread::id());
        let mut due = self.started + self.config.scan_interval;
        // The time of the next early cycle, if a thread has requested one.
        let mut early = None;
        while !self.mailbox.is_stopping() {
            let next = [early, self.next_sweep].into_iter().flatten().fold(due, Instant::min);
            self.mailbox.wait(next.saturating_duration_since(Instant::now()));
            let now = Instant::now();
            if self.mailbox.take_scan_request() && early.is_none() {
                early = Some(now);
            }
            if now >= due {
                self.cycle();
                // An interval after the last one was due, or at once if that time has passed.
                due = (due + self.config.scan_interval).max(Instant::now());
            } else if early.is_some_and(|early| now >= early) {
                early = self.cycle_early();
            } else if self.next_sweep.is_some_and(|sweep| now >= sweep) {
                let more = self.heap.upgrade().is_some_and(|heap| heap.sweep());
                self.next_sweep = more.then(|| Instant::now() + SWEEP_PAUSE);
            }
            while !self.mailbox.is_stopping()
                && let Some(command) = self.mailbox.take()
            {
                self.execute(command);
            }
        }
        self.mailbox.close();
    }

    /// Runs a cycle because the arena is above its limit. Returns the time of the next early cycle if the
    /// arena is still above it: at once if this one evicted pages, otherwise after a pause that doubles.
    fn cycle_early(&mut self) -> Option<Instant> {
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
            // Dropped answers: the thread that asked may have ended, and no thread waits for a hint.
            Command::EvictNow(reply) => drop(reply.send(self.evictor.evict_all(self.now(), all))),
            Command::EvictRange(range) => drop(self.evictor.evict_all(self.now(), range)),
            Command::Restore(range) => self.restore(range),
            Command::SetColdAge(cold, reply) => {
                self.config.cold = cold;
                let ColdAge { ticks, look_interval, tracking_budget } = cold;
                self.evictor.set_tracking_budget(tracking_budget);
                self.evictor.set_cold_age(ticks, look_interval, self.now());
                let _ = reply.send(());
            }
            Command::Run(call) => call(),
        }
    }

    /// Ticks since the arena was built. Under zeal each cycle is a tick.
    fn now(&self) -> Tick {
        if self.config.zeal {
            return Tick::new(self.cycles);
        }
        self.config.clock.tick_at(self.started.elapsed())
    }

    /// Scans and evicts once. Returns how many pages went.
    fn cycle(&mut self) -> usize {
        self.cycles += 1;
        self.check_sigbus_handler();
        self.resolver.core.counters.scans.add(1);
        self.release_free_memory();
        let now = self.now();
        let over = self.budget.pages_over_limit();
        self.evictor.set_pressed(self.budget.is_near_limit());
        let done = if self.config.zeal {
            self.evict_with_zeal(now)
        } else if over == 0 {
            self.evictor.look(now, self.started.elapsed());
            // The evictor counts each refusal of the kernel, and lets its region rest.
            let _ = self.evictor.scan(now, Reach::Due);
            self.evictor.evict_cold(now)
        } else {
            self.evictor.look(now, self.started.elapsed());
            let plan = self.plan(now);
            plan.map(|plan| self.evictor.execute(now, plan)).unwrap_or_default()
        };
        self.evictor.trim();
        // Threads that bring pages in wait for the evictor only while it keeps up.
        self.budget.set_cannot_keep_limit(done.pages < over / 2);
        done.pages
    }

    /// Scans and plans. If a plan does not bring the arena below its limit, scans more regions.
    fn plan(&mut self, now: Tick) -> Option<EvictionPlan> {
        let mut plan = None;
        for reach in [Reach::Due, Reach::Wanted, Reach::All] {
            if reach == Reach::Wanted {
                self.evictor.look_for_idle(now, self.started.elapsed());
            }
            let _ = self.evictor.scan(now, reach);
            let resident = self.resolver.core.table.resident();
            let limit = self.budget.limit();
            let ages = self.evictor.ages(now);
            let cold_age = self.config.cold.ticks;
            plan = policy::plan(&Situation { ages: &ages, resident, limit, cold_age });
            if plan.map_or(0, |plan| plan.pages) >= self.budget.pages_over_limit() {
                break;
            }
        }
        plan
    }

    /// Evicts all pages. Now and then first looks, scans and evicts as without zeal.
    fn evict_with_zeal(&mut self, now: Tick) -> Evicted {
        if self.cycles.is_multiple_of(16) {
            self.evictor.look(now, self.started.elapsed());
            let _ = self.evictor.scan(now, Reach::Due);
            let _ = self.evictor.evict_cold(now);
        }
        self.evictor.evict_all(now, self.resolver.core.table.all())
    }

    /// Gives memory back to the system that has been free for a while, or all free memory if the arena is
    /// above its limit.
    fn release_free_memory(&mut self) {
        let Some(heap) = self.heap.upgrade() else {
            self.next_sweep = None;
            return;
        };
        self.next_sweep = heap.tick().then(|| Instant::now() + SWEEP_PAUSE);
        if self.budget.is_over_limit() {
            heap.release_dirty();
        }
    }

    fn restore(&self, range: PageRange) {
        // A hint: on an error the pages come back when the program touches them.
        if let Ok(brought) = self.resolver.restore(range, EmptyPages::Leave) {
            self.resolver.core.counters.prefetched_pages.add(brought.restored as u64);
        }
    }

    /// Reports, once, that the program has installed a SIGBUS handler after the library's.
    fn check_sigbus_handler(&mut self) {
        if self.config.fault_mode == FaultMode::Inline
            && !self.has_reported_sigbus
            && !sigbus::is_installed()
        {
            self.has_reported_sigbus = true;
            event::report(format_args!(
                "another handler for SIGBUS has been installed; for addresses that are not its \
                 own it has to call the handler that it replaced (see FaultMode::Inline)"
            ));
        }
    }
}
