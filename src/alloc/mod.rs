//! Who has which bytes of the arena.
//!
//! Works in offsets from the arena's start and keeps all that it knows in memory of its own: neither
//! allocating nor freeing touches the arena. It knows nothing of pages' states; a [`Pager`] gives
//! memory to pages and takes it back.
//!
//! # The way of a small block
//!
//! ```text
//! thread's magazine (cache.rs)   no lock; half a magazine at a time to and from
//! bin of a class and lane (bin.rs)   a lock each: slots on their way between threads, spans
//! span (span.rs)                 equal slots, a bit for each that is free
//! page heap (pages.rs)           one lock: free runs of pages (runs.rs), whole regions per lane
//! ```
//!
//! Blocks above 32 KiB, or aligned to more than a page, are runs of pages of the page heap.
//!
//! Locks are taken downwards, the list of all caches first. A pager may wait for threads that fault, and
//! for memory; so no lock is held while a pager is called. The exception is the lock that is held around
//! all others while free memory goes back to the system (reclaim.rs). A thread that faults never needs
//! it.

mod bin;
mod cache;
mod check;
mod classes;
mod clock;
mod lane;
mod map;
mod node;
mod pages;
mod reclaim;
mod report;
mod runs;
mod set;
mod span;
mod watch;

pub(crate) use cache::{pop_fast, push_fast, take_block_fast};
pub use lane::Lane;
pub(crate) use map::BlockMap;
pub use report::{ClassStats, HeapStats, LaneStats};
pub(crate) use watch::bad_free;

use crate::prim::in_library::InLibraryGuard;
use crate::prim::sync::plain::{AtomicU32, AtomicU64, Mutex, Ordering};
use crate::prim::units::index;
use crate::prim::{PAGE_SIZE, PageIndex, PageRange};
use crate::sys::SysError;
use crate::sys::fork::Generation;
use bin::{Bin, CHUNK_SHIFT};
use cache::ThreadCache;
use classes::{CLASSES, class, class_of};
use clock::Clock;
use core::alloc::Layout;
use core::fmt;
use crossbeam::utils::CachePadded;
use map::BINS;
use pages::PageHeap;
use reclaim::Sweep;
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};

/// Pages of a large block that are populated when it is allocated: 2 MiB. What lies behind is
/// populated when it is touched, ahead of a program that writes from one end to the other; a block
/// that is touched here and there takes no more memory than what is touched.
const POPULATED: usize = 512;

/// Where a page's bytes are, for the purposes of an allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Nowhere: it reads as zeros.
    Empty,
    /// In memory.
    Resident,
    /// Elsewhere: touching it brings it back.
    Away,
}

/// Who gives memory to pages and takes it back.
pub(crate) trait Pager: fmt::Debug + Send + Sync {
    /// Gives memory to the empty pages of `range`; false if there is none.
    fn populate(&self, range: PageRange) -> bool;

    /// Makes those pages of `range` empty whose bytes are not in memory. Nobody needs them.
    fn forget(&self, range: PageRange);

    /// Whether the bytes of `range` are in memory, in all likelihood: what takes no time to find out.
    fn is_likely_resident(&self, range: PageRange) -> bool;

    /// How many pages of `range` are in memory.
    fn resident(&self, range: PageRange) -> usize;

    /// Makes all pages of `range` empty.
    fn release(&self, range: PageRange) -> Result<(), SysError>;

    /// Where the page's bytes are.
    fn presence(&self, page: PageIndex) -> Presence;
}

/// Memory that was allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Offset of the first byte from the arena's start.
    pub(crate) offset: usize,
    /// Bytes that the caller may use, at least as many as were asked for.
    pub(crate) size: usize,
    /// Whether it holds nothing but zeros, in empty pages.
    pub(crate) clean: bool,
}

/// What a heap is to do beside its work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeapOptions {
    /// Whether freed memory is to be overwritten. Then everything goes the long way.
    pub(crate) poison: bool,
    /// Pages that may be free and have memory, beside a quarter of those in use.
    pub(crate) most_dirty: usize,
}

/// The allocator.
#[derive(Debug)]
pub(crate) struct Heap {
    number: u64,
    generation: Generation,
    options: HeapOptions,
    map: Arc<BlockMap>,
    bins: Box<[CachePadded<Mutex<Bin>>]>,
    pages: Mutex<PageHeap>,
    /// Pages that there are.
    total: usize,
    caches: Mutex<Vec<Arc<ThreadCache>>>,
    clock: Clock,
    /// How often all caches were asked to give everything back.
    trims: AtomicU32,
    /// Held while free pages are in nobody's list, because they are on their way back to the system. Who
    /// finds no room waits for it: there may be some then.
    reclaiming: Mutex<Sweep>,
    pager: Arc<dyn Pager>,
}

