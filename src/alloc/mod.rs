//! The allocator: which bytes of the arena belong to which block.
//!
//! It works with offsets from the arena's start and keeps its metadata outside the arena: neither
//! allocating nor freeing touches an arena page. It does not know page states; a [`Pager`] gives
//! memory to pages and takes it back.
//!
//! # The path of a small block
//!
//! ```text
//! thread's magazine (cache.rs)   no lock; exchanges half a magazine at a time with the bin
//! bin of a class and lane (bin.rs)   a lock each: transfer cache between threads, spans
//! span (span.rs)                 equal slots, a bit for each that is free
//! page heap (pages.rs)           one lock: free runs of pages (runs.rs), whole regions per lane
//! ```
//!
//! A large block is a run of pages of the page heap (large.rs). A block is large if it has more than
//! 32 KiB or is aligned to more than a page.
//!
//! # Locks
//!
//! The order is: `reclaiming` (reclaim.rs), the list of thread caches, a bin, the page heap. A pager may
//! wait for faulting threads and for memory, so a thread holds no lock while it calls a pager. The
//! exception is `reclaiming`, which no fault needs.

mod bin;
mod boundary;
mod cache;
mod check;
mod classes;
mod clock;
mod flush;
mod lane;
mod large;
mod map;
mod pager;
mod pages;
mod reclaim;
mod report;
mod runs;
mod set;
mod small;
mod span;
mod watch;

pub(crate) use cache::{pop_fast, push_fast, take_block_fast};
pub(crate) use classes::{bin_of, same_place, size_of_bin, usable_size};
pub use lane::Lane;
pub(crate) use map::BlockMap;
pub(crate) use pager::{Pager, Presence};
pub use report::{ClassStats, HeapStats, LaneStats};
pub(crate) use watch::bad_free;

use crate::prim::in_library::InLibraryGuard;
use crate::prim::sync::plain::{AtomicU32, AtomicU64, Mutex, Ordering};
use crate::prim::{PAGE_SIZE, PageIndex};
use crate::sys::SysError;
use crate::sys::fork::Generation;
use bin::{Bin, CHUNK_SHIFT};
use cache::ThreadCache;
use classes::{CLASSES, class_of};
use clock::Clock;
use core::alloc::Layout;
use crossbeam::utils::CachePadded;
use map::BINS;
use pages::PageHeap;
use reclaim::Sweep;
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};

/// Memory that was allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Offset of the first byte from the arena's start.
    pub(crate) offset: usize,
    /// Bytes that the caller may use, at least as many as it asked for.
    pub(crate) size: usize,
    /// Whether all its pages are empty, so that it reads as zeros.
    pub(crate) clean: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct HeapOptions {
    /// Whether the arena overwrites freed memory. Then no call takes the fast path.
    pub(crate) poison: bool,
    /// Limit of dirty pages, on top of a quarter of the pages in use.
    pub(crate) most_dirty: usize,
}

/// The allocator of one arena.
#[derive(Debug)]
pub(crate) struct Heap {
    number: u64,
    generation: Generation,
    options: HeapOptions,
    map: Arc<BlockMap>,
    bins: Box<[CachePadded<Mutex<Bin>>]>,
    pages: Mutex<PageHeap>,
    /// Pages of the arena, free or not.
    total: usize,
    caches: Mutex<Vec<Arc<ThreadCache>>>,
    clock: Clock,
    /// How often [`trim`](Self::trim) asked all threads to flush their caches.
    trim_requests: AtomicU32,
    /// A thread holds this lock while it gives free pages back to the system, which are then in no list. An
    /// allocation that finds no room waits for the lock and tries again.
    reclaiming: Mutex<Sweep>,
    pager: Arc<dyn Pager>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Only debug assertions panic under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl Heap {
    /// A heap of `pages` free pages at address `base`, which is page-aligned.
    pub(crate) fn new(
        base: usize,
        pages: usize,
        map: Arc<BlockMap>,
        pager: Arc<dyn Pager>,
        options: HeapOptions,
    ) -> Result<Self, SysError> {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        cache::register_fork_handlers();
        // Page numbers have 32 bits, and the last one means no page.
        let total = pages.min(u32::MAX as usize - 1);
        Ok(Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            generation: Generation::current()?,
            options,
            bins: (0..BINS).map(|bin| CachePadded::new(Mutex::new(Bin::new(bin)))).collect(),
            pages: Mutex::new(PageHeap::new(base, total, Arc::clone(&map))),
            map,
            total,
            caches: Mutex::new(Vec::new()),
            clock: Clock::new(),
            trim_requests: AtomicU32::new(0),
            reclaiming: Mutex::new(Sweep::default()),
            pager,
        })
    }

    /// The heap's number, never used again in this process.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether threads may use [`pop_fast`] and [`push_fast`].
    fn has_fast_path(&self) -> bool {
        !self.options.poison
    }

    fn bin(&self, bin: usize) -> MutexGuard<'_, Bin> {
        lock(&self.bins[bin])
    }

    fn pages(&self) -> MutexGuard<'_, PageHeap> {
        lock(&self.pages)
    }

    /// The bin of the block at `offset`; `None` for a large block.
    #[inline]
    pub(crate) fn bin_at(&self, offset: usize) -> Option<usize> {
        self.map.tag(offset >> CHUNK_SHIFT).map(map::Tag::bin)
    }

    /// Allocates a block in `lane` for `layout`, whose size is not zero.
    #[cold]
    pub(crate) fn allocate(self: &Arc<Self>, lane: Lane, layout: Layout) -> Option<Block> {
        let _in_library = InLibraryGuard::enter();
        if !self.generation.is_current() {
            return None;
        }
        let find = || match bin_of(lane, layout) {
            Some(bin) => self.allocate_slot(bin),
            None => self.allocate_large(lane, layout),
        };
        match find() {
            // Free pages that caches and bins keep, or that another thread is giving back, may
            // together be enough.
            None if layout.size() <= self.total * PAGE_SIZE => {
                let reclaiming = lock(&self.reclaiming);
                self.make_room_locked(&reclaiming);
                find()
            }
            block => block,
        }
    }

    /// Frees the block at `offset`, which was allocated for `layout`.
    #[cold]
    pub(crate) fn free(self: &Arc<Self>, offset: usize, layout: Layout) {
        let _in_library = InLibraryGuard::enter();
        // A forked child has no arena memory to free, and a thread that it lacks may hold the locks.
        if !self.generation.is_current() {
            return;
        }
        match self.bin_at(offset) {
            Some(bin) if class_of(layout) != Some(bin % CLASSES) => bad_free(offset, layout),
            Some(bin) => self.free_slot(bin, offset as u64),
            None => {
                let Some((lane, block)) = self.large_block_at(offset, layout) else {
                    bad_free(offset, layout)
                };
                self.free_large(lane, block);
            }
        }
    }

    pub(crate) fn presence(&self, page: PageIndex) -> Presence {
        self.pager.presence(page)
    }

    /// Whether the arena overwrites freed memory.
    pub(crate) fn poisons(&self) -> bool {
        self.options.poison
    }
}

#[cfg(test)]
mod tests;
