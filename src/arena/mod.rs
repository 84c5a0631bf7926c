//! Where the parts are put together: the arena that a program sees.

mod address_space;
mod allocate;
#[cfg(feature = "allocator-api2")]
mod allocator_api;
mod budget;
mod builder;
mod engine;
mod error;
mod evictor_thread;
mod global;
mod lanes;
mod limits;
mod mailbox;
mod residency;
mod stall;
mod watchdog;

pub use allocate::AllocError;
pub use builder::Builder;
pub use error::{ArenaError, BuildError};
pub use global::{ArenaAlloc, StartError};
pub use lanes::ArenaLane;
pub use residency::{Peek, PinGuard};

use crate::alloc::{BlockMap, Heap, HeapOptions, Pager};
use crate::evict::Evicted;
use crate::fault::FaultMode;
use crate::prim::in_library::InLibraryGuard;
use crate::prim::sync::thread;
use crate::prim::{PAGE_SIZE, PageRange};
use crate::stats::Stats;
use crate::sys::backing::PlainMemory;
use crate::sys::fork::Generation;
use crate::sys::uffd::Uffd;
use crate::sys::{DescriptorRoute, Probe};
use crate::track::{Core, Tracker};
use builder::Config;
use core::mem::ManuallyDrop;
use engine::{Engine, PlainPager};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

/// Whether an arena evicts pages, and by which means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Swapping {
    /// It does, with this tracker.
    On(Tracker),
    /// It works as plain memory, because
    /// [`plain_memory_fallback`](Builder::plain_memory_fallback) was asked for and this stood in the way.
    Off(BuildError),
    /// It did, and was [stopped](Arena::stop).
    Stopped,
}

impl fmt::Display for Swapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On(tracker) => tracker.fmt(f),
            Self::Off(reason) => write!(f, "off: {reason}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// What a caller expects of a range of memory: see [`Arena::advise`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// It will not be touched for a while: evict it in the background, now, whatever its age.
    /// Pages that are touched while that is going on stay.
    Cold,
    /// It will be touched soon: bring it back in the background.
    WillNeed,
}

/// Memory whose cold pages are compressed in the background and come back when they are touched.
///
/// An `Arena` is an allocator, and so is `&Arena`. The program may use allocated memory like any
/// memory, from any thread; the [crate's documentation](crate#limits) lists the limits.
///
/// A clone is the same arena, and costs one atomic increment. Collections that outlive the current
/// function, or move to another thread, hold a clone; others may borrow the arena. The memory is freed
/// when the last clone is dropped.
///
/// ```
/// use allocator_api2::vec::Vec;
/// use thermocline::{Arena, BuildError};
///
/// fn squares(arena: &Arena) -> Vec<u64, Arena> {
///     let mut squares = Vec::new_in(arena.clone());
///     squares.extend((0..100_000).map(|n| n * n));
///     squares
/// }
///
/// # fn main() -> Result<(), BuildError> {
/// let arena = Arena::builder().plain_memory_fallback(true).build()?;
/// let squares = squares(&arena);
/// // The evictor does this by itself, once the pages have been idle for the cold age.
/// if let Ok(evicted) = arena.evict_now() {
///     assert!(evicted.pages > 0);
/// }
/// drop(arena); // The vector's clone keeps the memory.
/// assert_eq!(squares[70_000], 4_900_000_000);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Arena {
    inner: Arc<Inner>,
}

/// Two arenas are equal if they are clones of one.
impl PartialEq for Arena {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Arena {}

struct Inner {
    /// Never dropped in a forked child, which has neither the mappings nor the threads.
    parts: ManuallyDrop<Parts>,
    /// The first byte, and the heap's number: what every allocation needs.
    base: Base,
    heap_number: u64,
    config: Config,
    generation: Generation,
    off: Option<BuildError>,
}

/// The first byte of an arena.
struct Base(*mut u8);

#[allow(unsafe_code)]
// SAFETY: an address, through which only blocks are reached that somebody has allocated.
unsafe impl Send for Base {}
#[allow(unsafe_code)]
// SAFETY: as above.
unsafe impl Sync for Base {}

struct Parts {
    engine: Option<Arc<Engine>>,
    /// The memory, if there is no engine.
    plain: Option<Arc<PlainPager>>,
    /// Threads hold it for a moment when they end, and with it the engine: see [`Engine::shut_down`].
    heap: Arc<Heap>,
}

impl Arena {
    /// Options for an arena, all of which have defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn start(config: Config, swapping: Swapping, probe: &Probe) -> Result<Self, BuildError> {
        let generation = Generation::current()?;
        let pages = config.reserve / PAGE_SIZE;
        let map = Arc::new(BlockMap::new(pages)?);
        let (pager, base, started, plain, off): (Arc<dyn Pager>, _, _, _, _) = match swapping {
            Swapping::On(tracker) => {
                let (engine, evictor) = Engine::new(&config, tracker, probe, Arc::clone(&map))
                    .map_err(|e| e.with_handlers(handlers_of(&config)))?;
                let engine = Arc::new(engine);
                let base = engine.core.backing.base();
                (Arc::clone(&engine) as _, base, Some((engine, evictor)), None, None)
            }
            other => {
                let plain = Arc::new(PlainPager(PlainMemory::new(config.reserve)?));
                let reason = if let Swapping::Off(reason) = other { Some(reason) } else { None };
                (Arc::clone(&plain) as _, plain.0.base(), None, Some(plain), reason)
            }
        };
        let options = HeapOptions { poison: config.poison_freed, most_dirty: config.most_dirty() };
        let heap = Arc::new(Heap::new(base.addr(), pages, map, pager, options)?);
        let engine = match started {
            Some((engine, evictor)) => {
                engine.start(&config, evictor, Arc::downgrade(&heap))?;
                Some(engine)
            }
            None => None,
        };
        let (base, heap_number) = (Base(base), heap.number());
        let parts = ManuallyDrop::new(Parts { engine, plain, heap });
        let inner = Inner { parts, base, heap_number, config, generation, off };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether the arena evicts pages, and by which means.
    #[must_use]
    pub fn swapping(&self) -> Swapping {
        match (&self.inner.parts.engine, &self.inner.off) {
            (Some(engine), _) if !engine.is_stopped() => Swapping::On(engine.core.watch.tracker()),
            (None, Some(reason)) => Swapping::Off(reason.clone()),
            _ => Swapping::Stopped,
        }
    }

