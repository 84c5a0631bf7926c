//! What each thread keeps for itself, so that the common allocation takes no lock.
//!
//! A *magazine* holds the offsets of slots of one class of one lane. Allocating takes the last one
//! out, freeing puts one in; only when there is none, or no room, the bin is asked, for half a
//! magazine at a time. Magazines begin small and grow while they are found empty or full, within a
//! budget for all of a thread's. Beside them the thread keeps a few blocks of pages, of 1 MiB together,
//! for who asks for as many pages again.
//!
//! # Who writes what
//!
//! The words of a cache are written by its thread alone and may be read by any, for statistics:
//! atomics with `Relaxed` accesses, which cost what plain ones do; what the slots hold goes from thread
//! to thread under a bin's lock. The exception are the words of blocks of pages: who ticks the heap takes
//! out those that nobody wants. They are put there with `Release` and taken with `Acquire`, so that
//! whoever gets the block next comes after whoever wrote to it.

#![allow(unsafe_code)]

use super::Heap;
use super::bin::most_cached;
use super::classes::{CLASSES, class};
use super::lane::Lane;
use super::map::BINS;
use crate::prim::in_library::InLibraryGuard;
use crate::prim::pack::Field;
use crate::prim::sync::plain::{AtomicU32, AtomicU64, Ordering};
use crate::prim::units::index;
use crate::prim::{PageIndex, PageRange};
use crate::sys::memory::LazySlice;
use crate::sys::{SysError, fork};
use core::cell::{Cell, RefCell};
use core::ptr;
use std::sync::{Arc, Weak};

/// Slots in the magazine.
const LEN: Field = Field::lowest(16);
/// Slots that it may hold now.
const CAPACITY: Field = LEN.then(16);
/// The word of its first slot.
const START: Field = CAPACITY.then(32);

/// Bytes that all magazines of a thread may grow by together.
const BUDGET: usize = 1 << 20;

/// Bytes in a magazine when it is first used, and when the budget is spent; at least one slot.
const FIRST_BYTES: usize = 4 << 10;

/// Pages in all blocks that are kept together: 1 MiB.
const MOST_PAGES: usize = 256;

/// Blocks of pages that are kept: a cache line.
const RECENT: usize = 8;

/// A block that is kept: the number of its first page, and what it is good for.
const PAGE: Field = Field::lowest(32);
const PAGES: Field = PAGE.then(16);
const LANE: Field = PAGES.then(2);
/// Tells a block from none.
const PRESENT: Field = LANE.then(1);

const fn recent(page: usize, pages: usize, lane: Lane) -> u64 {
    let word = PAGES.set(PAGE.set(PRESENT.set(0, 1), page as u64), pages as u64);
    LANE.set(word, lane.index() as u64)
}

/// The first magazine's head.
const HEADS: usize = RECENT;

/// The words of a cache: recent blocks, a head for each magazine, the slots of each.
const WORDS: usize = HEADS
    + BINS
    + Lane::COUNT * {
        let (mut words, mut number) = (0, 0);
        while number < CLASSES {
            words += most_cached(class(number));
            number += 1;
        }
        words
    };

const fn first_capacity(bin: usize) -> usize {
    let class = class(bin % CLASSES);
    let slots = FIRST_BYTES / class.size as usize;
    if slots > 16 {
        16
    } else if slots < 1 {
        1
    } else {
        slots
    }
}

/// The magazines of a thread, for one heap.
#[derive(Debug)]
pub(super) struct ThreadCache {
    words: LazySlice<AtomicU64>,
    /// Bytes that the magazines have grown by.
    grown: AtomicU64,
    /// How often a recent block was to go for another: they go in turn.
    turns: AtomicU32,
    /// The recent blocks at the heap's last tick.
    seen: [AtomicU64; RECENT],
    /// The last call to [`Heap::trim`](super::Heap::trim) that the thread has followed.
    pub(super) trimmed: AtomicU32,
}

