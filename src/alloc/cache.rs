//! Per-thread caches, so that most calls take no lock.
//!
//! A *magazine* holds the offsets of free slots of one class of one lane (Bonwick and Adams, "Magazines
//! and Vmem", 2001). Allocating pops the last one, freeing pushes one; a thread exchanges half a
//! magazine with the bin when its magazine is empty or full. Magazines begin small and grow when they
//! are found empty or full, within one budget for all magazines of a thread. The thread also caches a
//! few large blocks, of 1 MiB together (cache/blocks.rs).
//!
//! # Concurrency
//!
//! Only its thread writes to a cache's magazines; any thread may read them for statistics. Their words
//! are atomics with `Relaxed` accesses, which cost as much as plain ones. The bin's lock orders the
//! accesses to the slots' contents when a slot goes from thread to thread.

#![allow(unsafe_code)]

mod blocks;

pub(super) use blocks::is_cacheable;

use super::Heap;
use super::bin::magazine_limit;
use super::classes::{CLASSES, class};
use super::lane::Lane;
use super::map::BINS;
use crate::prim::in_library::InLibraryGuard;
use crate::prim::pack::Field;
use crate::prim::sync::plain::{AtomicU32, AtomicU64, Ordering};
use crate::prim::units::index;
use crate::sys::memory::LazySlice;
use crate::sys::{SysError, fork};
use blocks::MAX_BLOCKS;
use core::cell::{Cell, RefCell};
use core::ptr;
use std::sync::{Arc, Weak};

/// Field of a magazine's head: how many slots the magazine holds.
const LEN: Field = Field::lowest(16);
/// Field of a magazine's head: how many slots the magazine may hold.
const CAPACITY: Field = LEN.then(16);
/// Field of a magazine's head: the index of the word of its first slot.
const START: Field = CAPACITY.then(32);

/// Bytes that all magazines of a thread together may grow by.
const GROWTH_BUDGET: usize = 1 << 20;

/// Bytes of the slots that fit a magazine before it grows: from 1 to 16 slots.
const INITIAL_BYTES: usize = 4 << 10;

/// The index of the first magazine's head.
const HEADS: usize = MAX_BLOCKS;

/// The words of a cache: the large blocks, a head for each magazine, and the slots of each.
const WORDS: usize = HEADS
    + BINS
    + Lane::COUNT * {
        let (mut words, mut number) = (0, 0);
        while number < CLASSES {
            words += magazine_limit(class(number));
            number += 1;
        }
        words
    };

const fn initial_capacity(bin: usize) -> usize {
    let class = class(bin % CLASSES);
    let slots = INITIAL_BYTES / class.size as usize;
    if slots > 16 {
        16
    } else if slots < 1 {
        1
    } else {
        slots
    }
}

/// A thread's cache for one heap.
#[derive(Debug)]
pub(super) struct ThreadCache {
    words: LazySlice<AtomicU64>,
    /// Bytes that the magazines have grown by.
    grown: AtomicU64,
    /// The large block that the thread gives up next to make room, modulo [`MAX_BLOCKS`].
    next_block: AtomicU32,
    /// The words of the large blocks at the heap's last tick.
    blocks_at_tick: [AtomicU64; MAX_BLOCKS],
    /// The heap's `trim_requests` when the thread last flushed this cache for one.
    pub(super) trim_requests_seen: AtomicU32,
}

impl ThreadCache {
    pub(super) fn new(trim_requests_seen: u32) -> Result<Self, SysError> {
        let this = Self {
            words: LazySlice::new(WORDS)?,
            grown: AtomicU64::new(0),
            next_block: AtomicU32::new(0),
            blocks_at_tick: [const { AtomicU64::new(0) }; MAX_BLOCKS],
            trim_requests_seen: trim_requests_seen.into(),
        };
        this.reset();
        Ok(this)
    }

    /// Makes all magazines small again. The caller has emptied them.
    pub(super) fn reset(&self) {
        let mut start = HEADS + BINS;
        for bin in 0..BINS {
            let class = class(bin % CLASSES);
            let capacity = initial_capacity(bin);
            let head = CAPACITY.set(START.set(0, start as u64), capacity as u64);
            self.words[HEADS + bin].store(head, Ordering::Relaxed);
            start += magazine_limit(class);
        }
        debug_assert_eq!(start, WORDS);
        self.grown.store(0, Ordering::Relaxed);
    }

