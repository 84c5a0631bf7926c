//! The parts of an arena that evicts: table, store, tracker, resolver, and their threads.

use super::budget::Budget;
use super::builder::{ColdAge, Config};
use super::error::{ArenaError, BuildError};
use super::evictor_thread::EvictorThread;
use super::limits::Limits;
use super::mailbox::{Command, Mailbox};
use super::residency::Peek;
use super::settled;
use super::watchdog::Watchdog;
use crate::alloc::{BlockMap, Heap, Pager, Presence};
use crate::evict::{Evicted, Evictor, EvictorOptions};
use crate::fault::inline::Inline;
use crate::fault::{EmptyPages, FaultMode, FillError, Peeked, Resolver, RestoreOutcome, handler};
use crate::prim::in_library::InLibraryGuard;
use crate::prim::sync::{AtomicBool, Ordering, thread};
use crate::prim::{BATCH_PAGES, PAGE_SIZE, PageIndex, PageRange};
use crate::sys::backing::{FaultDelivery, MemoryKind, PlainMemory};
use crate::sys::sigbus::{self, Registration};
use crate::sys::thread::JoinHandle;
use crate::sys::{Probe, SysError, event, uapi};
use crate::table::State;
use crate::track::{Core, References, Tracker};
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Engine {
    pub(super) core: Arc<Core>,
    pub(super) resolver: Arc<Resolver>,
    mailbox: Arc<Mailbox>,
    budget: Arc<Budget>,
    scan_interval: Duration,
    /// The tracking budget that the program has given.
    tracking_budget: Option<f64>,
    /// Serves faults in the faulting threads, in inline mode.
    inline: Option<(Arc<Inline>, Registration)>,
    stopped: AtomicBool,
    threads: Mutex<Threads>,
}

#[derive(Debug)]
struct Threads {
    evictor: Option<EvictorThread>,
    handlers: Vec<JoinHandle>,
    /// Ends last, so that it can report another thread that does not end.
    watchdog: Option<Watchdog>,
}

impl Engine {
    /// Makes all parts, and the evictor, for which [`start`](Self::start) starts a thread.
    pub(super) fn new(
        config: &Config,
        tracker: Tracker,
        probe: &Probe,
        map: Arc<BlockMap>,
    ) -> Result<(Self, Evictor), BuildError> {
        let is_inline = config.fault_mode == FaultMode::Inline;
        let delivery = if is_inline {
            FaultDelivery::Signals
        } else {
            FaultDelivery::Messages(config.handler_threads)
        };
        let features = probe.features() & uapi::UFFD_FEATURE_POISON;
        let core = Core::new(
            config.reserve,
            config.memory,
            tracker,
            features,
            delivery,
            config.store_limit,
        )?;
        let core = Arc::new(core);
        let resolver = Arc::new(Resolver::new(Arc::clone(&core), map));
        let references = config.accessed_bits.then(|| References::start(&core));
        if let Some(Err(_)) = references {
            core.counters.accessed_errors.add(1);
        }
        let evictor = Evictor::new(
            Arc::clone(&core),
            EvictorOptions {
                cold_age: config.cold.ticks,
                zeal: config.zeal,
                tracking_budget: config.cold.tracking_budget,
                look_interval: config.cold.look_interval,
            },
            references.and_then(Result::ok),
        )?;
        let mailbox = Arc::new(Mailbox::new());
        let limits = Limits::new(config.resident_limit, config.memory_limit);
        let budget = Arc::new(Budget::new(Arc::clone(&core), limits, Arc::clone(&mailbox)));
        let inline = if is_inline {
            let (resolver, budget) = (Arc::clone(&resolver), Arc::clone(&budget));
            let inline = Arc::new(Inline::new(resolver, Box::new(move || budget.keep_limit())));
            let addresses = core.backing.addresses();
            Some((Arc::clone(&inline), sigbus::register(addresses, inline)?))
        } else {
            None
        };
        let threads = Threads { evictor: None, handlers: Vec::new(), watchdog: None };
        let (stopped, threads) = (AtomicBool::new(false), Mutex::new(threads));
        let Config { scan_interval, tracking_budget, .. } = *config;
        let this = Self {
            core,
            resolver,
            mailbox,
            budget,
            scan_interval,
            tracking_budget,
            inline,
            stopped,
            threads,
        };
        Ok((this, evictor))
    }

    /// Starts the threads. If that fails, dropping the engine stops those that have started.
    pub(super) fn start(
        &self,
        config: &Config,
        evictor: Evictor,
        heap: Weak<Heap>,
    ) -> Result<(), BuildError> {
        // The keeper starts the threads, so that they share its descriptor table.
        let started = self.core.backing.keeper().call(|| self.start_threads(config, evictor, heap));
        started.map_err(|e| SysError::from_io("pthread_create", &e).into())
    }