impl ThreadCache {
    pub(super) fn new(trimmed: u32) -> Result<Self, SysError> {
        let this = Self {
            words: LazySlice::new(WORDS)?,
            grown: AtomicU64::new(0),
            turns: AtomicU32::new(0),
            seen: [const { AtomicU64::new(0) }; RECENT],
            trimmed: trimmed.into(),
        };
        this.reset();
        Ok(this)
    }

    /// Makes all magazines small again. They must be empty.
    pub(super) fn reset(&self) {
        let mut start = HEADS + BINS;
        for bin in 0..BINS {
            let class = class(bin % CLASSES);
            let capacity = first_capacity(bin);
            let head = CAPACITY.set(START.set(0, start as u64), capacity as u64);
            self.words[HEADS + bin].store(head, Ordering::Relaxed);
            start += most_cached(class);
        }
        debug_assert_eq!(start, WORDS);
        self.grown.store(0, Ordering::Relaxed);
    }

    fn head(&self, bin: usize) -> u64 {
        self.words[HEADS + bin].load(Ordering::Relaxed)
    }

    /// Slots of `bin` that the thread keeps.
    pub(super) fn len(&self, bin: usize) -> usize {
        index(LEN.get(self.head(bin)))
    }

    /// How many slots to ask for, or to give back, at a time.
    pub(super) fn batch(&self, bin: usize) -> usize {
        index(CAPACITY.get(self.head(bin))).div_ceil(2)
    }

    /// Lets the magazine grow, because it was found empty or full.
    pub(super) fn grow(&self, bin: usize) {
        let class = class(bin % CLASSES);
        let head = self.head(bin);
        let capacity = index(CAPACITY.get(head));
        let larger = (capacity * 2).min(most_cached(class));
        let more = (larger - capacity) * class.size as usize;
        let grown = index(self.grown.load(Ordering::Relaxed)) + more;
        if more > 0 && grown <= BUDGET {
            self.grown.store(grown as u64, Ordering::Relaxed);
            let head = CAPACITY.set(head, larger as u64);
            self.words[HEADS + bin].store(head, Ordering::Relaxed);
        }
    }

    /// Puts a slot in; false if there is no room.
    pub(super) fn push(&self, bin: usize, offset: u64) -> bool {
        // SAFETY: this cache's words, and a bin that there is.
        unsafe { push(self.words.as_ptr(), bin, offset) }
    }

    /// Takes a slot out.
    pub(super) fn pop(&self, bin: usize) -> Option<u64> {
        // SAFETY: this cache's words, and a bin that there is.
        unsafe { pop(self.words.as_ptr(), bin) }
    }

    /// The slots of `bin`, those first that have been here the longest.
    pub(super) fn slots(&self, bin: usize) -> impl ExactSizeIterator<Item = u64> {
        let head = self.head(bin);
        let start = index(START.get(head));
        let slots = &self.words[start..start + index(LEN.get(head))];
        slots.iter().map(|slot| slot.load(Ordering::Relaxed))
    }

    /// Takes out the `count` slots that have been here the longest.
    pub(super) fn forget(&self, bin: usize, count: usize) {
        let head = self.head(bin);
        let (start, len) = (index(START.get(head)), index(LEN.get(head)));
        for slot in start + count..start + len {
            let moved = self.words[slot].load(Ordering::Relaxed);
            self.words[slot - count].store(moved, Ordering::Relaxed);
        }
        let head = LEN.set(head, (len - count) as u64);
        self.words[HEADS + bin].store(head, Ordering::Relaxed);
    }

    /// The blocks of pages that the thread keeps.
    pub(super) fn blocks(&self) -> impl Iterator<Item = PageRange> {
        let words = self.words[..RECENT].iter().map(|word| word.load(Ordering::Relaxed));
        words.filter(|word| *word != 0).map(block_of)
    }

