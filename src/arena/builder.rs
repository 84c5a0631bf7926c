//! The options of an arena, and their validation.

use super::address_space::{self, DEFAULT_RESERVE};
use super::backing::{self, Backing};
use super::error::BuildError;
use super::limits;
use super::{Arena, Swapping};
use crate::fault::FaultMode;
use crate::policy::AgeClock;
use crate::prim::PAGE_SIZE;
use crate::prim::geometry::REGION_BYTES;
use crate::prim::in_library::InLibraryGuard;
use crate::sys::backing::MemoryKind;
use crate::sys::{self, Probe};
use crate::track::Tracker;
use std::time::Duration;

/// The most bytes of address space that an arena may reserve.
const MAX_RESERVE: usize = 16 << 40;
const MIN_STORE: usize = 1 << 20;

/// The options of an arena, from [`Arena::builder`].
///
/// ```
/// use std::time::Duration;
/// use thermocline::Arena;
///
/// # fn main() -> Result<(), thermocline::BuildError> {
/// let arena = Arena::builder()
///     .reserve(1 << 40)
///     .resident_limit(256 << 20)
///     .cold_age(Duration::from_secs(10))
///     .plain_memory_fallback(true)
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    /// None means the default, or less where that does not fit.
    reserve: Option<usize>,
    resident_limit: Option<usize>,
    memory_limit: Option<usize>,
    cold_age: Duration,
    scan_interval: Duration,
    store_limit: Option<usize>,
    backing: Backing,
    tracker: Option<Tracker>,
    fault_mode: FaultMode,
    handler_threads: usize,
    plain_memory_fallback: bool,
    stall_limit: Duration,
    abort_on_stall: bool,
    poison_freed: bool,
    zeal: bool,
    accessed_bits: bool,
    tracking_budget: Option<f64>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            reserve: None,
            resident_limit: None,
            memory_limit: None,
            cold_age: Duration::from_secs(60),
            scan_interval: Duration::from_secs(1),
            store_limit: None,
            backing: Backing::Auto,
            tracker: None,
            fault_mode: FaultMode::Auto,
            handler_threads: 2,
            plain_memory_fallback: false,
            stall_limit: Duration::from_secs(10),
            abort_on_stall: false,
            poison_freed: false,
            zeal: false,
            accessed_bits: true,
            tracking_budget: None,
        }
    }
}

impl Builder {
    /// Bytes of address space, which bound the sum of all blocks. From 2 MiB to 16 TiB, rounded up to
    /// 2 MiB; 64 GiB by default. Unused address space costs nothing.
    ///
    /// The arena takes this address space twice, and also the bytes of the [store](Self::store_limit).
    /// `RLIMIT_AS` (`ulimit -v`) bounds all of it. `vm.overcommit_memory=2` bounds the store, to about half
    /// of the machine's memory. If the bytes of this option do not fit, `build` fails with
    /// [`BuildError::AddressSpace`]. Without this option, if the default does not fit, `build` halves it
    /// until it fits, and then once more, to leave address space for the program. Below 64 MiB `build`
    /// fails. [`Stats::reserved_bytes`] has the result.
    ///
    /// [`Stats::reserved_bytes`]: crate::Stats::reserved_bytes
    pub fn reserve(mut self, bytes: usize) -> Self {
        self.reserve = Some(bytes);
        self
    }

    /// Bytes of pages that may be in memory uncompressed. Above the limit the evictor evicts the oldest
    /// pages, at any age. At least 256 KiB; none by default. [`Arena::set_resident_limit`] changes it.
    ///
    /// The limit is a goal, not a bound: a touch brings its page back at once, and the evictor evicts the
    /// surplus right after. A thread that brings pages in waits for the evictor if the surplus is more than
    /// a quarter of the limit or 4 MiB, whichever is less. It waits for 20 ms at most each time, and only
    /// while the evictor finds pages to evict.
    pub fn resident_limit(mut self, bytes: usize) -> Self {
        self.resident_limit = Some(bytes);
        self
    }