    fn head(&self, bin: usize) -> u64 {
        self.words[HEADS + bin].load(Ordering::Relaxed)
    }

    /// How many slots of `bin` the thread caches.
    pub(super) fn len(&self, bin: usize) -> usize {
        index(LEN.get(self.head(bin)))
    }

    /// How many slots to exchange with the bin at a time.
    pub(super) fn batch(&self, bin: usize) -> usize {
        index(CAPACITY.get(self.head(bin))).div_ceil(2)
    }

    /// Lets the magazine grow. The caller found it empty or full.
    pub(super) fn grow(&self, bin: usize) {
        let class = class(bin % CLASSES);
        let head = self.head(bin);
        let capacity = index(CAPACITY.get(head));
        let larger = (capacity * 2).min(magazine_limit(class));
        let more = (larger - capacity) * class.size as usize;
        let grown = index(self.grown.load(Ordering::Relaxed)) + more;
        if more > 0 && grown <= GROWTH_BUDGET {
            self.grown.store(grown as u64, Ordering::Relaxed);
            let head = CAPACITY.set(head, larger as u64);
            self.words[HEADS + bin].store(head, Ordering::Relaxed);
        }
    }

    /// Pushes a slot; false if the magazine is full.
    pub(super) fn push(&self, bin: usize, offset: u64) -> bool {
        // SAFETY: the words are this cache's, and `bin` is less than `BINS`.
        unsafe { push(self.words.as_ptr(), bin, offset) }
    }

    /// Pops a slot.
    pub(super) fn pop(&self, bin: usize) -> Option<u64> {
        // SAFETY: the words are this cache's, and `bin` is less than `BINS`.
        unsafe { pop(self.words.as_ptr(), bin) }
    }

    /// The slots of `bin`, the oldest first.
    pub(super) fn slots(&self, bin: usize) -> impl ExactSizeIterator<Item = u64> {
        let head = self.head(bin);
        let start = index(START.get(head));
        let slots = &self.words[start..start + index(LEN.get(head))];
        slots.iter().map(|slot| slot.load(Ordering::Relaxed))
    }

    /// Takes out the `count` oldest slots.
    pub(super) fn drop_oldest(&self, bin: usize, count: usize) {
        let head = self.head(bin);
        let (start, len) = (index(START.get(head)), index(LEN.get(head)));
        for slot in start + count..start + len {
            let moved = self.words[slot].load(Ordering::Relaxed);
            self.words[slot - count].store(moved, Ordering::Relaxed);
        }
        let head = LEN.set(head, (len - count) as u64);
        self.words[HEADS + bin].store(head, Ordering::Relaxed);
    }
}

/// Pops a slot of `bin`, if the magazine has one.
///
/// # Safety
///
/// `words` must be those of a cache of this thread, and `bin` less than [`BINS`].
#[inline]
unsafe fn pop(words: *const AtomicU64, bin: usize) -> Option<u64> {
    debug_assert!(bin < BINS);
    // SAFETY: the caller promises that `bin` is less than `BINS`, and each bin's head is one of the words.
    let head = unsafe { &*words.add(HEADS + bin) };
    let seen = head.load(Ordering::Relaxed);
    let len = index(LEN.get(seen));
    if len == 0 {
        return None;
    }
    head.store(seen - 1, Ordering::Relaxed);
    // SAFETY: a magazine has `LEN` slots from `START` on, all among the words: only this file writes
    // heads, and no length exceeds the magazine's capacity.
    Some(unsafe { &*words.add(index(START.get(seen)) + len - 1) }.load(Ordering::Relaxed))
}

/// Pushes a slot of `bin`; false if the magazine is full.
///
/// # Safety
///
/// See [`pop`].
#[inline]
unsafe fn push(words: *const AtomicU64, bin: usize, offset: u64) -> bool {
    debug_assert!(bin < BINS);
    // SAFETY: see `pop`.
    let head = unsafe { &*words.add(HEADS + bin) };
    let seen = head.load(Ordering::Relaxed);
    if LEN.get(seen) >= CAPACITY.get(seen) {
        return false;
    }
    // SAFETY: `START` is followed by words for `CAPACITY` slots, and the length is less than that.
    let slot = unsafe { &*words.add(index(START.get(seen)) + index(LEN.get(seen))) };
    slot.store(offset, Ordering::Relaxed);
    head.store(seen + 1, Ordering::Relaxed);
    true
}