    /// Keeps a block; false if there is no room, so that another has to [go](Self::take_oldest).
    pub(super) fn keep(&self, block: PageRange, lane: Lane) -> bool {
        let kept: usize = self.blocks().map(|block| block.pages()).sum();
        let mut words = self.words[..RECENT].iter();
        let room = words.find(|word| word.load(Ordering::Relaxed) == 0);
        let room = room.filter(|_| kept + block.pages() <= MOST_PAGES);
        let word = recent(block.start.0, block.pages(), lane);
        // Only this thread writes to a word that is zero.
        room.map(|room| room.store(word, Ordering::Release)).is_some()
    }

    /// Takes out the block of pages whose turn it is.
    pub(super) fn take_oldest(&self) -> Option<PageRange> {
        (0..RECENT).find_map(|_| {
            let turn = self.turns.fetch_add(1, Ordering::Relaxed);
            let word = self.words[turn as usize % RECENT].swap(0, Ordering::Acquire);
            (word != 0).then(|| block_of(word))
        })
    }

    /// Takes out a block of so many pages, and says which is its first.
    pub(super) fn take_block(&self, lane: Lane, pages: usize) -> Option<usize> {
        take_block(&self.words[..RECENT], lane, pages)
    }

    /// Takes out the block that begins with `page`.
    pub(super) fn take_block_at(&self, page: PageIndex) -> Option<PageRange> {
        let mut words = self.words[..RECENT].iter();
        words.find_map(|word| {
            let seen = word.load(Ordering::Relaxed);
            let block = (seen != 0).then(|| block_of(seen)).filter(|b| b.start == page)?;
            take(word, seen).then_some(block)
        })
    }

    /// Takes out the blocks of pages that were here the last time, in whatever thread.
    pub(super) fn take_idle(&self) -> impl Iterator<Item = PageRange> {
        let words = self.words[..RECENT].iter().zip(&self.seen);
        words.filter_map(|(word, seen)| {
            let now = word.load(Ordering::Relaxed);
            let idle = seen.swap(now, Ordering::Relaxed) == now && now != 0;
            (idle && take(word, now)).then(|| block_of(now))
        })
    }
}

fn block_of(word: u64) -> PageRange {
    let page = index(PAGE.get(word));
    PageRange::new(page, page + index(PAGES.get(word)))
}

/// # Safety
///
/// `words` must be those of a cache of this thread, and `bin` less than [`BINS`].
#[inline]
unsafe fn pop(words: *const AtomicU64, bin: usize) -> Option<u64> {
    debug_assert!(bin < BINS);
    // SAFETY: the caller's promise: the head of each bin is one of the words.
    let head = unsafe { &*words.add(HEADS + bin) };
    let seen = head.load(Ordering::Relaxed);
    let len = index(LEN.get(seen));
    if len == 0 {
        return None;
    }
    head.store(seen - 1, Ordering::Relaxed);
    // SAFETY: a magazine's slots lie behind its start, as many as its length says, all among the
    // words: heads are written here and above only.
    Some(unsafe { &*words.add(index(START.get(seen)) + len - 1) }.load(Ordering::Relaxed))
}

/// # Safety
///
/// As for [`pop`].
#[inline]
unsafe fn push(words: *const AtomicU64, bin: usize, offset: u64) -> bool {
    debug_assert!(bin < BINS);
    // SAFETY: as in `pop`.
    let head = unsafe { &*words.add(HEADS + bin) };
    let seen = head.load(Ordering::Relaxed);
    if LEN.get(seen) >= CAPACITY.get(seen) {
        return false;
    }
    // SAFETY: a magazine has room for its capacity.
    let slot = unsafe { &*words.add(index(START.get(seen)) + index(LEN.get(seen))) };
    slot.store(offset, Ordering::Relaxed);
    head.store(seen + 1, Ordering::Relaxed);
    true
}

/// The heap that the thread has used last, and its cache for it.
struct Last {
    heap: Cell<u64>,
    /// The words of a cache that `OWN` keeps, if `heap` is not zero.
    words: Cell<*const AtomicU64>,
}

thread_local! {
    static LAST: Last = const { Last { heap: Cell::new(0), words: Cell::new(ptr::null()) } };
    static OWN: Own = const { Own(RefCell::new(Vec::new())) };
}