    fn start_threads(
        &self,
        config: &Config,
        evictor: Evictor,
        heap: Weak<Heap>,
    ) -> std::io::Result<()> {
        let mut threads = self.threads.lock();
        let handlers = if self.inline.is_some() { 0 } else { config.handler_threads };
        let interrupt = self.core.backing.keeper().interrupt();
        for number in 0..handlers {
            let budget = Arc::clone(&self.budget);
            let (resolver, interrupt) = (Arc::clone(&self.resolver), Arc::clone(&interrupt));
            let filled = move || budget.keep_limit();
            threads.handlers.push(handler::spawn(number, resolver, interrupt, filled)?);
        }
        // Simulated threads have no clock, so they cannot stall.
        if !cfg!(thermocline_sim) {
            let (resolver, progress) = (Arc::clone(&self.resolver), Arc::clone(evictor.progress()));
            threads.watchdog = Some(Watchdog::spawn(config, resolver, progress)?);
        }
        let resolver = Arc::clone(&self.resolver);
        let (mailbox, budget) = (Arc::clone(&self.mailbox), Arc::clone(&self.budget));
        let thread = EvictorThread::spawn(config, evictor, resolver, mailbox, budget, heap)?;
        threads.evictor = Some(thread);
        Ok(())
    }

    /// Whether [`stop`](Self::stop) has brought every stored page back.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Brings the stored pages of `range` back, and returns how many.
    pub(super) fn prefetch(&self, range: PageRange) -> Result<usize, ArenaError> {
        if self.is_stopped() {
            return Err(ArenaError::NotSwapping);
        }
        self.restore(range, EmptyPages::Leave).map(|outcome| outcome.restored)
    }

    /// Brings the stored pages of `range` back.
    fn restore(&self, range: PageRange, empty: EmptyPages) -> Result<RestoreOutcome, ArenaError> {
        let _in_library = InLibraryGuard::enter();
        // In parts, so that a long range exceeds a limit by a part at most.
        let part = if self.budget.has_limit() { BATCH_PAGES } else { usize::MAX };
        let mut outcome = RestoreOutcome::default();
        for part in range.chunks(part) {
            let result = self.resolver.restore(part, empty);
            if let Ok(part) = result {
                self.core.counters.prefetched_pages.add(part.restored as u64);
                outcome.restored += part.restored;
                outcome.lost += part.lost;
            }
            self.budget.keep_limit();
            match result {
                Ok(_) => {}
                // The arena stopped meanwhile, so the kernel fills empty pages by itself.
                Err(_) if self.is_stopped() => return Ok(RestoreOutcome::default()),
                Err(e) => return Err(fill_error(e)),
            }
        }
        Ok(outcome)
    }

    /// Whether the pages of `range` can be touched without a fault.
    #[inline]
    pub(super) fn is_resident(&self, range: PageRange) -> bool {
        let is_there = |page| self.core.table.load(page).state() == State::Resident;
        range.iter().all(is_there) || self.is_stopped()
    }

    /// Makes sure that the pages of `range` can be touched without a fault.
    pub(super) fn ensure(&self, range: PageRange) -> Result<(), ArenaError> {
        if self.is_resident(range) { Ok(()) } else { self.make_resident(range) }
    }

    #[cold]
    fn make_resident(&self, range: PageRange) -> Result<(), ArenaError> {
        match self.restore(range, EmptyPages::Populate)?.lost {
            0 => Ok(()),
            _ => Err(ArenaError::Lost),
        }
    }