    /// Which way the arena's userfaultfd was opened; none if it works as plain memory.
    #[must_use]
    pub fn route(&self) -> Option<DescriptorRoute> {
        let route = |engine: &Engine| engine.core.backing.uffds().first().map(Uffd::route);
        self.inner.parts.engine.as_deref().and_then(route)
    }

    /// Who brings back a page that was touched, [`Auto`](FaultMode::Auto) having been decided; none
    /// if the arena works as plain memory.
    #[must_use]
    pub fn fault_mode(&self) -> Option<FaultMode> {
        self.inner.parts.engine.as_ref().map(|_| self.inner.config.fault_mode)
    }

    /// Whether a system call may be given evicted memory, and waits for it. If not, it fails with
    /// `EFAULT`: [`pin`](Self::pin) what it is given.
    #[must_use]
    pub fn serves_system_calls(&self) -> bool {
        match (self.fault_mode(), self.route()) {
            (Some(FaultMode::Inline), _) => false,
            (_, route) => route.is_none_or(DescriptorRoute::serves_system_calls),
        }
    }

    /// Evicts every page that is not touched meanwhile, whatever its age, and waits for it.
    ///
    /// Pages that did not compress the last time are left alone for a while, as are those about
    /// which the kernel refused something; they are not counted then.
    ///
    /// # Errors
    ///
    /// [`ArenaError::NotSwapping`] where nothing is ever evicted, [`ArenaError::ForkedChild`] in a
    /// fork.
    pub fn evict_now(&self) -> Result<Evicted, ArenaError> {
        let _in_library = InLibraryGuard::enter();
        self.inner.engine()?.evict_now()
    }

    /// Says how `range` is going to be used. It returns at once; what is done about it happens in
    /// the background, or not at all where much else is to be done.
    ///
    /// [`Advice::Cold`] concerns the pages that lie in the range with all their bytes,
    /// [`Advice::WillNeed`] those that have any byte in it.
    ///
    /// # Errors
    ///
    /// [`ArenaError::OutsideArena`] if any byte lies elsewhere, [`ArenaError::NotSwapping`] where
    /// nothing is ever evicted, [`ArenaError::ForkedChild`] in a fork.
    pub fn advise<T>(&self, range: *const [T], advice: Advice) -> Result<(), ArenaError> {
        let (offset, len) = self.inner.locate(range)?;
        let engine = self.inner.engine()?;
        match advice {
            Advice::Cold => engine.make_cold(PageRange::within(offset, len)),
            Advice::WillNeed => engine.will_need(PageRange::touching(offset, len)),
        }
    }

    /// Brings back everything that is stored, ends the threads and leaves ordinary memory behind,
    /// in which all allocations go on living. There has to be room for them. Stopping twice is
    /// stopping once.
    ///
    /// # Errors
    ///
    /// [`ArenaError::NoMemory`] if the kernel has no memory for the pages: nothing is lost, what is
    /// touched still comes back, but nothing is evicted any more; stopping may be tried again.
    /// [`ArenaError::Sys`] if it refuses, likewise. [`ArenaError::NotSwapping`] for an arena that is
    /// plain memory anyway, [`ArenaError::ForkedChild`] in a fork.
    pub fn stop(&self) -> Result<(), ArenaError> {
        let _in_library = InLibraryGuard::enter();
        self.inner.engine()?.stop()
    }

    /// What the arena holds and what it has done; nothing in a forked child.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let _in_library = InLibraryGuard::enter();
        // In a forked child the heap's lock may be held for ever.
        if self.inner.generation.is_current() { self.inner.stats() } else { Stats::default() }
    }

