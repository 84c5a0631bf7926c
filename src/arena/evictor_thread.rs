//! The thread that looks and evicts.

use super::builder::Config;
use super::mailbox::{Command, Mailbox};
use crate::evict::{Evictor, Order};
use crate::fault::{Resolver, Scratch};
use crate::policy::{self, Situation};
use crate::prim::{PageRange, Tick};
use crate::sys::event::{self, DieOnPanic};
use crate::sys::signals::SignalsBlocked;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// The running thread; dropping it stops it at the end of what it is doing.
#[derive(Debug)]
pub(super) struct EvictorThread {
    thread: Option<JoinHandle<()>>,
    mailbox: Arc<Mailbox>,
}

impl EvictorThread {
    pub(super) fn spawn(
        config: &Config,
        evictor: Evictor,
        resolver: Arc<Resolver>,
        mailbox: Arc<Mailbox>,
    ) -> std::io::Result<Self> {
        let thread = Loop {
            evictor,
            resolver,
            mailbox: Arc::clone(&mailbox),
            config: *config,
            started: Instant::now(),
            cycles: 0,
            fruitless: false,
        };
        let _blocked = SignalsBlocked::new();
        let thread = thread::Builder::new().name("thermocline-e".to_owned()).spawn(move || {
            // It may leave pages claimed, and their touchers waiting.
            let _die = DieOnPanic("the evictor failed");
            thread.run();
        })?;
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
    config: Config,
    started: Instant,
    cycles: u64,
    /// The last cycle that was asked for found nothing to evict: the next one waits its turn.
    fruitless: bool,
}

impl Loop {
    fn run(mut self) {
        let mut scratch = Scratch::new();
        let mut due = self.started + self.config.scan_interval;
        while !self.mailbox.is_stopping() {
            if let Err(e) = self.mailbox.wait(due.saturating_duration_since(Instant::now())) {
                event::die("the evictor cannot wait", &e);
            }
            if Instant::now() >= due {
                self.cycle();
                self.fruitless = false;
                // A whole interval after the last was due, unless that has passed already.
                due = (due + self.config.scan_interval).max(Instant::now());
            } else if self.mailbox.take_look() && !self.fruitless {
                self.fruitless = self.cycle() == 0;
            }
            while !self.mailbox.is_stopping()
                && let Some(command) = self.mailbox.take()
            {
                self.obey(command, &mut scratch);
            }
        }
        self.mailbox.close();
    }

    fn obey(&mut self, command: Command, scratch: &mut Scratch) {
        let all = self.resolver.table.all();
        match command {
            // Who asked may be gone, and who left a hint does not wait to hear.
            Command::EvictNow(reply) => drop(reply.send(self.evictor.evict_all(self.now(), all))),
            Command::EvictRange(range) => drop(self.evictor.evict_all(self.now(), range)),
            Command::Restore(range) => self.restore(range, scratch),
            Command::Run(what) => what(),
        }
    }

    /// The arena's time: whole scan intervals since it was built. Under zeal each cycle is one.
    fn now(&self) -> Tick {
        if self.config.zeal {
            return Tick::new(self.cycles);
        }
        let ticks = self.started.elapsed().as_nanos() / self.config.scan_interval.as_nanos();
        #[expect(clippy::cast_possible_truncation, reason = "ticks turn over, at 2^20 already")]
        Tick::new(ticks as u64)
    }

    /// Looks and evicts once, and says how many pages went.
    fn cycle(&mut self) -> usize {
        self.cycles += 1;
        self.resolver.counters.cycles.add(1);
        let now = self.now();
        if self.config.zeal {
            return self.evictor.evict_all(now, self.resolver.table.all()).pages;
        }
        let (order, enough) = self.plan(now, false);
        // If not, regions that rest because they are hot are all that is left.
        let order = if enough { order } else { self.plan(now, true).0 };
        let done = order.map(|order| self.evictor.carry_out(now, order)).unwrap_or_default();
        self.evictor.trim();
        done.pages
    }

    /// Looks who was touched, and makes a plan of it; false if it will not bring the arena below
    /// its limit.
    fn plan(&mut self, now: Tick, all: bool) -> (Option<Order>, bool) {
        // What the kernel refused has been counted, and the regions that it concerns rest.
        let _ = self.evictor.look(now, all);
        let resident = self.resolver.table.resident();
        let limit = self.config.resident_limit;
        let ages = self.evictor.ages(now);
        let cold_age = self.config.cold_ticks;
        let order = policy::plan(&Situation { ages: &ages, resident, limit, cold_age });
        let over = limit.map_or(0, |limit| resident.saturating_sub(limit));
        (order, order.map_or(0, |order| order.pages) >= over)
    }

    fn restore(&self, range: PageRange, scratch: &mut Scratch) {
        // A hint: what cannot be brought back now is brought back when it is touched.
        if let Ok(pages) = self.resolver.restore(range, false, scratch) {
            self.resolver.counters.prefetched.add(pages as u64);
        }
    }
}
