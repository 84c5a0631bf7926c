//! Which pages are free, and for whom.
//!
//! A lane takes regions of 2 MiB from what is shared and cuts spans and blocks of pages from regions of
//! their own, so that small objects do not lie among large ones nor warm among cold. Pages that become
//! free are *dirty*: they keep their memory for a while, because giving it back and getting it again
//! costs more than most programs do with it in between. Then they are released and *clean*; a region
//! that is clean from end to end is shared again.

use super::classes::CHUNK_PAGES;
use super::lane::{Kind, Lane, Use};
use super::map::BlockMap;
use super::node::{Mark, Run};
use super::runs::Runs;
use crate::prim::geometry::PAGE_SHIFT;
use crate::prim::{PageIndex, PageRange};
use std::sync::Arc;

/// Pages in a region, the unit in which lanes take memory, and trackers look at it.
const REGION: usize = crate::prim::REGION_PAGES;

/// Pages that were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) range: PageRange,
    /// Whether they are empty, all of them.
    pub(super) clean: bool,
}

/// All pages of an arena that no span has.
#[derive(Debug)]
pub(super) struct PageHeap {
    runs: Runs,
    map: Arc<BlockMap>,
    /// The number in memory of the arena's first page.
    base: usize,
    /// The time, by the clock by which dirty pages are kept.
    epoch: u64,
    /// The fewest dirty pages that there have been since then: these nobody has needed.
    spare: usize,
    /// How often something was given back.
    given: u32,
    /// Pages in blocks.
    in_blocks: usize,
    blocks: usize,
}

impl PageHeap {
    /// So many free pages at address `base`.
    pub(super) fn new(base: usize, pages: usize, map: Arc<BlockMap>) -> Self {
        let mut runs = Runs::new(Arc::clone(&map));
        runs.insert(Run { range: PageRange::new(0, pages), kind: Kind::SHARED });
        Self {
            runs,
            map,
            base: base >> PAGE_SHIFT,
            epoch: 0,
            spare: 0,
            given: 0,
            in_blocks: 0,
            blocks: 0,
        }
    }

    /// Pages that are free and have not been released.
    pub(super) fn dirty(&self) -> usize {
        self.runs.dirty()
    }

    /// How many blocks there are, and pages in them.
    pub(super) fn blocks(&self) -> (usize, usize) {
        (self.blocks, self.in_blocks)
    }

    /// Pages for a span: whole chunks.
    pub(super) fn take_span(&mut self, lane: Lane, pages: usize) -> Option<Taken> {
        self.take(Kind::clean(lane, Use::Spans), pages, CHUNK_PAGES, 0)
    }

    /// A block of pages whose address is a multiple of `align` pages.
    pub(super) fn take_block(&mut self, lane: Lane, pages: usize, align: usize) -> Option<Taken> {
        let kind = Kind::clean(lane, Use::Blocks);
        let phase = self.base.wrapping_neg() & (align - 1);
        let taken = self.take(kind, pages, align, phase)?;
        self.note_block(Run { range: taken.range, kind });
        Some(taken)
    }

    fn note_block(&mut self, block: Run) {
        self.map.nodes().set(block.range.start.0, Mark::FirstOfBlock, block);
        self.map.set_last(block.range);
        self.in_blocks += block.range.pages();
        self.blocks += 1;
    }

    fn forget_block(&mut self, block: Run) {
        debug_assert!(self.block_at(block.range.start).is_some());
        self.map.nodes().clear(block.range.start.0);
        self.map.clear_last(block.range);
        self.in_blocks -= block.range.pages();
        self.blocks -= 1;
    }

    fn resize_block(&mut self, block: Run, range: PageRange) {
        let live = self.map.nodes().is_live(block.range.start.0);
        self.forget_block(block);
        self.note_block(Run { range, ..block });
        self.map.nodes().watch_block(range.start.0, live);
    }

    fn take(&mut self, kind: Kind, pages: usize, align: usize, phase: usize) -> Option<Taken> {
        let taken = self.find(kind, pages, align, phase);
        self.spare = self.spare.min(self.dirty());
        taken
    }

    fn find(&mut self, kind: Kind, pages: usize, align: usize, phase: usize) -> Option<Taken> {
        let taken = |range: Option<PageRange>, clean| range.map(|range| Taken { range, clean });
        taken(self.runs.take(kind.dirty(), pages, align, phase), false)
            .or_else(|| taken(self.runs.take(kind, pages, align, phase), true))
            .or_else(|| {
                self.take_regions(kind, pages.checked_add(align - 1)?)?;
                taken(self.runs.take(kind, pages, align, phase), true)
            })
            .or_else(|| {
                // No region is whole any more. Then what is left is shared by the page.
                self.gather();
                taken(self.runs.take(Kind::SHARED, pages, align, phase), true)
            })
            .or_else(|| {
                let mut dirty = Kind::all().filter(|kind| kind.is_dirty());
                taken(dirty.find_map(|kind| self.runs.take(kind, pages, align, phase)), false)
            })
    }

    /// Takes regions that hold so many pages from what is shared.
    fn take_regions(&mut self, kind: Kind, pages: usize) -> Option<()> {
        let pages = pages.checked_next_multiple_of(REGION)?;
        let range = self.runs.take(Kind::SHARED, pages, REGION, 0)?;
        self.runs.insert(Run { range, kind });
        Some(())
    }

