//! The thread that looks and evicts, and how others talk to it.

use super::builder::Config;
use super::error::ArenaError;
use crate::evict::{Evicted, Evictor, Order};
use crate::fault::{Resolver, Scratch};
use crate::policy::{self, Situation};
use crate::prim::{PageRange, Tick};
use crate::sys::SysError;
use crate::sys::event::DieOnPanic;
use crate::sys::signals::SignalsBlocked;
use crate::table::PageTable;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Commands that may wait at a time. Hints beyond are dropped, demands wait for their turn.
const QUEUE: usize = 64;

/// What the evictor can be asked for.
pub(super) enum Command {
    /// Look now rather than at the next interval: there is something to evict.
    Look,
    /// Evict all that is not touched, and answer.
    EvictNow(Sender<Result<Evicted, SysError>>),
    /// Evict those of these pages that are not touched.
    EvictRange(PageRange),
    /// Bring these pages back.
    Restore(PageRange),
    /// Do this between cycles.
    Run(Box<dyn FnOnce() + Send>),
    Stop,
}

pub(super) type Commands = Receiver<Command>;

/// The evictor's ear.
#[derive(Clone, Debug)]
pub(super) struct Nudge {
    sender: Sender<Command>,
    table: Arc<PageTable>,
    limit: Option<usize>,
}

impl Nudge {
    pub(super) fn new(table: Arc<PageTable>, limit: Option<usize>) -> (Self, Commands) {
        let (sender, receiver) = bounded(QUEUE);
        (Self { sender, table, limit }, receiver)
    }

    /// Leaves a hint, or drops it where there is no room.
    pub(super) fn try_send(&self, hint: Command) {
        match self.sender.try_send(hint) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Has the evictor look where there is more in memory than may be. Neither allocates nor waits.
    pub(super) fn if_over_limit(&self) {
        if self.limit.is_some_and(|limit| self.table.resident() > limit) && self.sender.is_empty() {
            self.try_send(Command::Look);
        }
    }

    /// Asks for something and waits for the answer.
    pub(super) fn ask<T>(
        &self,
        command: impl FnOnce(Sender<T>) -> Command,
    ) -> Result<T, ArenaError> {
        let (reply, answer) = bounded(1);
        self.sender.send(command(reply)).map_err(|_| ArenaError::NotSwapping)?;
        answer.recv().map_err(|_| ArenaError::NotSwapping)
    }
}

/// The running thread; dropping it stops it at the end of what it is doing.
#[derive(Debug)]
pub(super) struct EvictorThread {
    thread: Option<JoinHandle<()>>,
    stop: Sender<Command>,
}

impl EvictorThread {
    pub(super) fn spawn(
        config: &Config,
        evictor: Evictor,
        resolver: Arc<Resolver>,
        commands: Commands,
        nudge: &Nudge,
    ) -> std::io::Result<Self> {
        let thread = Loop {
            evictor,
            resolver,
            config: *config,
            started: Instant::now(),
            cycles: 0,
            fruitless: false,
        };
        let _blocked = SignalsBlocked::new();
        let thread = thread::Builder::new().name("thermocline-e".to_owned()).spawn(move || {
            // It may leave pages claimed, and their touchers waiting.
            let _die = DieOnPanic("the evictor failed");
            thread.run(&commands);
        })?;
        Ok(Self { thread: Some(thread), stop: nudge.sender.clone() })
    }
}

impl Drop for EvictorThread {
    fn drop(&mut self) {
        // The thread ends by this command alone, so it is there to take it.
        let _ = self.stop.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // Its panic aborts the process.
            let _ = thread.join();
        }
    }
}

struct Loop {
    evictor: Evictor,
    resolver: Arc<Resolver>,
    config: Config,
    started: Instant,
    cycles: u64,
    /// The last cycle that was asked for found nothing to evict: the next one waits its turn.
    fruitless: bool,
}