    /// Reads `bytes`, which begin at `offset` of the arena, and leaves stored pages stored. Copies the
    /// bytes to `buffer` unless all of them are in memory.
    pub(super) fn peek<'a>(
        &self,
        offset: usize,
        bytes: &'a [u8],
        buffer: &'a mut Vec<u8>,
    ) -> Result<Peek<'a>, ArenaError> {
        if self.is_resident(PageRange::touching(offset, bytes.len())) {
            return Ok(Peek::InMemory(bytes));
        }
        buffer.clear();
        buffer.reserve(bytes.len());
        let mut page_bytes = [0; PAGE_SIZE];
        let mut left = bytes;
        while !left.is_empty() {
            let start = offset + (bytes.len() - left.len());
            let within = start % PAGE_SIZE;
            let (here, rest) = left.split_at(left.len().min(PAGE_SIZE - within));
            let part = within..within + here.len();
            match self.resolver.peek(PageIndex::containing(start), part, &mut page_bytes) {
                Peeked::Stored => buffer.extend_from_slice(&page_bytes[..here.len()]),
                Peeked::InMemory => buffer.extend_from_slice(here),
                Peeked::Lost => return Err(ArenaError::Lost),
            }
            left = rest;
        }
        Ok(Peek::Copied(buffer))
    }

    /// Pins the pages of `range` and brings them back.
    pub(super) fn pin(&self, range: PageRange) -> Result<(), ArenaError> {
        self.core.table.pins().add(range);
        let pinned = self.make_pinned_resident(range);
        if pinned.is_err() {
            self.core.table.pins().remove(range);
        }
        pinned
    }

    /// Brings the pinned pages of `range` back, and waits until the evictor is done with them.
    fn make_pinned_resident(&self, range: PageRange) -> Result<(), ArenaError> {
        loop {
            if self.is_stopped() {
                return Ok(());
            }
            self.make_resident(range)?;
            let is_done = |page| {
                let word = self.core.table.load(page);
                word.state() == State::Resident && !word.is_in_batch()
            };
            if range.iter().all(is_done) {
                break;
            }
            // At the end of its batch the evictor gives up pinned pages that it had claimed.
            thread::sleep(Duration::from_micros(50));
        }
        // The evictor claims none of these pages any more, so it does not rely on their protection.
        match self.core.isolation.lift(range) {
            Err(_) if self.is_stopped() => Ok(()),
            result => result.map_err(ArenaError::Sys),
        }
    }

    /// Asks the evictor to bring the pages of `range` back. Drops the request if its queue is full.
    pub(super) fn request_prefetch(&self, range: PageRange) -> Result<(), ArenaError> {
        if self.is_stopped() {
            return Err(ArenaError::NotSwapping);
        }
        self.mailbox.hint(Command::Restore(range));
        Ok(())
    }

    /// Asks the evictor to evict the pages of `range`. Drops the request if its queue is full.
    pub(super) fn request_eviction(&self, range: PageRange) -> Result<(), ArenaError> {
        if self.is_stopped() {
            return Err(ArenaError::NotSwapping);
        }
        self.mailbox.hint(Command::EvictRange(range));
        Ok(())
    }

    /// Changes the limits, and has the evictor evict if the arena is above them now.
    pub(super) fn change_limits(&self, change: impl FnOnce(&Limits)) -> Result<(), ArenaError> {
        if self.is_stopped() {
            return Err(ArenaError::NotSwapping);
        }
        self.budget.change_limits(change);
        Ok(())
    }

    /// Changes the age from which a page is cold.
    pub(super) fn set_cold_age(&self, age: Duration) -> Result<(), ArenaError> {
        let cold = ColdAge::new(age, self.scan_interval, self.tracking_budget)
            .ok_or(ArenaError::ColdAge(age))?;
        if self.is_stopped() {
            return Err(ArenaError::NotSwapping);
        }
        self.mailbox.ask(|reply| Command::SetColdAge(cold, reply))
    }

    /// Pages, and pages' worth of the store's bytes, above the limits.
    pub(super) fn excess(&self) -> usize {
        if self.is_stopped() { 0 } else { self.budget.excess() }
    }

    /// Evicts every page that the program does not touch meanwhile.
    pub(super) fn evict_now(&self) -> Result<Evicted, ArenaError> {
        self.mailbox.ask(Command::EvictNow)
    }

    /// Checks table and store on the evictor's thread, so that no eviction is under way.
    pub(super) fn check(&self) -> Result<(), String> {
        let core = Arc::clone(&self.core);
        let check = move || {
            let Core { table, store, .. } = &*core;
            table.check()?;
            let words = table.extent().iter().map(|page| table.load(page));
            store.check(words.filter(|w| w.state() == State::Stored).map(|w| w.handle()))
        };
        if self.is_stopped() {
            return settled(check);
        }
        let core = Arc::clone(&self.core);
        // The kernel may have fewer: the program can drop pages of private memory.
        let kernel_has_no_more = move || {
            if core.backing.kind() == MemoryKind::Shared {
                return Ok(());
            }
            // The kernel counts poison too.
            let pages = core.table.resident() + core.table.lost();
            let most = (pages * PAGE_SIZE) as u64;
            match core.backing.memory_bytes(core.table.extent()) {
                Ok(bytes) if bytes <= most => Ok(()),
                Ok(bytes) => {
                    Err(format!("{pages} pages are in memory, the kernel has {bytes} bytes"))
                }
                Err(e) => Err(e.to_string()),
            }
        };
        let run = move || settled(|| check().and_then(|()| kernel_has_no_more()));
        match self.mailbox.ask(|reply| Command::Run(Box::new(move || drop(reply.send(run()))))) {
            Ok(result) => result,
            Err(e) => Err(e.to_string()),
        }
    }

    /// Stops the arena: brings every stored page back, and makes the memory ordinary memory from then
    /// on.
    pub(super) fn stop(&self) -> Result<(), ArenaError> {
        let mut threads = self.threads.lock();
        if self.is_stopped() {
            return Ok(());
        }
        drop(threads.evictor.take());
        let all = self.core.table.extent();
        self.resolver.restore(all, EmptyPages::Leave).map_err(fill_error)?;
        // No page is stored, and none can be any more. A thread that faults from here on touches an
        // empty page, and waits until the page is not registered any more and the kernel fills it.
        // The handler threads end first: one that serves an old message could take such a page away from
        // the faulting thread.
        self.stopped.store(true, Ordering::Release);
        self.join_handlers(&mut threads);
        if let Some((inline, _)) = &self.inline {
            inline.stop();
        }
        self.resolver.renew_poison_of_lost_pages();
        if let Err(e) = self.core.backing.unregister() {
            event::abort_process("cannot unregister an arena's memory", &e);
        }
        // The store is empty, and the evictor, which otherwise trims it, has ended.
        self.core.store.trim();
        drop(threads.watchdog.take());
        Ok(())
    }
}