/// The bin of small blocks of such a layout in `lane`; none if it takes pages of its own.
#[inline]
pub(crate) fn bin_of(lane: Lane, layout: Layout) -> Option<usize> {
    class_of(layout).map(|class| lane.index() * CLASSES + class)
}

/// Bytes of a block of such a bin.
#[inline]
pub(crate) fn size_of_bin(bin: usize) -> usize {
    class(bin % CLASSES).size as usize
}

/// How many bytes a block that was allocated for `layout` has.
pub(crate) fn usable_size(layout: Layout) -> usize {
    match class_of(layout) {
        Some(number) => class(number).size as usize,
        None => layout.size().next_multiple_of(PAGE_SIZE),
    }
}

/// Whether a block for `old` can be one for `new` where it lies: in the same slot, or in the same
/// pages or more or fewer of them.
pub(crate) fn same_place(old: Layout, new: Layout) -> bool {
    // The caller sees to the alignment, and no layout without bytes has a place.
    old.size() > 0 && new.size() > 0 && class_of(old) == class_of(new)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What panics in there are debug assertions.
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
    /// A heap of `pages` free pages at address `base`, which lies on a page boundary.
    pub(crate) fn new(
        base: usize,
        pages: usize,
        map: Arc<BlockMap>,
        pager: Arc<dyn Pager>,
        options: HeapOptions,
    ) -> Result<Self, SysError> {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        cache::register_fork_handlers();
        // A page more could not be numbered.
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
            trims: AtomicU32::new(0),
            reclaiming: Mutex::new(Sweep::default()),
            pager,
        })
    }

    /// The heap's number, which no other has or had.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether [`pop_fast`] and [`push_fast`] may be used.
    fn has_fast_path(&self) -> bool {
        !self.options.poison
    }

    fn bin(&self, bin: usize) -> MutexGuard<'_, Bin> {
        lock(&self.bins[bin])
    }

    fn pages(&self) -> MutexGuard<'_, PageHeap> {
        lock(&self.pages)
    }

    /// The bin of the block at `offset`, if it is a small one.
    #[inline]
    pub(crate) fn bin_at(&self, offset: usize) -> Option<usize> {
        self.map.tag(offset >> CHUNK_SHIFT).map(map::Tag::bin)
    }

    /// Finds room for `layout`, whose size is not zero, in `lane`.
    #[cold]
    pub(crate) fn allocate(self: &Arc<Self>, lane: Lane, layout: Layout) -> Option<Block> {
        let _in_library = InLibraryGuard::enter();
        if !self.generation.is_current() {
            return None;
        }
        let find = || match bin_of(lane, layout) {
            Some(bin) => self.allocate_slot(bin),
            None => self.allocate_pages(lane, layout),
        };
        match find() {
            // What threads and bins keep may be what is needed, put together, as may what others are
            // giving back at the moment.
            None if layout.size() <= self.total * PAGE_SIZE => {
                let reclaiming = lock(&self.reclaiming);
                self.make_room_while(&reclaiming);
                find()
            }
            block => block,
        }
    }

    fn allocate_slot(self: &Arc<Self>, bin: usize) -> Option<Block> {
        let cached = cache::with(self, |cache| {
            self.follow_trim(cache);
            cache.pop(bin).or_else(|| self.refill(cache, bin))
        });
        let offset = match cached {
            Some(offset) => offset,
            // A thread that is about to end keeps nothing.
            None => self.take_slots(bin, 1, |_| ()),
        }?;
        Some(Block { offset: index(offset), size: size_of_bin(bin), clean: false })
    }

    fn refill(&self, cache: &ThreadCache, bin: usize) -> Option<u64> {
        cache.grow(bin);
        self.take_slots(bin, cache.batch(bin), |slot| {
            let pushed = cache.push(bin, slot);
            debug_assert!(pushed);
        })
    }

    /// Takes at most `most` slots of a bin: one to be returned, the others for `rest`.
    fn take_slots(&self, bin: usize, most: usize, mut rest: impl FnMut(u64)) -> Option<u64> {
        let mut first = None;
        let fresh = {
            let mut held = self.bin(bin);
            let lane = Lane::ALL[bin / CLASSES];
            let span = |pages| self.pages().take_span(lane, pages).map(|taken| taken.range);
            let keep = |slot| match first {
                None => first = Some(slot),
                Some(_) => rest(slot),
            };
            held.take(most, &self.map, span, keep).1
        };
        if !fresh.runs().all(|run| self.pager.populate(run)) {
            self.give_slots(bin, first.take().into_iter());
        }
        first
    }

    fn give_slots(&self, bin: usize, slots: impl ExactSizeIterator<Item = u64>) {
        let mut emptied = Vec::new();
        self.bin(bin).give(slots, &self.map, &mut emptied);
        if !emptied.is_empty() {
            self.give_spans(Lane::ALL[bin / CLASSES], &emptied);
            self.release_excess(self.pages());
        }
    }

    /// Gives back the pages of spans that are none any more.
    fn give_spans(&self, lane: Lane, spans: &[PageRange]) {
        for &span in spans {
            // First: who gets the pages next must not lose anything to this.
            self.pager.forget(span);
            self.pages().give_span(lane, span);
        }
    }

    fn allocate_pages(self: &Arc<Self>, lane: Lane, layout: Layout) -> Option<Block> {
        let pages = layout.size().div_ceil(PAGE_SIZE);
        let align = layout.align().div_ceil(PAGE_SIZE);
        if pages > self.total || align > self.total {
            return None;
        }
        let from_cache = |cache: &ThreadCache| {
            self.follow_trim(cache);
            if align == 1 { cache.take_block(lane, pages) } else { None }
        };
        if let Some(page) = cache::with(self, from_cache).flatten() {
            let offset = PageIndex(page).offset();
            return Some(Block { offset, size: pages * PAGE_SIZE, clean: false });
        }
        let taken = self.pages().take_block(lane, pages, align)?;
        let range = taken.range;
        if !self.populate_front(range) {
            self.free_pages(range);
            return None;
        }
        Some(Block { offset: range.start.offset(), size: range.bytes(), clean: taken.clean })
    }

    fn populate_front(&self, range: PageRange) -> bool {
        let end = range.end.0.min(range.start.0 + POPULATED);
        self.pager.populate(PageRange::new(range.start.0, end))
    }

    /// Frees the block at `offset`, which was allocated for `layout`.
    #[cold]
    pub(crate) fn free(self: &Arc<Self>, offset: usize, layout: Layout) {
        let _in_library = InLibraryGuard::enter();
        // In a forked child there is nothing to free, and locks may be held for ever.
        if !self.generation.is_current() {
            return;
        }
        match self.bin_at(offset) {
            Some(bin) if class_of(layout) != Some(bin % CLASSES) => bad_free(offset, layout),
            Some(bin) => self.free_slot(bin, offset as u64),
            None => {
                let Some((lane, block)) = self.block_at(offset, layout) else {
                    bad_free(offset, layout)
                };
                self.free_block(lane, block);
            }
        }
    }

    /// The block of pages at `offset`, if it is one for such a layout, and its lane. The caller must
    /// have it.
    fn block_at(&self, offset: usize, layout: Layout) -> Option<(Lane, PageRange)> {
        let block = self.map.nodes().block_at(offset / PAGE_SIZE)?;
        let fits = offset.is_multiple_of(PAGE_SIZE)
            && block.range.pages() == layout.size().div_ceil(PAGE_SIZE);
        fits.then(|| (block.kind.lane(), block.range))
    }

    fn free_block(self: &Arc<Self>, lane: Lane, block: PageRange) {
        if !cache::is_kept(block) {
            return self.free_pages(block);
        }
        if !self.pager.is_likely_resident(block) {
            self.pager.forget(block);
        }
        let keep = |cache: &ThreadCache| {
            self.follow_trim(cache);
            while !cache.keep(block, lane) {
                // None if all have just been taken out by others.
                if let Some(other) = cache.take_oldest() {
                    self.free_pages(other);
                }
            }
        };
        if cache::with(self, keep).is_none() {
            self.free_pages(block);
        }
    }

    fn free_slot(self: &Arc<Self>, bin: usize, offset: u64) {
        let cached = cache::with(self, |cache| {
            self.follow_trim(cache);
            if !cache.push(bin, offset) {
                cache.grow(bin);
                if !cache.push(bin, offset) {
                    self.flush(cache, bin, cache.batch(bin));
                    let pushed = cache.push(bin, offset);
                    debug_assert!(pushed);
                }
            }
        });
        if cached.is_none() {
            self.give_slots(bin, [offset].into_iter());
        }
    }

    /// Gives back the `count` slots of a magazine that have been there the longest.
    fn flush(&self, cache: &ThreadCache, bin: usize, count: usize) {
        self.give_slots(bin, cache.slots(bin).take(count));
        cache.forget(bin, count);
    }

    fn flush_all(&self, cache: &ThreadCache) {
        for bin in 0..BINS {
            let len = cache.len(bin);
            if len > 0 {
                self.flush(cache, bin, len);
            }
        }
        self.end_blocks(cache);
        cache.reset();
    }

    /// Gives back the blocks of pages that a thread keeps. Their stored copies were forgotten when they
    /// were freed, but for some that are forgotten when they are released.
    fn end_blocks(&self, cache: &ThreadCache) {
        while let Some(block) = cache.take_oldest() {
            self.pages().end_block(block.start);
        }
    }

    /// Gives back a block that this thread keeps, if one begins there.
    fn end_block_at(self: &Arc<Self>, page: PageIndex) -> Option<()> {
        let block = cache::with(self, |cache| cache.take_block_at(page))??;
        self.pages().end_block(block.start);
        Some(())
    }

    /// Does what [`trim`](Self::trim) has asked all threads for.
    fn follow_trim(&self, cache: &ThreadCache) {
        let trims = self.trims.load(Ordering::Relaxed);
        if cache.trimmed.swap(trims, Ordering::Relaxed) != trims {
            self.flush_all(cache);
        }
    }

    fn free_pages(&self, block: PageRange) {
        // First: who gets the pages next must not lose anything to this.
        self.pager.forget(block);
        let mut pages = self.pages();
        pages.end_block(block.start);
        self.release_excess(pages);
    }

    /// Makes a block of pages at `offset` longer without moving it, if what follows is free. Says which
    /// pages were added, and whether they are empty.
    pub(crate) fn grow(
        self: &Arc<Self>,
        offset: usize,
        old: Layout,
        new: Layout,
    ) -> Option<(PageRange, bool)> {
        if class_of(old).is_some() || class_of(new).is_some() {
            return None;
        }
        let _in_library = InLibraryGuard::enter();
        let (page, pages) = (PageIndex::containing(offset), new.size().div_ceil(PAGE_SIZE));
        let added = loop {
            let (added, end) = self.pages().grow_block(page, pages);
            match added {
                Some(added) => break added,
                // A block that this thread keeps for no particular purpose makes room.
                None => self.end_block_at(end)?,
            }
        };
        // Should there be no memory for it now, a touch will ask again.
        self.populate_front(added.range);
        Some((added.range, added.clean))
    }

    /// Makes a block of pages at `offset` shorter without moving it; false if it must be moved.
    pub(crate) fn shrink(&self, offset: usize, old: Layout, new: Layout) -> bool {
        if class_of(old).is_some() || class_of(new).is_some() {
            return false;
        }
        let _in_library = InLibraryGuard::enter();
        let pages = new.size().div_ceil(PAGE_SIZE);
        let Some(tail) = self.pages().shrink_block(PageIndex::containing(offset), pages) else {
            return false;
        };
        self.free_pages(tail);
        true
    }

    fn new_cache(&self) -> Option<Arc<ThreadCache>> {
        let cache = ThreadCache::new(self.trims.load(Ordering::Relaxed)).ok().map(Arc::new)?;
        lock(&self.caches).push(Arc::clone(&cache));
        Some(cache)
    }

    /// Takes back what a thread that ends has kept.
    fn retire(&self, cache: &Arc<ThreadCache>) {
        if !self.generation.is_current() {
            return;
        }
        let mut spans = Vec::new();
        {
            // All at once, for those who count: a thread may be taken as ended before it gets here.
            let mut caches = lock(&self.caches);
            for bin in 0..BINS {
                let mut emptied = Vec::new();
                self.bin(bin).give(cache.slots(bin), &self.map, &mut emptied);
                spans.extend(emptied.into_iter().map(|span| (Lane::ALL[bin / CLASSES], span)));
            }
            self.end_blocks(cache);
            caches.retain(|other| !Arc::ptr_eq(other, cache));
        }
        for (lane, span) in spans {
            self.give_spans(lane, &[span]);
        }
    }

    /// Where the bytes of a page are.
    pub(crate) fn presence(&self, page: PageIndex) -> Presence {
        self.pager.presence(page)
    }

    /// Whether freed memory is to be overwritten.
    pub(crate) fn poisons(&self) -> bool {
        self.options.poison
    }
}

#[cfg(test)]
mod tests;
