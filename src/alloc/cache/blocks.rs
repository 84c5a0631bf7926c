//! The few large blocks that a thread caches for its next allocation of the same length.
//!
//! Each has a word. Only the cache's thread writes to a word that is zero; a thread that ticks the heap
//! takes idle blocks out too. A word is stored with `Release` and taken with `Acquire`, so that the
//! next owner's accesses to the block come after the last owner's.

use super::ThreadCache;
use crate::alloc::lane::Lane;
use crate::prim::pack::Field;
use crate::prim::sync::plain::{AtomicU64, Ordering};
use crate::prim::units::index;
use crate::prim::{PageIndex, PageRange};

/// Pages in all blocks that a thread caches: 1 MiB.
const MAX_PAGES: usize = 256;

/// Blocks that a thread caches: their words fill a cache line.
pub(super) const MAX_BLOCKS: usize = 8;

/// The number of the block's first page.
const PAGE: Field = Field::lowest(32);
const PAGES: Field = PAGE.then(16);
const LANE: Field = PAGES.then(2);
/// Set in the word of every block, so that none is zero.
const PRESENT: Field = LANE.then(1);

const fn word_of(page: usize, pages: usize, lane: Lane) -> u64 {
    let word = PAGES.set(PAGE.set(PRESENT.set(0, 1), page as u64), pages as u64);
    LANE.set(word, lane.index() as u64)
}

fn block_of(word: u64) -> PageRange {
    let page = index(PAGE.get(word));
    PageRange::new(page, page + index(PAGES.get(word)))
}

/// Whether threads cache a block of that length.
pub(in crate::alloc) fn is_cacheable(block: PageRange) -> bool {
    block.pages() <= MAX_PAGES
}

/// Takes a block of `pages` pages out, and returns its first page.
#[inline]
pub(super) fn take_block(words: &[AtomicU64], lane: Lane, pages: usize) -> Option<usize> {
    if pages > MAX_PAGES {
        return None;
    }
    words.iter().find_map(|word| {
        let seen = word.load(Ordering::Relaxed);
        let fits = PAGE.set(seen, 0) == word_of(0, pages, lane) && take(word, seen);
        fits.then(|| index(PAGE.get(seen)))
    })
}

/// Takes a block out; false if another thread did.
#[inline]
fn take(word: &AtomicU64, seen: u64) -> bool {
    word.compare_exchange(seen, 0, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

impl ThreadCache {
    /// The cached blocks.
    pub(in crate::alloc) fn blocks(&self) -> impl Iterator<Item = PageRange> {
        let words = self.words[..MAX_BLOCKS].iter().map(|word| word.load(Ordering::Relaxed));
        words.filter(|word| *word != 0).map(block_of)
    }

    /// Caches a block; false if the caller must make room with
    /// [`take_next_block`](Self::take_next_block).
    pub(in crate::alloc) fn keep_block(&self, block: PageRange, lane: Lane) -> bool {
        let cached: usize = self.blocks().map(|block| block.pages()).sum();
        let mut words = self.words[..MAX_BLOCKS].iter();
        let room = words.find(|word| word.load(Ordering::Relaxed) == 0);
        let room = room.filter(|_| cached + block.pages() <= MAX_PAGES);
        let word = word_of(block.start.0, block.pages(), lane);
        // Only this thread writes to a word that is zero.
        room.map(|room| room.store(word, Ordering::Release)).is_some()
    }

    /// Takes one block out, in turn.
    pub(in crate::alloc) fn take_next_block(&self) -> Option<PageRange> {
        (0..MAX_BLOCKS).find_map(|_| {
            let next = self.next_block.fetch_add(1, Ordering::Relaxed);
            let word = self.words[next as usize % MAX_BLOCKS].swap(0, Ordering::Acquire);
            (word != 0).then(|| block_of(word))
        })
    }

    /// Takes a block of `pages` pages out, and returns its first page.
    pub(in crate::alloc) fn take_block(&self, lane: Lane, pages: usize) -> Option<usize> {
        take_block(&self.words[..MAX_BLOCKS], lane, pages)
    }

    /// Takes out the block that begins with `page`.
    pub(in crate::alloc) fn take_block_at(&self, page: PageIndex) -> Option<PageRange> {
        let mut words = self.words[..MAX_BLOCKS].iter();
        words.find_map(|word| {
            let seen = word.load(Ordering::Relaxed);
            let block = (seen != 0).then(|| block_of(seen)).filter(|b| b.start == page)?;
            take(word, seen).then_some(block)
        })
    }

    /// Takes out the blocks that were cached at the last call too. Any thread may call this.
    pub(in crate::alloc) fn take_idle_blocks(&self) -> impl Iterator<Item = PageRange> {
        let words = self.words[..MAX_BLOCKS].iter().zip(&self.blocks_at_tick);
        words.filter_map(|(word, seen)| {
            let now = word.load(Ordering::Relaxed);
            let idle = seen.swap(now, Ordering::Relaxed) == now && now != 0;
            (idle && take(word, now)).then(|| block_of(now))
        })
    }
}