    /// Makes all clean pages shared.
    fn gather(&mut self) {
        for kind in Kind::all().filter(|kind| !kind.is_dirty() && *kind != Kind::SHARED) {
            while let Some(run) = self.runs.long(kind) {
                self.runs.unlink(run);
                self.runs.insert(Run { kind: Kind::SHARED, ..run });
            }
        }
    }

    /// Gives back the pages of a span of `lane`, which may still have memory.
    pub(super) fn give_span(&mut self, lane: Lane, range: PageRange) {
        self.give_dirty(Run { range, kind: Kind::clean(lane, Use::Spans) });
    }

    /// Gives back pages that may still have memory.
    pub(super) fn give_dirty(&mut self, run: Run) {
        self.given = self.given.wrapping_add(1);
        self.runs.insert(Run { kind: run.kind.dirty(), ..run });
    }

    /// Whether it is worth looking at the clock, which takes longer than the rest.
    pub(super) fn asks_the_time(&self) -> bool {
        self.given.is_multiple_of(8)
    }

    /// Gives back pages that are empty.
    pub(super) fn give_clean(&mut self, run: Run) {
        let merged = self.runs.insert(Run { kind: run.kind.cleaned(), ..run });
        let start = merged.range.start.0.next_multiple_of(REGION);
        let end = merged.range.end.0 / REGION * REGION;
        if start < end && merged.kind != Kind::SHARED {
            let regions = PageRange::new(start, end);
            self.runs.cut(merged, regions);
            self.runs.insert(Run { range: regions, kind: Kind::SHARED });
        }
    }

    /// Tells what time it is, and says how many dirty pages nobody has needed for a whole epoch.
    pub(super) fn set_epoch(&mut self, epoch: u64) -> usize {
        if epoch == self.epoch {
            return 0;
        }
        self.epoch = epoch;
        let dirty = self.dirty();
        core::mem::replace(&mut self.spare, dirty)
    }

    /// Takes at most `most` dirty pages, from a long run of them.
    pub(super) fn take_dirty(&mut self, most: usize) -> Option<Run> {
        let dirty = Kind::all().filter(|kind| kind.is_dirty());
        let run = dirty.filter_map(|kind| self.runs.long(kind)).max_by_key(|r| r.range.pages())?;
        let start = run.range.end.0 - run.range.pages().min(most);
        let range = PageRange::new(start, run.range.end.0);
        self.runs.cut(run, range);
        self.spare = self.spare.min(self.dirty());
        (most > 0).then_some(Run { range, ..run })
    }

    /// The block that begins with `page`.
    pub(super) fn block_at(&self, page: PageIndex) -> Option<Run> {
        self.map.nodes().block_at(page.0)
    }

    /// Gives back the pages of the block that begins with `page`, which may still have memory.
    pub(super) fn end_block(&mut self, page: PageIndex) {
        let block = self.block_at(page);
        debug_assert!(block.is_some(), "{page:?} begins no block");
        if let Some(block) = block {
            self.forget_block(block);
            self.give_dirty(block);
        }
    }

    /// Makes a block longer by the pages behind it, if they are free; names them, and whether they
    /// are empty. Names the first page that is not free besides.
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
                .filter(|run| [block.kind, block.kind.dirty(), Kind::SHARED].contains(&run.kind));
            let Some(run) = run else {
                break;
            };
            let taken = PageRange::new(at, run.range.end.0.min(end));
            self.runs.cut(run, taken);
            if run.kind == Kind::SHARED {
                // Lanes take whole regions: what is left of the last one is this lane's.
                let rest = end.next_multiple_of(REGION).min(run.range.end.0);
                if rest > taken.end.0
                    && let Some(left) = self.runs.starting_at(taken.end.0)
                {
                    let range = PageRange::new(taken.end.0, rest);
                    self.runs.cut(left, range);
                    self.runs.insert(Run { range, kind: block.kind });
                }
            }
            clean &= !run.kind.is_dirty();
            at = taken.end.0;
        }
        let added = PageRange::new(old_end, at);
        if at < end {
            // What was taken may be clean or not: as if it had been in use.
            if !added.is_empty() {
                self.give_dirty(Run { range: added, kind: block.kind });
            }
            return (None, PageIndex(at));
        }
        self.spare = self.spare.min(self.dirty());
        self.resize_block(block, PageRange::new(page.0, end));
        (Some(Taken { range: added, clean }), PageIndex(at))
    }

    /// Makes a block shorter. What it had beyond is a block of its own now, to be freed.
    pub(super) fn shrink_block(&mut self, page: PageIndex, pages: usize) -> Option<PageRange> {
        let block = self.block_at(page).filter(|block| block.range.pages() > pages)?;
        let split = PageIndex(page.0 + pages);
        self.resize_block(block, PageRange { end: split, ..block.range });
        let tail = PageRange { start: split, ..block.range };
        self.note_block(Run { range: tail, ..block });
        Some(tail)
    }

    /// Checks the runs, and the blocks against the map.
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
            return Err(format!("the map does not know where {block:?} ends"));
        }
        if (blocks, pages) != self.blocks() {
            let counted = self.blocks();
            return Err(format!("{blocks} blocks of {pages} pages, counted {counted:?}"));
        }
        Ok(())
    }

    /// Free pages of every kind, for a check of the sums.
    pub(super) fn free(&self) -> usize {
        self.runs.free()
    }
}