    /// Bytes that the pages in memory and the store may take together. Above the limit the evictor evicts
    /// the oldest pages, at any age. At least 256 KiB; none by default. [`Arena::set_memory_limit`] changes
    /// it.
    ///
    /// The limit is a goal like the [resident limit](Self::resident_limit). A program may set both. The arena
    /// can keep to this limit only if the data compresses well enough.
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// The age at which the evictor evicts a page in any case; a limit or an advice may evict it sooner. At
    /// least one scan interval, at most half a million; a minute by default. A page stays somewhat longer, by a
    /// sixth of the cold age, or by more where the [tracking budget](Self::tracking_budget) makes looks and clears
    /// rarer.
    pub fn cold_age(mut self, age: Duration) -> Self {
        self.cold_age = age;
        self
    }

    /// The shortest time from one scan to the next. From a millisecond to an hour; a second by default. Ages are
    /// counted in units of it. The [tracking budget](Self::tracking_budget) makes most scans rarer.
    pub fn scan_interval(mut self, interval: Duration) -> Self {
        self.scan_interval = interval;
        self
    }

    /// The share of a processor that tracking may cost: the evictor's time to look at accessed bits, to arm and to
    /// scan, and the time that the program loses by it. Above 0, at most 1. By default 0.01 if the
    /// [cold age](Self::cold_age) is a minute or longer, and more in proportion if it is shorter, up to 0.1.
    ///
    /// A quarter of it is for looks at the accessed bits, and a quarter for clearing them: the program's processors
    /// set them again. If that costs more, looks and clears become rarer. The other half is for watching regions
    /// page by page; if there are more such regions, they wait for their turn. Idle memory is then found later.
    /// Near a limit and above it the evictor tracks as much as it must. [`Stats::tracking_nanos`] and
    /// [`Stats::tracking_fault_nanos`] have the cost.
    ///
    /// [`Stats::tracking_nanos`]: crate::Stats::tracking_nanos
    /// [`Stats::tracking_fault_nanos`]: crate::Stats::tracking_fault_nanos
    pub fn tracking_budget(mut self, share: f64) -> Self {
        self.tracking_budget = Some(share);
        self
    }

    /// Whether the evictor uses the accessed bits that the processor keeps, to find idle regions of 2 MiB without a
    /// fault. On by default. Where the system does not let a process read its own, the arena does without them,
    /// and [`Stats::accessed_errors`] counts it.
    ///
    /// The evictor clears the accessed bits of all file mappings of the process, and with
    /// [private memory](Backing::Private) those of all its mappings
    /// (`/proc/self/clear_refs`, `proc_pid_clear_refs(5)`). Switch this off if another agent in the process
    /// relies on them. Kernel reclaim reads the same bits: on a machine that swaps, pages of these mappings that
    /// were not touched since the last clear count as unused there too.
    ///
    /// [`Stats::accessed_errors`]: crate::Stats::accessed_errors
    pub fn accessed_bits(mut self, on: bool) -> Self {
        self.accessed_bits = on;
        self
    }

    /// Bytes of memory that the store may take. From 1 MiB to 16 TiB, rounded down to 64 KiB; as much as
    /// the reserve by default. When the store is full, pages stay in memory.
    pub fn store_limit(mut self, bytes: usize) -> Self {
        self.store_limit = Some(bytes);
        self
    }

    /// The kind of the arena's memory; shared by default.
    ///
    /// [`build`](Self::build) fails if the system lacks what private memory needs ([`Probe::can_rwp_private`],
    /// [`Probe::can_accessed_private`]), or if the [tracker](Self::tracker) does not work on this kind.
    pub fn backing(mut self, backing: Backing) -> Self {
        self.backing = backing;
        self
    }

    /// How the evictor notices touches. By default read-write protection where the kernel has it, and elsewhere zapped
    /// page tables on shared memory, accessed bits alone on private memory.
    pub fn tracker(mut self, tracker: Tracker) -> Self {
        self.tracker = Some(tracker);
        self
    }

    /// Whether handler threads serve faults, or the faulting thread does. By default handler threads, unless
    /// the process may only serve faults of user code.
    pub fn fault_mode(mut self, mode: FaultMode) -> Self {
        self.fault_mode = mode;
        self
    }

