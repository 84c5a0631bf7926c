//! The page heap: the pages of an arena that no span has.
//!
//! A lane takes 2 MiB regions from the shared pool, and allocates spans and large blocks from different
//! regions. So small objects do not lie among large ones, nor warm ones among cold. Freed pages are
//! *dirty*: they keep their memory for a while, because most programs allocate again soon, and giving
//! memory back and populating it again costs more than that. Later they are released and *clean*. A
//! region of clean pages returns to the shared pool.

use super::boundary::{Boundary, Run};
use super::classes::CHUNK_PAGES;
use super::lane::{Lane, Pool, Use};
use super::map::BlockMap;
use super::runs::FreeRuns;
use crate::prim::geometry::PAGE_SHIFT;
use crate::prim::{PageIndex, PageRange, REGION_PAGES};
use std::sync::Arc;

/// Pages that an allocation took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) range: PageRange,
    /// Whether all of them are empty.
    pub(super) clean: bool,
}

/// The free runs, and a count of large blocks.
#[derive(Debug)]
pub(super) struct PageHeap {
    runs: FreeRuns,
    map: Arc<BlockMap>,
    /// The arena's address, in pages.
    base: usize,
    /// The current epoch.
    epoch: u64,
    /// Low-water mark: the fewest dirty pages in this epoch. No allocation needed this many.
    low_water: usize,
    /// How often pages became dirty.
    frees: u32,
    /// Pages in large blocks.
    in_blocks: usize,
    /// The number of large blocks.
    blocks: usize,
}

impl PageHeap {
    /// A heap of `pages` free pages at address `base`.
    pub(super) fn new(base: usize, pages: usize, map: Arc<BlockMap>) -> Self {
        let mut runs = FreeRuns::new(Arc::clone(&map));
        runs.insert(Run { range: PageRange::new(0, pages), pool: Pool::SHARED });
        Self {
            runs,
            map,
            base: base >> PAGE_SHIFT,
            epoch: 0,
            low_water: 0,
            frees: 0,
            in_blocks: 0,
            blocks: 0,
        }
    }

    /// How many free pages have not been released.
    pub(super) fn dirty(&self) -> usize {
        self.runs.dirty()
    }

    /// The number of large blocks, and of pages in them.
    pub(super) fn blocks(&self) -> (usize, usize) {
        (self.blocks, self.in_blocks)
    }

    /// Takes pages for a span: whole chunks.
    pub(super) fn take_span(&mut self, lane: Lane, pages: usize) -> Option<Taken> {
        self.take(Pool::clean(lane, Use::Spans), pages, CHUNK_PAGES, 0)
    }

    /// Takes a large block whose address is a multiple of `align` pages.
    pub(super) fn take_block(&mut self, lane: Lane, pages: usize, align: usize) -> Option<Taken> {
        let pool = Pool::clean(lane, Use::Blocks);
        let align_offset = self.base.wrapping_neg() & (align - 1);
        let taken = self.take(pool, pages, align, align_offset)?;
        self.record_block(Run { range: taken.range, pool });
        Some(taken)
    }

    fn record_block(&mut self, block: Run) {
        self.map.boundaries().set(block.range.start.0, Boundary::BlockStart, block);
        self.map.set_last(block.range);
        self.in_blocks += block.range.pages();
        self.blocks += 1;
    }

    fn erase_block(&mut self, block: Run) {
        debug_assert!(self.block_at(block.range.start).is_some());
        self.map.boundaries().clear(block.range.start.0);
        self.map.clear_last(block.range);
        self.in_blocks -= block.range.pages();
        self.blocks -= 1;
    }

    fn resize_block(&mut self, block: Run, range: PageRange) {
        let live = self.map.boundaries().is_live(block.range.start.0);
        self.erase_block(block);
        self.record_block(Run { range, ..block });
        self.map.boundaries().watch_block(range.start.0, live);
    }

