//! The arena that a program sees, assembled from the other rooms.

mod address_space;
mod allocate;
#[cfg(feature = "allocator-api2")]
mod allocator_api;
mod backing;
mod budget;
mod builder;
mod engine;
mod error;
mod evictor_thread;
mod global;
mod lanes;
mod limits;
mod mailbox;
mod range;
mod residency;
mod stall;
mod watchdog;

pub use allocate::AllocError;
pub use backing::Backing;
pub use builder::Builder;
pub use error::{ArenaError, BuildError};
pub use global::{ArenaAlloc, StartError};
pub use lanes::ArenaLane;
pub use range::MemoryRange;
pub use residency::{Peek, PinGuard};

use crate::alloc::{BlockMap, Heap, HeapOptions, Pager};
use crate::evict::Evicted;
use crate::fault::FaultMode;
use crate::prim::in_library::InLibraryGuard;
use crate::prim::sync::thread;
use crate::prim::{PAGE_SIZE, PageRange};
use crate::stats::Stats;
use crate::sys::backing::{MemoryKind, PlainMemory};
use crate::sys::fork::Generation;
use crate::sys::uffd::Uffd;
use crate::sys::{DescriptorRoute, Probe};
use crate::track::{Core, Tracker};
use builder::Config;
use core::mem::ManuallyDrop;
use engine::{Engine, PlainPager};
use std::fmt;
use std::ops::Range;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

/// Whether an arena evicts pages, and by which means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Swapping {
    /// It evicts, with this tracker.
    On(Tracker),
    /// It works as plain memory, by [`plain_memory_fallback`](Builder::plain_memory_fallback), for this
    /// reason.
    Off(BuildError),
    /// It evicted, until the program [stopped](Arena::stop) it.
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

/// How the program is going to use a range of memory: see [`Arena::advise`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// The program will not touch the range for a while: the evictor evicts it now, in the background, at
    /// any age. Pages that a thread touches meanwhile stay.
    Cold,
    /// The program will touch the range soon: the evictor brings it back in the background.
    WillNeed,
}

/// Memory whose cold pages are compressed in the background and come back when they are touched.
///
/// An `Arena` is an allocator, and so is `&Arena`. The program may use allocated memory like any
/// memory, from any thread; the [crate's documentation](crate#limits) lists the limits.
///
/// A clone is the same arena, and costs one atomic increment. Collections that outlive the current
/// function, or move to another thread, hold a clone; a collection in a function may borrow the arena.
/// The memory is freed when the last clone is dropped.
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
    /// A forked child never drops them: it has neither the mappings nor the threads.
    parts: ManuallyDrop<Parts>,
    /// The first byte. Every allocation uses it and the heap's number, so both are here.
    base: Base,
    heap_number: u64,
    config: Config,
    generation: Generation,
    off: Option<BuildError>,
}

/// The first byte of an arena.
struct Base(*mut u8);

#[allow(unsafe_code)]
// SAFETY: `Base` is an address. The library derives pointers to blocks from it, and the owner of a block
// synchronizes its accesses.
unsafe impl Send for Base {}
#[allow(unsafe_code)]
// SAFETY: as above.
unsafe impl Sync for Base {}

struct Parts {
    engine: Option<Arc<Engine>>,
    /// The memory, if there is no engine.
    plain: Option<Arc<PlainPager>>,
    /// A thread that ends holds a reference for a moment, which keeps the engine alive: see
    /// [`Engine::shut_down`].
    heap: Arc<Heap>,
}

impl Arena {
    /// The options of an arena. Each has a default.
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

    /// The kind of the arena's memory, [`Backing::Shared`] or [`Backing::Private`]; none if it works as plain memory.
    #[must_use]
    pub fn backing(&self) -> Option<Backing> {
        self.inner.parts.engine.as_deref().map(|engine| match engine.core.backing.kind() {
            MemoryKind::Shared => Backing::Shared,
            MemoryKind::Private => Backing::Private,
        })
    }

    /// How the arena opened its userfaultfd; none if it works as plain memory.
    #[must_use]
    pub fn route(&self) -> Option<DescriptorRoute> {
        let route = |engine: &Engine| engine.core.backing.uffds().first().map(Uffd::route);
        self.inner.parts.engine.as_deref().and_then(route)
    }

    /// The mode in which threads serve faults: [`Handler`](FaultMode::Handler) or [`Inline`](FaultMode::Inline),
    /// even if the option was [`Auto`](FaultMode::Auto). None if the arena works as plain memory.
    #[must_use]
    pub fn fault_mode(&self) -> Option<FaultMode> {
        self.inner.parts.engine.as_ref().map(|_| self.inner.config.fault_mode)
    }

    /// Whether a system call on evicted memory waits for the page. If not, the call fails with `EFAULT`:
    /// [`pin`](Self::pin) the memory first.
    #[must_use]
    pub fn serves_system_calls(&self) -> bool {
        match (self.fault_mode(), self.route()) {
            (Some(FaultMode::Inline), _) => false,
            (_, route) => route.is_none_or(DescriptorRoute::serves_system_calls),
        }
    }