    /// The number of handler threads with [`FaultMode::Handler`]; each serves a part of the memory. From 1 to
    /// 64; 2 by default. A larger number helps if many threads touch evicted pages at the same time.
    pub fn handler_threads(mut self, threads: usize) -> Self {
        self.handler_threads = threads;
        self
    }

    /// Whether the arena works as plain memory, which is never evicted, if the system lacks what eviction
    /// needs. [`Arena::swapping`] tells whether it works as plain memory, and why. Off by default: then
    /// `build` fails with the reason and the remedy.
    pub fn plain_memory_fallback(mut self, on: bool) -> Self {
        self.plain_memory_fallback = on;
        self
    }

    /// The time without progress after which the watchdog reports a stall: of a thread of the arena, or of
    /// the owner of a page with a waiter. From a tenth of a second to an hour; ten seconds by default. The
    /// watchdog writes a line with the thread and the page to standard error, and another one when the
    /// thread makes progress; [`Stats::stalls`] counts the stall. Such a thread is stuck in the kernel,
    /// gets no processor, waits for memory that the kernel does not have, or has met a bug.
    ///
    /// Time does not count while the whole process or the machine is stopped, or gets no processor. It does
    /// count while a debugger stops a single thread.
    ///
    /// [`Stats::stalls`]: crate::Stats::stalls
    pub fn stall_limit(mut self, limit: Duration) -> Self {
        self.stall_limit = limit;
        self
    }

    /// Whether the watchdog aborts the process at the first [stall](Self::stall_limit), after the line
    /// that says why. This helps if a supervisor restarts the process: a supervisor notices that a process
    /// has ended, but not that it hangs. Off by default: then the watchdog reports and counts a stall.
    pub fn abort_on_stall(mut self, on: bool) -> Self {
        self.abort_on_stall = on;
        self
    }

    /// Whether the arena overwrites freed bytes that are in memory with `0xdb`, so that a test finds a use
    /// after free sooner. Then every allocation and every free takes a lock. For tests; off by default.
    pub fn poison_freed(mut self, on: bool) -> Self {
        self.poison_freed = on;
        self
    }

    /// Whether the evictor evicts, every scan interval, all pages that no thread touches meanwhile, in
    /// batches of 64 pages, of one and of 7 in turn. A short test then meets cases that would otherwise take
    /// days to happen. For tests only, off by default: with zeal the evictor ignores the cold age and the
    /// limits.
    pub fn zeal(mut self, on: bool) -> Self {
        self.zeal = on;
        self
    }

    /// Reserves the address space, opens the descriptors and starts the threads.
    ///
    /// # Errors
    ///
    /// [`BuildError`] says which option is out of range, what the system lacks, or which call
    /// failed, and what would help.
    pub fn build(self) -> Result<Arena, BuildError> {
        let _in_library = InLibraryGuard::enter();
        let mut config = self.validate()?;
        let probe = sys::probe();
        config.fault_mode = choose_fault_mode(self.fault_mode, &probe);
        let swapping = match backing::choose(self.backing, self.tracker, &probe) {
            Ok((memory, tracker)) => {
                config.memory = memory;
                Swapping::On(tracker)
            }
            Err(reason) if self.plain_memory_fallback && reason.is_about_system() => {
                Swapping::Off(reason)
            }
            Err(reason) => return Err(reason),
        };
        let start = |config| {
            let started = Arena::start(config, swapping.clone(), &probe);
            started.map_err(|error| address_space::explain(error, &config, &swapping))
        };
        match start(config) {
            Err(BuildError::AddressSpace { .. }) if self.reserve.is_none() => {
                let sized = |reserve| self.sized(config, reserve);
                start(address_space::config_that_fits(sized, &swapping)?)
            }
            started => started,
        }
    }

    /// The same with another reserve. The store's limit follows it, unless the program gave one.
    fn sized(&self, config: Config, reserve: usize) -> Config {
        Config {
            reserve,
            store_limit: self.store_limit.unwrap_or(reserve).min(MAX_RESERVE),
            ..config
        }
    }

