//! An engine on the simulated kernel, and the expected contents of its memory.

use super::scenario::{Op, Scenario};
use crate::alloc::{BlockMap, Heap, Pager, Presence};
use crate::arena::ArenaError;
use crate::arena::builder::{ColdAge, Config};
use crate::arena::engine::Engine;
use crate::evict::{Evictor, Reach};
use crate::fault::{FaultMode, Peeked, handler};
use crate::policy::{self, AgeClock, Situation};
use crate::prim::schedule;
use crate::prim::sync::thread;
use crate::prim::{PAGE_SIZE, PageIndex, PageRange, REGION_PAGES, Tick};
use crate::sys::event::Event;
use crate::sys::platform::{Cost, Kernel, Sigbus};
use crate::sys::thread::JoinHandle;
use crate::table::State;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// The expected contents of a page.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    bytes: Box<[u8]>,
    writes: u64,
    /// The page was forgotten, so it may read as zeros.
    may_be_zero: bool,
    /// A touch of the page was SIGBUS.
    lost: bool,
}

pub(super) struct World {
    pub(super) kernel: Arc<Kernel>,
    pub(super) engine: Engine,
    /// The main thread uses the evictor, unless the engine's own thread does.
    evictor: Mutex<Option<(Evictor, Tick)>>,
    expected: Mutex<Vec<Expected>>,
    handlers: Mutex<(Vec<JoinHandle>, Arc<Event>)>,
}

