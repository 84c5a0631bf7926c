//! Large blocks: runs of pages that are allocated, freed and resized.

use super::cache::{self, ThreadCache};
use super::classes::class_of;
use super::lane::Lane;
use super::{Block, Heap};
use crate::prim::in_library::InLibraryGuard;
use crate::prim::{PAGE_SIZE, PageIndex, PageRange};
use core::alloc::Layout;
use std::sync::Arc;

/// Pages of a large block that are populated when it is allocated: 2 MiB.
///
/// The pages behind them are populated on touch: in growing windows if the program writes from one end to
/// the other, page by page if it touches few of them.
const POPULATED: usize = crate::prim::REGION_PAGES;

impl Heap {
    pub(super) fn allocate_large(self: &Arc<Self>, lane: Lane, layout: Layout) -> Option<Block> {
        let pages = layout.size().div_ceil(PAGE_SIZE);
        let align = layout.align().div_ceil(PAGE_SIZE);
        if pages > self.total || align > self.total {
            return None;
        }
        let from_cache = |cache: &ThreadCache| {
            self.flush_if_trimmed(cache);
            if align == 1 { cache.take_block(lane, pages) } else { None }
        };
        if let Some(page) = cache::with(self, from_cache).flatten() {
            let offset = PageIndex(page).offset();
            return Some(Block { offset, size: pages * PAGE_SIZE, clean: false });
        }
        let taken = self.pages().take_block(lane, pages, align)?;
        let range = taken.range;
        if !self.populate_front(range) {
            self.free_to_page_heap(range);
            return None;
        }
        Some(Block { offset: range.start.offset(), size: range.bytes(), clean: taken.clean })
    }

    fn populate_front(&self, range: PageRange) -> bool {
        let end = range.end.0.min(range.start.0 + POPULATED);
        self.pager.populate(PageRange::new(range.start.0, end))
    }

    /// The lane and pages of the large block at `offset`; `None` if no block of such a layout begins
    /// there. The caller must own the block.
    pub(super) fn large_block_at(
        &self,
        offset: usize,
        layout: Layout,
    ) -> Option<(Lane, PageRange)> {
        let block = self.map.boundaries().block_at(offset / PAGE_SIZE)?;
        let fits = offset.is_multiple_of(PAGE_SIZE)
            && block.range.pages() == layout.size().div_ceil(PAGE_SIZE);
        fits.then(|| (block.pool.lane(), block.range))
    }

    pub(super) fn free_large(self: &Arc<Self>, lane: Lane, block: PageRange) {
        if !cache::is_cacheable(block) {
            return self.free_to_page_heap(block);
        }
        if !self.pager.is_likely_resident(block) {
            self.pager.forget(block);
        }
        let keep = |cache: &ThreadCache| {
            self.flush_if_trimmed(cache);
            while !cache.keep_block(block, lane) {
                // `None` if a tick has just taken all blocks out.
                if let Some(other) = cache.take_next_block() {
                    self.free_to_page_heap(other);
                }
            }
        };
        if cache::with(self, keep).is_none() {
            self.free_to_page_heap(block);
        }
    }

    fn free_to_page_heap(&self, block: PageRange) {
        // Before the pages are free: their next owner must not lose its bytes to this call.
        self.pager.forget(block);
        let mut pages = self.pages();
        pages.free_block(block.start);
        self.release_excess(pages);
    }

    /// Makes the large block at `offset` longer in place if the pages behind it are free. Returns the
    /// added pages, and whether all of them are empty.
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
            let (added, obstacle) = self.pages().grow_block(page, pages);
            match added {
                Some(added) => break added,
                // The pages in the way may be a free block that this thread caches.
                None => self.flush_block_at(obstacle)?,
            }
        };
        // If there is no memory for the pages now, their touch asks again.
        self.populate_front(added.range);
        Some((added.range, added.clean))
    }

    /// Makes the large block at `offset` shorter in place; false if the caller must move it.
    pub(crate) fn shrink(&self, offset: usize, old: Layout, new: Layout) -> bool {
        if class_of(old).is_some() || class_of(new).is_some() {
            return false;
        }
        let _in_library = InLibraryGuard::enter();
        let pages = new.size().div_ceil(PAGE_SIZE);
        let Some(tail) = self.pages().shrink_block(PageIndex::containing(offset), pages) else {
            return false;
        };
        self.free_to_page_heap(tail);
        true
    }
}