    fn take(
        &mut self,
        pool: Pool,
        pages: usize,
        align: usize,
        align_offset: usize,
    ) -> Option<Taken> {
        let taken = self.find(pool, pages, align, align_offset);
        self.low_water = self.low_water.min(self.dirty());
        taken
    }

    fn find(
        &mut self,
        pool: Pool,
        pages: usize,
        align: usize,
        align_offset: usize,
    ) -> Option<Taken> {
        let taken = |range: Option<PageRange>, clean| range.map(|range| Taken { range, clean });
        taken(self.runs.take(pool.dirty(), pages, align, align_offset), false)
            .or_else(|| taken(self.runs.take(pool, pages, align, align_offset), true))
            .or_else(|| {
                self.claim_regions(pool, pages.checked_add(align - 1)?)?;
                taken(self.runs.take(pool, pages, align, align_offset), true)
            })
            .or_else(|| {
                // No whole region is shared any more. Then lanes share single pages.
                self.share_clean();
                taken(self.runs.take(Pool::SHARED, pages, align, align_offset), true)
            })
            .or_else(|| {
                let mut dirty = Pool::all().filter(|pool| pool.is_dirty());
                taken(
                    dirty.find_map(|pool| self.runs.take(pool, pages, align, align_offset)),
                    false,
                )
            })
    }

    /// Moves regions that together have `pages` pages from the shared pool to `pool`.
    fn claim_regions(&mut self, pool: Pool, pages: usize) -> Option<()> {
        let pages = pages.checked_next_multiple_of(REGION_PAGES)?;
        let range = self.runs.take(Pool::SHARED, pages, REGION_PAGES, 0)?;
        self.runs.insert(Run { range, pool });
        Some(())
    }

    /// Moves all clean pages to the shared pool.
    fn share_clean(&mut self) {
        for pool in Pool::all().filter(|pool| !pool.is_dirty() && *pool != Pool::SHARED) {
            while let Some(run) = self.runs.any_longest(pool) {
                self.runs.unlink(run);
                self.runs.insert(Run { pool: Pool::SHARED, ..run });
            }
        }
    }

    /// Takes back the pages of a removed span, which may have memory.
    pub(super) fn give_span(&mut self, lane: Lane, range: PageRange) {
        self.give_dirty(Run { range, pool: Pool::clean(lane, Use::Spans) });
    }

    /// Takes back pages that may have memory.
    pub(super) fn give_dirty(&mut self, run: Run) {
        self.frees = self.frees.wrapping_add(1);
        self.runs.insert(Run { pool: run.pool.dirty(), ..run });
    }

    /// Whether the caller should read the clock: at every eighth free, because reading it takes longer
    /// than the free.
    pub(super) fn is_clock_due(&self) -> bool {
        self.frees.is_multiple_of(8)
    }

    /// Takes back pages that are empty.
    pub(super) fn give_clean(&mut self, run: Run) {
        let merged = self.runs.insert(Run { pool: run.pool.cleaned(), ..run });
        let start = merged.range.start.0.next_multiple_of(REGION_PAGES);
        let end = merged.range.end.0 / REGION_PAGES * REGION_PAGES;
        if start < end && merged.pool != Pool::SHARED {
            let regions = PageRange::new(start, end);
            self.runs.cut(merged, regions);
            self.runs.insert(Run { range: regions, pool: Pool::SHARED });
        }
    }

    /// Sets the current epoch. If it is a new one, returns the low-water mark of the last one.
    pub(super) fn set_epoch(&mut self, epoch: u64) -> usize {
        if epoch == self.epoch {
            return 0;
        }
        self.epoch = epoch;
        let dirty = self.dirty();
        core::mem::replace(&mut self.low_water, dirty)
    }

    /// Takes at most `most` dirty pages from the end of a long run.
    pub(super) fn take_dirty(&mut self, most: usize) -> Option<Run> {
        let dirty = Pool::all().filter(|pool| pool.is_dirty());
        let run =
            dirty.filter_map(|pool| self.runs.any_longest(pool)).max_by_key(|r| r.range.pages())?;
        let start = run.range.end.0 - run.range.pages().min(most);
        let range = PageRange::new(start, run.range.end.0);
        self.runs.cut(run, range);
        self.low_water = self.low_water.min(self.dirty());
        (most > 0).then_some(Run { range, ..run })
    }