    /// Walks all structures of the arena and says what is wrong with them, for tests and diagnosis.
    /// Eviction waits meanwhile.
    ///
    /// Call it while no other thread allocates, frees or touches memory of the arena: what is under
    /// way looks like damage.
    ///
    /// # Errors
    ///
    /// What was found, in words. It means that this library has a bug or that its memory has been
    /// overwritten.
    pub fn check(&self) -> Result<(), String> {
        let _in_library = InLibraryGuard::enter();
        if !self.inner.generation.is_current() {
            return Err(ArenaError::ForkedChild.to_string());
        }
        settled(|| self.inner.parts.heap.check())?;
        self.inner.parts.engine.as_ref().map_or(Ok(()), |engine| engine.check())
    }
}

impl Inner {
    fn engine(&self) -> Result<&Engine, ArenaError> {
        if !self.generation.is_current() {
            return Err(ArenaError::ForkedChild);
        }
        self.parts.engine.as_deref().ok_or(ArenaError::NotSwapping)
    }

    /// The offset and length in bytes of a range that lies in the arena.
    fn locate<T>(&self, range: *const [T]) -> Result<(usize, usize), ArenaError> {
        let outside = ArenaError::OutsideArena;
        let len = range.len().checked_mul(size_of::<T>()).ok_or(outside.clone())?;
        if len == 0 {
            // An empty slice may dangle; there is nothing to do about it.
            return Ok((0, 0));
        }
        let address = range.cast::<u8>().addr();
        let offset = address.checked_sub(self.base.0.addr()).ok_or(outside.clone())?;
        if offset.checked_add(len).is_some_and(|end| end <= self.config.reserve) {
            Ok((offset, len))
        } else {
            Err(outside)
        }
    }

    fn stats(&self) -> Stats {
        let engine = self.parts.engine.as_deref();
        let counters = engine.map(|engine| &*engine.core.counters);
        let mut stats = counters.map_or_else(Stats::default, Stats::of);
        stats.reserved_bytes = self.config.reserve as u64;
        (stats.allocated_bytes, stats.hole_bytes) = self.parts.heap.allocated_and_holes();
        let plain = self.parts.plain.as_ref();
        stats.memory_bytes = plain.map_or(0, |plain| plain.0.memory_bytes().unwrap_or(0));
        if let Some(engine) = engine {
            let Core { backing, table, store, .. } = &*engine.core;
            let bytes = |pages: usize| (pages * PAGE_SIZE) as u64;
            stats.memory_bytes = backing.memory_bytes().unwrap_or(0);
            stats.resident_bytes = bytes(table.resident());
            stats.stored_bytes = bytes(table.stored());
            stats.lost_bytes = bytes(table.lost());
            stats.pinned_bytes = bytes(table.pins().total());
            stats.compressed_bytes = store.payload_bytes() as u64;
            stats.store_bytes = store.held_bytes() as u64;
            stats.store_limit_bytes = store.limit() as u64;
        }
        stats
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("base", &self.base.0)
            .field("config", &self.config)
            .field("off", &self.off)
            .finish_non_exhaustive()
    }
}

/// Threads that serve faults from a descriptor each.
fn handlers_of(config: &Config) -> usize {
    if config.fault_mode == FaultMode::Inline { 0 } else { config.handler_threads }
}

/// What `check` says at last: a thread whose end somebody has waited for, or a toucher that goes on,
/// may leave something to be done by itself or by a handler, which takes a moment.
fn settled(check: impl Fn() -> Result<(), String>) -> Result<(), String> {
    let mut result = check();
    // Long, because it costs nothing but where something is wrong.
    for _ in 0..5000 {
        if result.is_ok() {
            break;
        }
        thread::sleep(Duration::from_millis(2));
        result = check();
    }
    result
}

impl Drop for Inner {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        let _in_library = InLibraryGuard::enter();
        if self.generation.is_current() {
            if let Some(engine) = &self.parts.engine {
                engine.shut_down();
            }
            // SAFETY: nothing uses the parts after this, the only place that drops them.
            unsafe { ManuallyDrop::drop(&mut self.parts) };
        }
        // In a child, what was mapped here is not, or is something else's by now; and the threads
        // that dropping would wait for are the parent's.
    }
}

// The state that several threads see lies behind atomics and locks, and the library runs no code of the
// program while it changes that state. So a panic of the program leaves no half-made change in an arena.
impl UnwindSafe for Inner {}
impl RefUnwindSafe for Inner {}

/// Arenas, lanes and pins may go to other threads and through `catch_unwind`.
const _: fn() = || {
    fn goes_anywhere<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    goes_anywhere::<Arena>();
    goes_anywhere::<ArenaLane>();
    goes_anywhere::<PinGuard>();
};

#[cfg(test)]
#[cfg(loom)]
mod model;
#[cfg(test)]
#[cfg(all(thermocline_sim, not(loom)))]
mod simulation;
#[cfg(test)]
#[cfg(not(thermocline_sim))]
mod tests;