    fn validate(&self) -> Result<Config, BuildError> {
        let invalid = |option, given: String, allowed| {
            Err(BuildError::InvalidOption { option, given, allowed })
        };
        let bytes = |n: usize| format!("{n} bytes");
        let reserve = self.reserve.unwrap_or(DEFAULT_RESERVE);
        if !(REGION_BYTES..=MAX_RESERVE).contains(&reserve) {
            return invalid("reserve", bytes(reserve), "from 2 MiB to 16 TiB");
        }
        let limits = [self.resident_limit, self.memory_limit];
        for (option, limit) in ["resident_limit", "memory_limit"].into_iter().zip(limits) {
            if let Some(limit) = limit.filter(|&limit| limit < limits::LEAST) {
                return invalid(option, bytes(limit), "at least 256 KiB, a batch of pages");
            }
        }
        if let Some(limit) = self.store_limit.filter(|&limit| limit < MIN_STORE) {
            return invalid("store_limit", bytes(limit), "at least 1 MiB");
        }
        let second = Duration::from_secs(1);
        let (interval, age) = (self.scan_interval, self.cold_age);
        if !(second / 1000..=second * 3600).contains(&interval) {
            let allowed = "from a millisecond to an hour";
            return invalid("scan_interval", format!("{interval:?}"), allowed);
        }
        // The quantum of ages is the shortest scan interval.
        let clock = AgeClock::new(interval);
        if !(second / 10..=second * 3600).contains(&self.stall_limit) {
            let allowed = "from a tenth of a second to an hour";
            return invalid("stall_limit", format!("{:?}", self.stall_limit), allowed);
        }
        let given = self.tracking_budget;
        if let Some(share) = given.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
            return invalid("tracking_budget", share.to_string(), "above 0, at most 1");
        }
        let Some(cold) = ColdAge::new(age, interval, given) else {
            return invalid("cold_age", format!("{age:?}"), COLD_AGES);
        };
        if !(1..=64).contains(&self.handler_threads) {
            let given = self.handler_threads.to_string();
            return invalid("handler_threads", given, "from 1 to 64");
        }
        let page = sys::memory::system_page_size();
        if page != PAGE_SIZE {
            return Err(BuildError::PageSize { bytes: page });
        }
        let reserve = reserve.next_multiple_of(REGION_BYTES);
        Ok(Config {
            memory: MemoryKind::Shared,
            reserve,
            resident_limit: self.resident_limit,
            memory_limit: self.memory_limit,
            clock,
            cold,
            scan_interval: interval,
            store_limit: self.store_limit.unwrap_or(reserve).min(MAX_RESERVE),
            fault_mode: self.fault_mode,
            handler_threads: self.handler_threads,
            stall_limit: self.stall_limit,
            abort_on_stall: self.abort_on_stall,
            poison_freed: self.poison_freed,
            zeal: self.zeal,
            accessed_bits: self.accessed_bits,
            tracking_budget: given,
        })
    }
}

/// The allowed cold ages.
pub(super) const COLD_AGES: &str = "from one to 524287 scan intervals";

/// A cold age in the engine's units, and the settings that depend on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ColdAge {
    pub(super) ticks: u32,
    /// The shortest time from one look at the accessed bits to the next.
    pub(super) look_interval: Duration,
    /// What tracking may cost, as a share of one processor.
    pub(super) tracking_budget: f64,
}

impl ColdAge {
    /// `None` if the age is not allowed. Without a `budget` the age decides what tracking may cost.
    pub(super) fn new(age: Duration, scan_interval: Duration, budget: Option<f64>) -> Option<Self> {
        let ticks = AgeClock::new(scan_interval).ticks(age).filter(|_| age >= scan_interval)?;
        // A sixth of the cold age: the cold age is then exceeded by a sixth at most.
        let look_interval = (age / 6).max(scan_interval);
        let tracking_budget = budget.unwrap_or(default_tracking_budget(age));
        Some(Self { ticks, look_interval, tracking_budget })
    }
}

/// One percent, or more for a cold age of less than a minute: the evictor has to look more often.
fn default_tracking_budget(cold_age: Duration) -> f64 {
    (0.6 / cold_age.as_secs_f64()).clamp(0.01, 0.1)
}