impl Loop {
    fn run(mut self, commands: &Commands) {
        let mut scratch = Scratch::new();
        let mut next = self.started + self.config.scan_interval;
        loop {
            match commands.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Command::Look) if self.fruitless => {}
                Ok(Command::Look) => self.fruitless = self.cycle() == 0,
                Ok(Command::EvictNow(reply)) => drop(reply.send(self.evict_all())),
                Ok(Command::EvictRange(range)) => {
                    let result = self.evictor.evict_range(self.now(), range);
                    // A hint: the caller does not wait to hear.
                    let _ = self.count(result);
                }
                Ok(Command::Restore(range)) => self.restore(range, &mut scratch),
                Ok(Command::Run(what)) => what(),
                Err(RecvTimeoutError::Timeout) => {
                    self.cycle();
                    self.fruitless = false;
                    next = next_look(next, self.config.scan_interval);
                }
            }
        }
    }

    /// The arena's time: whole scan intervals since it was built. Under zeal each cycle is one.
    fn now(&self) -> Tick {
        if self.config.zeal {
            return Tick::new(self.cycles);
        }
        let ticks = self.started.elapsed().as_nanos() / self.config.scan_interval.as_nanos();
        // Ticks turn over by themselves.
        #[expect(clippy::cast_possible_truncation, reason = "taken modulo 2^20")]
        Tick::new(ticks as u64)
    }

    /// Looks and evicts once, and says how many pages went.
    fn cycle(&mut self) -> usize {
        self.cycles += 1;
        self.resolver.counters.cycles.add(1);
        if self.config.zeal {
            return self.evict_all().map_or(0, |evicted| evicted.pages);
        }
        let now = self.now();
        let result = self.plan(now, false).and_then(|(order, enough)| {
            // Regions that rest because they are hot are all that is left.
            let order = if enough { order } else { self.plan(now, true)?.0 };
            order.map_or(Ok(Evicted::default()), |order| self.evictor.carry_out(now, order))
        });
        self.count(result).map_or(0, |evicted| evicted.pages)
    }

    /// Looks who was touched, and makes a plan of it; false if it will not bring the arena below
    /// its limit.
    fn plan(&mut self, now: Tick, all: bool) -> Result<(Option<Order>, bool), SysError> {
        self.evictor.look(now, all)?;
        let resident = self.resolver.table.resident();
        let limit = self.config.resident_limit;
        let ages = self.evictor.ages(now);
        let cold_age = self.config.cold_ticks;
        let order = policy::plan(&Situation { ages: &ages, resident, limit, cold_age });
        let over = limit.map_or(0, |limit| resident.saturating_sub(limit));
        Ok((order, order.map_or(0, |order| order.pages) >= over))
    }

    /// Evicts all that is not touched meanwhile.
    fn evict_all(&mut self) -> Result<Evicted, SysError> {
        const EVERYTHING: Order = Order { all_from: 0, some_from: 0, pages: usize::MAX };
        let now = self.now();
        let looked = self.evictor.look(now, true);
        let result = looked.and_then(|()| self.evictor.carry_out(now, EVERYTHING));
        self.count(result)
    }

    /// A call that failed leaves its pages in memory; that is counted, and the next cycle tries
    /// again.
    fn count(&self, result: Result<Evicted, SysError>) -> Result<Evicted, SysError> {
        if result.is_err() {
            self.resolver.counters.kernel_refused.add(1);
        }
        result
    }

    fn restore(&self, range: PageRange, scratch: &mut Scratch) {
        // A hint: what cannot be brought back now is brought back when it is touched.
        if let Ok(pages) = self.resolver.restore(range, false, scratch) {
            self.resolver.counters.prefetched.add(pages as u64);
        }
    }
}

/// The next look is a whole interval after the last was due, unless that has passed already.
fn next_look(due: Instant, interval: Duration) -> Instant {
    (due + interval).max(Instant::now())
}