    /// Evicts all pages, of any age, that no thread touches meanwhile, and returns when they are evicted.
    ///
    /// The evictor skips for a while pages that did not compress, and pages for which a system call failed.
    /// [`Evicted`] does not count skipped pages.
    ///
    /// # Errors
    ///
    /// [`ArenaError::NotSwapping`] in plain memory and in a stopped arena, [`ArenaError::ForkedChild`] in a
    /// forked child.
    pub fn evict_now(&self) -> Result<Evicted, ArenaError> {
        let _in_library = InLibraryGuard::enter();
        self.inner.engine()?.evict_now()
    }

    /// Tells the evictor how the program is going to use `range`, and returns at once. The evictor follows
    /// the advice in the background. If too many requests wait for the evictor, the advice is lost.
    ///
    /// [`Advice::Cold`] applies to pages that lie in the range with all their bytes,
    /// [`Advice::WillNeed`] to pages with any byte in it.
    ///
    /// # Errors
    ///
    /// [`ArenaError::OutsideArena`] if any byte lies elsewhere, [`ArenaError::NotSwapping`] in plain
    /// memory and in a stopped arena, [`ArenaError::ForkedChild`] in a forked child.
    pub fn advise(&self, range: impl MemoryRange, advice: Advice) -> Result<(), ArenaError> {
        let (offset, len) = self.inner.locate(&range)?;
        let engine = self.inner.engine()?;
        match advice {
            Advice::Cold => engine.request_eviction(PageRange::within(offset, len)),
            Advice::WillNeed => engine.request_prefetch(PageRange::touching(offset, len)),
        }
    }

    /// Brings back all stored pages and ends the arena's threads. All blocks stay valid, in ordinary memory;
    /// the machine needs memory for all of them. A second stop has no effect.
    ///
    /// # Errors
    ///
    /// [`ArenaError::NoMemory`] if the kernel has no memory for the pages, [`ArenaError::Sys`] if a system
    /// call fails. Then no data is lost, and a touch still brings a page back. But the arena evicts nothing any
    /// more. The program may try again. [`ArenaError::NotSwapping`] in plain memory,
    /// [`ArenaError::ForkedChild`] in a forked child.
    pub fn stop(&self) -> Result<(), ArenaError> {
        let _in_library = InLibraryGuard::enter();
        self.inner.engine()?.stop()
    }

    /// The arena's statistics; all zero in a forked child.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let _in_library = InLibraryGuard::enter();
        // In a forked child, a thread that does not exist there may hold the heap's lock.
        if self.inner.generation.is_current() { self.inner.stats() } else { Stats::default() }
    }

    /// The addresses of the arena's memory: one range, of [`reserved_bytes`](Stats::reserved_bytes).
    ///
    /// A program that keeps many references to blocks can keep offsets in this range, in fewer bits than an
    /// address has.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let arena = thermocline::Arena::builder().plain_memory_fallback(true).build()?;
    /// let block = arena.allocate(std::alloc::Layout::new::<[u8; 100]>())?.cast::<u8>();
    /// assert!(arena.addresses().contains(&block.as_ptr().cast_const()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn addresses(&self) -> Range<*const u8> {
        let first = self.inner.base.0.cast_const();
        first..first.wrapping_add(self.inner.config.reserve)
    }

    /// Checks the invariants of all structures of the arena, for tests and diagnosis. The evictor waits
    /// meanwhile.
    ///
    /// No other thread may allocate, free or touch memory of the arena meanwhile: a structure in the middle
    /// of a change looks damaged.
    ///
    /// # Errors
    ///
    /// The violated invariant, in words. Either this library has a bug, or the program has overwritten its
    /// memory.
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
    #[inline]
    fn locate(&self, range: &impl MemoryRange) -> Result<(usize, usize), ArenaError> {
        let outside = ArenaError::OutsideArena;
        let (first, len) = range.byte_range();
        if len == 0 {
            // An empty slice may dangle.
            return Ok((0, 0));
        }
        let offset = first.addr().checked_sub(self.base.0.addr()).ok_or(outside.clone())?;
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
            stats.resident_bytes = bytes(table.resident());
            stats.memory_bytes = match backing.kind() {
                MemoryKind::Shared => backing.memory_bytes(table.extent()).unwrap_or(0),
                // To count in the kernel takes time in proportion to the memory.
                MemoryKind::Private => stats.resident_bytes,
            };
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

/// The number of handler threads, each with a descriptor.
fn handlers_of(config: &Config) -> usize {
    if config.fault_mode == FaultMode::Inline { 0 } else { config.handler_threads }
}

/// The result of `check`, repeated until it succeeds: a thread that has ended, or a handler thread that has
/// served a fault, may still finish its work for a moment.
fn settled(check: impl Fn() -> Result<(), String>) -> Result<(), String> {
    let mut result = check();
    // Ten seconds. Only a failing check takes so long.
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
            // SAFETY: only this line drops the parts, and no code uses them after it.
            unsafe { ManuallyDrop::drop(&mut self.parts) };
        }
        // A forked child does not have the arena's mappings, and may have mapped something else there. The
        // threads that a drop waits for are the parent's.
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