/// The heap that the thread used last, for the fast path.
struct LastUsed {
    /// The heap's number; zero for no heap.
    heap: Cell<u64>,
    /// The words of the thread's cache for it, which `CACHES` keeps alive, if `heap` is not zero.
    words: Cell<*const AtomicU64>,
}

thread_local! {
    static LAST_USED: LastUsed =
        const { LastUsed { heap: Cell::new(0), words: Cell::new(ptr::null()) } };
    static CACHES: ThreadCaches = const { ThreadCaches(RefCell::new(Vec::new())) };
}

/// Pops a slot of `bin` from this thread's cache for the heap with number `heap`, if the thread used
/// that heap last.
#[inline]
pub(crate) fn pop_fast(heap: u64, bin: usize) -> Option<u64> {
    LAST_USED.with(|last| {
        // SAFETY: while `LAST_USED` names a heap, its words are those of a cache in `CACHES`.
        if last.heap.get() == heap { unsafe { pop(last.words.get(), bin) } } else { None }
    })
}

/// Pushes a slot of `bin` to this thread's cache for the heap with number `heap`, if the thread used
/// that heap last and the magazine is not full.
#[inline]
pub(crate) fn push_fast(heap: u64, bin: usize, offset: u64) -> bool {
    LAST_USED.with(|last| {
        // SAFETY: see `pop_fast`.
        last.heap.get() == heap && unsafe { push(last.words.get(), bin, offset) }
    })
}

/// Takes a block of `pages` pages out of this thread's cache for the heap with number `heap`, if the
/// thread used that heap last, and returns its first page.
#[inline]
pub(crate) fn take_block_fast(heap: u64, lane: Lane, pages: usize) -> Option<usize> {
    LAST_USED.with(|last| {
        if last.heap.get() != heap {
            return None;
        }
        // SAFETY: see `pop_fast`; a cache begins with the words of its large blocks.
        let words = unsafe { &*last.words.get().cast::<[AtomicU64; MAX_BLOCKS]>() };
        blocks::take_block(words, lane, pages)
    })
}

fn reset_last_used() {
    LAST_USED.with(|last| last.heap.set(0));
}

/// All caches of a thread.
struct ThreadCaches(RefCell<Vec<Entry>>);

struct Entry {
    number: u64,
    cache: Arc<ThreadCache>,
    heap: Weak<Heap>,
}

impl Drop for ThreadCaches {
    fn drop(&mut self) {
        reset_last_used();
        let _in_library = InLibraryGuard::enter();
        for entry in self.0.take() {
            if let Some(heap) = entry.heap.upgrade() {
                heap.retire(&entry.cache);
            }
        }
    }
}

/// Takes forked children off the fast path; the slow path finds that they are children.
pub(super) fn register_fork_handlers() {
    fork::in_children(reset_last_used);
}

/// Calls `work` with this thread's cache for `heap`. `None` if it has no cache and cannot create one:
/// the thread is about to end, or the system has no memory.
pub(super) fn with<R>(heap: &Arc<Heap>, work: impl FnOnce(&ThreadCache) -> R) -> Option<R> {
    CACHES
        .try_with(|caches| {
            let mut entries = caches.0.try_borrow_mut().ok()?;
            let number = heap.number();
            let at = match entries.iter().position(|entry| entry.number == number) {
                Some(at) => at,
                None => {
                    entries.retain(|entry| entry.heap.strong_count() > 0);
                    let (cache, heap) = (heap.new_cache()?, Arc::downgrade(heap));
                    entries.push(Entry { number, cache, heap });
                    entries.len() - 1
                }
            };
            let cache = &entries[at].cache;
            if heap.has_fast_path() {
                LAST_USED.with(|last| {
                    last.words.set(cache.words.as_ptr());
                    last.heap.set(number);
                });
            }
            Some(work(cache))
        })
        .ok()?
}