    /// The large block that begins with `page`.
    pub(super) fn block_at(&self, page: PageIndex) -> Option<Run> {
        self.map.boundaries().block_at(page.0)
    }

    /// Frees the large block that begins with `page`. Its pages may have memory.
    pub(super) fn free_block(&mut self, page: PageIndex) {
        let block = self.block_at(page);
        debug_assert!(block.is_some(), "{page:?} begins no block");
        if let Some(block) = block {
            self.erase_block(block);
            self.give_dirty(block);
        }
    }

    /// Makes the large block that begins with `page` longer, if the pages behind it are free. Returns
    /// the added pages, and the first page behind the block that it did not get.
    pub(super) fn grow_block(
        &mut self,
        page: PageIndex,
        pages: usize,
    ) -> (Option<Taken>, PageIndex) {
        let Some(block) = self.block_at(page) else {
            return (None, page);
        };
        let (old_end, end) = (block.range.end.0, page.0 + pages);
        let (mut at, mut clean) = (old_end, true);
        while at < end {
            let run = self
                .runs
                .starting_at(at)
                .filter(|run| [block.pool, block.pool.dirty(), Pool::SHARED].contains(&run.pool));
            let Some(run) = run else {
                break;
            };
            let taken = PageRange::new(at, run.range.end.0.min(end));
            self.runs.cut(run, taken);
            if run.pool == Pool::SHARED {
                // Lanes take whole regions, so the rest of the last one goes to this lane.
                let rest = end.next_multiple_of(REGION_PAGES).min(run.range.end.0);
                if rest > taken.end.0
                    && let Some(left) = self.runs.starting_at(taken.end.0)
                {
                    let range = PageRange::new(taken.end.0, rest);
                    self.runs.cut(left, range);
                    self.runs.insert(Run { range, pool: block.pool });
                }
            }
            clean &= !run.pool.is_dirty();
            at = taken.end.0;
        }
        let added = PageRange::new(old_end, at);
        if at < end {
            // The pages taken so far may be clean or dirty, so all of them count as dirty.
            if !added.is_empty() {
                self.give_dirty(Run { range: added, pool: block.pool });
            }
            return (None, PageIndex(at));
        }
        self.low_water = self.low_water.min(self.dirty());
        self.resize_block(block, PageRange::new(page.0, end));
        (Some(Taken { range: added, clean }), PageIndex(at))
    }

    /// Makes a large block shorter. The rest becomes a block of its own, which the caller frees.
    pub(super) fn shrink_block(&mut self, page: PageIndex, pages: usize) -> Option<PageRange> {
        let block = self.block_at(page).filter(|block| block.range.pages() > pages)?;
        let split = PageIndex(page.0 + pages);
        self.resize_block(block, PageRange { end: split, ..block.range });
        let tail = PageRange { start: split, ..block.range };
        self.record_block(Run { range: tail, ..block });
        Some(tail)
    }

    /// Checks the free runs, and the large blocks against the map.
    pub(super) fn check(&self) -> Result<(), String> {
        let (mut blocks, mut pages, mut wrong) = (0, 0, None);
        self.runs.check(|block| {
            blocks += 1;
            pages += block.range.pages();
            if self.map.rest_of_block(block.range.start, block.range.pages() + 1) != block.range {
                wrong = Some(block);
            }
        })?;
        if let Some(block) = wrong {
            return Err(format!("the map has another end for {block:?}"));
        }
        if (blocks, pages) != self.blocks() {
            let counted = self.blocks();
            return Err(format!("{blocks} blocks of {pages} pages, counted {counted:?}"));
        }
        Ok(())
    }

    /// How many pages are free.
    pub(super) fn free(&self) -> usize {
        self.runs.free()
    }
}