/// Takes a slot of `bin` out of this thread's cache for the heap with number `heap`, if that is the one
/// that it has used last.
#[inline]
pub(crate) fn pop_fast(heap: u64, bin: usize) -> Option<u64> {
    LAST.with(|last| {
        // SAFETY: while `LAST` names a heap, its words are those of a cache that this thread keeps.
        if last.heap.get() == heap { unsafe { pop(last.words.get(), bin) } } else { None }
    })
}

/// Puts a slot of `bin` into this thread's cache for the heap with number `heap`, if that is the one
/// that it has used last and there is room.
#[inline]
pub(crate) fn push_fast(heap: u64, bin: usize, offset: u64) -> bool {
    LAST.with(|last| {
        // SAFETY: as in `pop_fast`.
        last.heap.get() == heap && unsafe { push(last.words.get(), bin, offset) }
    })
}

/// Takes a block of `pages` pages out of this thread's cache for the heap with number `heap`, if that
/// is the one that it has used last, and says which page is its first.
#[inline]
pub(crate) fn take_block_fast(heap: u64, lane: Lane, pages: usize) -> Option<usize> {
    LAST.with(|last| {
        if last.heap.get() != heap {
            return None;
        }
        // SAFETY: as in `pop_fast`; a cache begins with these words.
        let words = unsafe { &*last.words.get().cast::<[AtomicU64; RECENT]>() };
        take_block(words, lane, pages)
    })
}

#[inline]
fn take_block(words: &[AtomicU64], lane: Lane, pages: usize) -> Option<usize> {
    if pages > MOST_PAGES {
        return None;
    }
    words.iter().find_map(|word| {
        let seen = word.load(Ordering::Relaxed);
        let fits = PAGE.set(seen, 0) == recent(0, pages, lane) && take(word, seen);
        fits.then(|| index(PAGE.get(seen)))
    })
}

/// Takes a recent block out; false if somebody else did.
#[inline]
fn take(word: &AtomicU64, seen: u64) -> bool {
    word.compare_exchange(seen, 0, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

/// Whether threads keep a block of that length.
pub(super) fn is_kept(block: PageRange) -> bool {
    block.pages() <= MOST_PAGES
}

fn forget_last() {
    LAST.with(|last| last.heap.set(0));
}

/// All caches of a thread.
struct Own(RefCell<Vec<Entry>>);

struct Entry {
    heap: u64,
    cache: Arc<ThreadCache>,
    owner: Weak<Heap>,
}

impl Drop for Own {
    fn drop(&mut self) {
        forget_last();
        let _in_library = InLibraryGuard::enter();
        for entry in self.0.take() {
            if let Some(heap) = entry.owner.upgrade() {
                heap.retire(&entry.cache);
            }
        }
    }
}

/// Has forked children go the long way, where they are noticed.
pub(super) fn register_fork_handlers() {
    fork::in_children(forget_last);
}

/// Calls `work` with this thread's cache for `heap`; none if it has none and can have none, because
/// the thread is about to end or the system has no memory.
pub(super) fn with<R>(heap: &Arc<Heap>, work: impl FnOnce(&ThreadCache) -> R) -> Option<R> {
    OWN.try_with(|own| {
        let mut entries = own.0.try_borrow_mut().ok()?;
        let number = heap.number();
        let at = match entries.iter().position(|entry| entry.heap == number) {
            Some(at) => at,
            None => {
                entries.retain(|entry| entry.owner.strong_count() > 0);
                let (cache, owner) = (heap.new_cache()?, Arc::downgrade(heap));
                entries.push(Entry { heap: number, cache, owner });
                entries.len() - 1
            }
        };
        let cache = &entries[at].cache;
        if heap.has_fast_path() {
            LAST.with(|last| {
                last.words.set(cache.words.as_ptr());
                last.heap.set(number);
            });
        }
        Some(work(cache))
    })
    .ok()?
}