impl Pager for Engine {
    fn populate(&self, range: PageRange) -> bool {
        if self.is_stopped() {
            return true;
        }
        let populated = self.resolver.populate(range);
        self.budget.keep_limit();
        // If the arena stopped meanwhile, the kernel fills empty pages by itself.
        populated.is_ok() || self.is_stopped()
    }

    fn forget(&self, range: PageRange) {
        // On an error a stored copy stays for longer than it is needed.
        let _ = self.resolver.forget(range);
    }

    fn is_likely_resident(&self, range: PageRange) -> bool {
        // If both ends are resident, the pages between them nearly always are.
        let ends = [range.start, PageIndex(range.end.0 - 1)];
        let is_resident = |page| self.core.table.load(page).state() == State::Resident;
        self.core.table.lost() == 0 && ends.into_iter().all(is_resident)
    }

    fn resident(&self, range: PageRange) -> usize {
        let is_resident = |page: &PageIndex| self.core.table.load(*page).state() == State::Resident;
        // Pages beyond the extent are empty.
        range.intersection(self.core.table.extent()).iter().filter(is_resident).count()
    }

    fn release(&self, range: PageRange) -> Result<(), SysError> {
        // A page that the kernel has filled in a stopped arena is still empty by its word.
        let stopped = self.is_stopped();
        self.resolver.release(range)?;
        if stopped { self.core.backing.discard(range) } else { Ok(()) }
    }

    fn presence(&self, page: PageIndex) -> Presence {
        match self.core.table.load(page).state() {
            // A page that the kernel has filled in a stopped arena is still empty by its word.
            State::Empty if self.is_stopped() => Presence::Resident,
            State::Empty => Presence::Empty,
            State::Resident | State::Claimed => Presence::Resident,
            State::Dropping | State::Stored | State::Filling | State::Lost => Presence::Away,
        }
    }
}

/// The pager of an arena that evicts nothing.
#[derive(Debug)]
pub(super) struct PlainPager(pub(super) PlainMemory);

impl Pager for PlainPager {
    fn populate(&self, _: PageRange) -> bool {
        true
    }

    fn forget(&self, _: PageRange) {}

    fn is_likely_resident(&self, _: PageRange) -> bool {
        true
    }

    fn resident(&self, range: PageRange) -> usize {
        range.pages()
    }

    fn release(&self, range: PageRange) -> Result<(), SysError> {
        self.0.discard(range)
    }

    fn presence(&self, _: PageIndex) -> Presence {
        Presence::Resident
    }
}

fn fill_error(error: FillError) -> ArenaError {
    match error {
        FillError::NoMemory => ArenaError::NoMemory,
        FillError::Sys(e) => ArenaError::Sys(e),
    }
}

impl Engine {
    /// Ends the threads. No thread can touch the memory any more, so no page has to come back.
    pub(super) fn shut_down(&self) {
        let mut threads = self.threads.lock();
        drop(threads.evictor.take());
        self.join_handlers(&mut threads);
        drop(threads.watchdog.take());
    }

    fn join_handlers(&self, threads: &mut Threads) {
        self.core.backing.keeper().raise_interrupt();
        for handler in threads.handlers.drain(..) {
            // A handler thread that panics aborts the process.
            let _ = handler.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shut_down();
    }
}