/// The bytes that fill a page: compressible ones, one repeated word, or noise.
fn content(page: usize, round: u64) -> Box<[u8]> {
    let mut seed = (page as u64 + 1) << 20 | (round + 1);
    let mut noise = || schedule::number_after(&mut seed).to_le_bytes();
    match page % 8 {
        1 | 4 => [7, 0, page as u8, round as u8].repeat(PAGE_SIZE / 4).into(),
        7 => (0..PAGE_SIZE / 8).flat_map(|_| noise()).collect(),
        _ => {
            let word = noise();
            (0..PAGE_SIZE / 8).flat_map(|i| if i % 11 == 0 { noise() } else { word }).collect()
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(super) fn new(scenario: &Scenario, kernel: Arc<Kernel>) -> Arc<Self> {
        let config = Config {
            reserve: REGION_PAGES * PAGE_SIZE,
            memory: scenario.memory,
            resident_limit: None,
            memory_limit: None,
            clock: AgeClock::new(Duration::from_secs(1 << 30)),
            // No scan is ever due: the engine's own thread only executes commands.
            scan_interval: Duration::from_secs(1 << 30),
            store_limit: scenario.slabs * crate::store::SLAB_BYTES,
            fault_mode: scenario.faults,
            handler_threads: scenario.handlers,
            stall_limit: Duration::from_secs(10),
            abort_on_stall: false,
            poison_freed: false,
            zeal: false,
            accessed_bits: true,
            tracking_budget: None,
            cold: ColdAge { ticks: 4, look_interval: Duration::ZERO, tracking_budget: 1.0 },
        };
        let probe = crate::sys::probe();
        let map = Arc::new(BlockMap::new(REGION_PAGES).unwrap());
        let (engine, evictor) = Engine::new(&config, scenario.tracker, &probe, map).unwrap();
        let stop = Arc::new(Event::new().unwrap());
        let mut handlers = Vec::new();
        let mut own = None;
        if scenario.own_thread {
            engine.start(&config, evictor, Weak::<Heap>::new()).unwrap();
        } else {
            if scenario.faults == FaultMode::Handler {
                for number in 0..scenario.handlers {
                    let resolver = Arc::clone(&engine.resolver);
                    handlers
                        .push(handler::spawn(number, resolver, Arc::clone(&stop), || ()).unwrap());
                }
            }
            own = Some((evictor, Tick::new(1)));
        }
        let zeros = Expected {
            bytes: vec![0; PAGE_SIZE].into(),
            writes: 0,
            may_be_zero: false,
            lost: false,
        };
        Arc::new(Self {
            kernel,
            engine,
            evictor: Mutex::new(own),
            expected: Mutex::new(vec![zeros; scenario.pages]),
            handlers: Mutex::new((handlers, stop)),
        })
    }

    pub(super) fn all(&self) -> PageRange {
        PageRange::new(0, lock(&self.expected).len())
    }

    pub(super) fn run(&self, op: Op) {
        Kernel::phase(op.name());
        match op {
            Op::Fill(page) => self.write(page, true),
            Op::Write(page) => self.write(page, false),
            Op::Read(page) => self.read(page),
            Op::Evict(from, to) => self.evict(PageRange::new(from, to)),
            Op::Cycle(limit) => self.cycle(limit),
            Op::Prefetch(from, to) => {
                self.may_fail(self.engine.prefetch(PageRange::new(from, to)).map(drop));
            }
            Op::Ensure(from, to) => self.may_fail(self.engine.ensure(PageRange::new(from, to))),
            Op::Peek(page) => self.peek(page),
            Op::Populate(from, to) => {
                if !self.engine.populate(PageRange::new(from, to)) {
                    self.allow(Cost::Page, "populate failed");
                }
            }
            Op::Free(from, to) => self.free(PageRange::new(from, to)),
            Op::Forget(from, to) => self.forget(PageRange::new(from, to)),
            Op::Pin(from, to) => self.pin(PageRange::new(from, to)),
            Op::Cold(from, to) => drop(self.engine.request_eviction(PageRange::new(from, to))),
            Op::WillNeed(from, to) => drop(self.engine.request_prefetch(PageRange::new(from, to))),
            Op::Stop => {
                if let Err(e) = self.engine.stop()
                    && self.kernel.cost() == Cost::Nothing
                {
                    schedule::fail(format!("stop: {e}"));
                }
            }
        }
        Kernel::phase("");
    }

    /// Fails the run, unless the injected outcomes may cost that much.
    fn allow(&self, cost: Cost, what: &str) {
        if self.kernel.cost() < cost {
            schedule::fail(what.to_owned());
        }
    }

    fn may_fail(&self, result: Result<(), ArenaError>) {
        if let Err(e) = result {
            self.allow(Cost::Page, &e.to_string());
        }
    }

    fn write(&self, page: usize, whole: bool) {
        let touched = self.kernel.write(PageIndex(page), |bytes| {
            let expected = &mut lock(&self.expected)[page];
            Self::compare(page, expected, bytes, "before the write");
            expected.writes += 1;
            if whole {
                bytes.copy_from_slice(&content(page, expected.writes));
            } else {
                // In both halves, so that a copy made between the two writes is seen to be torn.
                for at in [100, PAGE_SIZE - 100] {
                    bytes[at..at + 8].copy_from_slice(&expected.writes.to_le_bytes());
                }
            }
            expected.bytes = bytes.into();
        });
        self.note_loss(page, touched);
    }

    fn read(&self, page: usize) {
        let touched = self.kernel.read(PageIndex(page), |bytes| {
            Self::compare(page, &mut lock(&self.expected)[page], bytes, "when read");
        });
        self.note_loss(page, touched);
    }

    /// The scenarios never write to a page during a peek, because the peeking thread holds a reference to it.
    fn peek(&self, page: usize) {
        let mut bytes = [0; PAGE_SIZE];
        match self.engine.resolver.peek(PageIndex(page), 0..PAGE_SIZE, &mut bytes) {
            Peeked::Stored => {
                Self::compare(page, &mut lock(&self.expected)[page], &bytes, "when peeked at");
            }
            Peeked::InMemory => self.read(page),
            Peeked::Lost => self.note_loss(page, Err(Sigbus)),
        }
    }

    fn compare(page: usize, expected: &mut Expected, bytes: &[u8], when: &str) {
        if std::mem::take(&mut expected.may_be_zero) && bytes.iter().all(|byte| *byte == 0) {
            expected.bytes.fill(0);
            expected.lost = false;
        }
        if expected.lost {
            schedule::fail(format!("page {page} was lost, and a touch of it succeeds"));
        }
        if *expected.bytes != *bytes {
            let at = bytes.iter().zip(&expected.bytes).position(|(a, b)| a != b).unwrap_or(0);
            schedule::fail(format!(
                "page {page} {when}: byte {at} is {} and not {}, after {} writes",
                bytes[at], expected.bytes[at], expected.writes
            ));
        }
    }

    fn note_loss(&self, page: usize, touched: Result<(), Sigbus>) {
        if touched == Err(Sigbus) {
            self.allow(Cost::Page, &format!("page {page} is SIGBUS"));
            let state = self.engine.core.table.load(PageIndex(page)).state();
            let reported = |text| self.kernel.said().iter().any(|line| line.contains(text));
            if reported("cannot be read") && state != State::Lost {
                // The kernel has swapped the page out and cannot read it now.
                return;
            }
            let lost = reported("is lost");
            // The owner that poisons the page may still be at work.
            if !lost || !matches!(state, State::Lost | State::Filling) {
                schedule::fail(format!("page {page} is SIGBUS, {state:?}, without a report"));
            }
            lock(&self.expected)[page].lost = true;
        }
    }

    fn evict(&self, range: PageRange) {
        let mut own = lock(&self.evictor).take();
        match &mut own {
            Some((evictor, now)) => {
                *now = now.after(1);
                evictor.evict_all(*now, range);
            }
            None => match self.engine.evict_now() {
                Ok(_) | Err(ArenaError::NotSwapping) => {}
                Err(e) => schedule::fail(e.to_string()),
            },
        }
        *lock(&self.evictor) = own;
    }

    /// A scan, a plan for at most `limit` pages in memory, and its execution.
    fn cycle(&self, limit: usize) {
        let Some((mut evictor, now)) = lock(&self.evictor).take() else { return };
        let now = now.after(1);
        evictor.look(now, Duration::from_secs(now.raw().into()));
        let reach = [Reach::Due, Reach::Wanted, Reach::All][limit % 3];
        let _ = evictor.scan(now, reach);
        evictor.evict_cold(now);
        let ages = evictor.ages(now);
        let resident = self.engine.core.table.resident();
        let situation = Situation { ages: &ages, resident, limit: Some(limit), cold_age: 3 };
        if let Some(plan) = policy::plan(&situation) {
            evictor.execute(now, plan);
        }
        evictor.trim();
        *lock(&self.evictor) = Some((evictor, now));
    }

    /// The scenarios never touch a page while it is freed.
    fn free(&self, range: PageRange) {
        let released = self.engine.release(range);
        if released.is_err() && self.kernel.cost() == Cost::Nothing && !self.kernel.has_injected() {
            schedule::fail(format!("cannot release {range:?}: {released:?}"));
        }
        for page in range.iter() {
            // As the heap does before it hands out pages that it could not release.
            let lost = if self.engine.presence(page) == Presence::Empty {
                Ok(())
            } else {
                self.kernel.write(page, |bytes| bytes.fill(0))
            };
            let expected = &mut lock(&self.expected)[page.0];
            expected.bytes.fill(0);
            expected.lost = lost.is_err();
            expected.may_be_zero = false;
            if lost.is_err() {
                self.allow(Cost::Page, &format!("{page:?} is SIGBUS after it was freed"));
            }
        }
    }

    /// Pages that other threads bring back meanwhile may keep their bytes.
    fn forget(&self, range: PageRange) {
        lock(&self.expected)[range.start.0..range.end.0]
            .iter_mut()
            .for_each(|page| page.may_be_zero = true);
        self.engine.forget(range);
    }

    /// Pins pages, and checks that they stay in memory.
    fn pin(&self, range: PageRange) {
        let pinned = self.engine.pin(range);
        let is_pinned = pinned.is_ok();
        self.may_fail(pinned);
        if is_pinned {
            for _ in 0..4 {
                for page in range.iter() {
                    let word = self.engine.core.table.load(page);
                    // If it is claimed, the evictor is about to give it up. If it is owned, the owner serves a
                    // late message.
                    if matches!(word.state(), State::Dropping | State::Stored)
                        && !self.engine.is_stopped()
                    {
                        schedule::fail(format!("{page:?} is pinned, and {word:?}"));
                    }
                }
                thread::yield_now();
            }
            range.iter().for_each(|page| self.read(page.0));
            self.engine.core.table.pins().remove(range);
        }
    }

    /// Checks every structure and every page while no thread of a scenario runs.
    pub(super) fn verify(&self) {
        Kernel::phase("verify");
        self.wait_for_consistency();
        for page in self.all().iter() {
            self.read(page.0);
        }
        self.wait_for_consistency();
        if self.kernel.waiting() > 0 {
            schedule::fail("a thread still waits for a page".to_owned());
        }
    }

    /// Waits until table, memory and store agree.
    fn wait_for_consistency(&self) {
        let check = || {
            self.engine.core.table.check()?;
            let table = &self.engine.core.table;
            for page in self.all().iter() {
                let (word, held) = (table.load(page), self.kernel.holds(page));
                let wrong = match word.state() {
                    // A page that the kernel has filled in a stopped arena is still empty by its word.
                    State::Empty | State::Stored => held && !self.engine.is_stopped(),
                    State::Resident => !held,
                    _ => false,
                };
                if wrong {
                    return Err(format!("{page:?} is {word:?}, and in memory: {held}"));
                }
            }
            let words = table.extent().iter().map(|page| table.load(page));
            self.engine
                .core
                .store
                .check(words.filter(|w| w.state() == State::Stored).map(|w| w.handle()))
        };
        let mut result = check();
        for _ in 0..100 {
            if result.is_ok() {
                break;
            }
            // A faulting thread goes on before the thread that served it has finished.
            thread::yield_now();
            result = check();
        }
        if let Err(e) = result {
            schedule::fail(e);
        }
    }

    /// Checks that the stopped arena is ordinary memory with its contents.
    pub(super) fn verify_stopped(&self) {
        if !self.engine.is_stopped() {
            schedule::fail("the arena has not stopped".to_owned());
        }
        for page in self.all().iter() {
            self.write(page.0, false);
            self.read(page.0);
        }
    }

    /// Stops the threads.
    pub(super) fn end(&self) {
        let (handlers, stop) = &mut *lock(&self.handlers);
        stop.raise();
        for handler in handlers.drain(..) {
            let _ = handler.join();
        }
    }
}