/// Valid options, in the engine's units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    /// `build` chooses it.
    pub(super) memory: MemoryKind,
    pub(super) reserve: usize,
    pub(super) resident_limit: Option<usize>,
    pub(super) memory_limit: Option<usize>,
    /// The time that ages count.
    pub(super) clock: AgeClock,
    pub(super) cold: ColdAge,
    pub(super) scan_interval: Duration,
    pub(super) store_limit: usize,
    /// `build` replaces `Auto` before the engine gets it.
    pub(super) fault_mode: FaultMode,
    pub(super) handler_threads: usize,
    pub(super) stall_limit: Duration,
    pub(super) abort_on_stall: bool,
    pub(super) poison_freed: bool,
    pub(super) zeal: bool,
    pub(super) accessed_bits: bool,
    /// The share that the program has given.
    pub(super) tracking_budget: Option<f64>,
}

impl Config {
    /// The most dirty pages: 128 MiB, or an eighth of the lower limit if that is less.
    pub(super) fn most_dirty(&self) -> usize {
        let most = (128 << 20) / PAGE_SIZE;
        let limits = [self.resident_limit, self.memory_limit].into_iter().flatten();
        limits.map(|bytes| bytes / PAGE_SIZE / 8).fold(most, usize::min)
    }
}

/// `Auto` means inline, which is faster, if system calls on evicted memory would fail with handler threads too.
fn choose_fault_mode(asked: FaultMode, probe: &Probe) -> FaultMode {
    match (asked, probe.route()) {
        (FaultMode::Auto, Some(route)) if !route.serves_system_calls() => FaultMode::Inline,
        (FaultMode::Auto, _) => FaultMode::Handler,
        (asked, _) => asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(builder: Builder) -> &'static str {
        match builder.validate() {
            Err(BuildError::InvalidOption { option, .. }) => option,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_short_cold_age_has_a_larger_tracking_budget() {
        let budget = |seconds| default_tracking_budget(Duration::from_secs_f64(seconds));
        assert_eq!([600.0, 60.0, 30.0, 1.0].map(budget), [0.01, 0.01, 0.02, 0.1]);
        let validated = |builder: Builder| builder.validate().unwrap().cold.tracking_budget;
        let second = Duration::from_secs(1);
        assert_eq!(validated(Builder::default().cold_age(30 * second)), 0.02);
        assert_eq!(validated(Builder::default().cold_age(30 * second).tracking_budget(0.5)), 0.5);
    }

    #[test]
    fn build_names_the_option_that_is_out_of_range() {
        let builder = Builder::default;
        assert_eq!(refused(builder().reserve(0)), "reserve");
        assert_eq!(refused(builder().reserve(usize::MAX)), "reserve");
        assert_eq!(refused(builder().resident_limit(4096)), "resident_limit");
        assert_eq!(refused(builder().memory_limit(4096)), "memory_limit");
        assert_eq!(refused(builder().store_limit(0)), "store_limit");
        assert_eq!(refused(builder().scan_interval(Duration::ZERO)), "scan_interval");
        assert_eq!(refused(builder().scan_interval(Duration::MAX)), "scan_interval");
        assert_eq!(refused(builder().cold_age(Duration::from_millis(1))), "cold_age");
        assert_eq!(refused(builder().cold_age(Duration::MAX)), "cold_age");
        assert_eq!(refused(builder().stall_limit(Duration::ZERO)), "stall_limit");
        assert_eq!(refused(builder().stall_limit(Duration::MAX)), "stall_limit");
        for share in [0.0, -1.0, 1.01, f64::NAN] {
            assert_eq!(refused(builder().tracking_budget(share)), "tracking_budget");
        }
        assert_eq!(refused(builder().handler_threads(0)), "handler_threads");
        assert_eq!(refused(builder().handler_threads(65)), "handler_threads");
    }

    #[test]
    fn the_reserve_rounds_up_to_regions_and_the_cold_age_to_ticks() {
        let config = Builder::default()
            .reserve((2 << 20) + 1)
            .scan_interval(Duration::from_millis(300))
            .cold_age(Duration::from_secs(1))
            .validate()
            .unwrap();
        assert_eq!((config.reserve, config.cold.ticks), (4 << 20, 4));
    }
}
