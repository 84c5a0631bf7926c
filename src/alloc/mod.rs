//! Who has which bytes of the arena.
//!
//! Works in offsets from the arena's start and keeps everything it knows in memory of its own:
//! allocating and freeing never touch the arena. It knows nothing of pages' states; it says which
//! pages to populate or to release, and the caller sees to it.

mod classes;
mod runs;

use crate::prim::{PAGE_SIZE, PageIndex, PageRange};
use classes::{CLASSES, SPAN_PAGES, class_of, size_of_class, slots_of_class};
use core::alloc::Layout;
use runs::Runs;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Memory that was allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Offset of the first byte from the arena's start.
    pub(crate) offset: usize,
    /// Bytes that the caller may use, at least as many as were asked for.
    pub(crate) size: usize,
    /// Pages that were free before, which hold zeros and are the caller's to populate.
    pub(crate) fresh: Option<PageRange>,
}

impl Block {
    /// Whether the block holds nothing but zeros.
    pub(crate) fn is_zeroed(&self) -> bool {
        self.fresh.is_some_and(|pages| pages.bytes() == self.size)
    }
}

/// A span of slots of one class.
#[derive(Debug)]
struct Span {
    class: usize,
    /// A bit per slot in use.
    used: Box<[u64]>,
    count: usize,
}

/// The allocator: small blocks in spans of equal slots, large ones in runs of pages.
#[derive(Debug)]
pub(crate) struct Heap {
    /// The arena's address, for alignments larger than a page.
    base: usize,
    runs: Runs,
    /// Blocks of pages: the first page after each, by its first page.
    blocks: BTreeMap<usize, usize>,
    /// By the span's number: its first page divided by [`SPAN_PAGES`].
    spans: HashMap<usize, Span>,
    /// Per class, the spans that have a free slot.
    partial: [BTreeSet<usize>; CLASSES],
    allocated: usize,
}

impl Heap {
    /// A heap of `pages` free pages at address `base`, which lies on a page boundary.
    pub(crate) fn new(base: usize, pages: usize) -> Self {
        Self {
            base,
            runs: Runs::new(pages),
            blocks: BTreeMap::new(),
            spans: HashMap::new(),
            partial: [const { BTreeSet::new() }; CLASSES],
            allocated: 0,
        }
    }

    /// Bytes in use, rounded up to slots and pages.
    pub(crate) fn allocated(&self) -> usize {
        self.allocated
    }

    /// Finds room for `layout`, whose size is not zero.
    pub(crate) fn allocate(&mut self, layout: Layout) -> Option<Block> {
        let block = match class_of(layout) {
            Some(class) => self.allocate_slot(class),
            None => {
                let pages = layout.size().div_ceil(PAGE_SIZE);
                let run = self.runs.take(pages, layout.align().max(PAGE_SIZE), self.base)?;
                self.blocks.insert(run.start.0, run.end.0);
                Some(Block { offset: run.start.offset(), size: run.bytes(), fresh: Some(run) })
            }
        }?;
        self.allocated += block.size;
        Some(block)
    }

    fn allocate_slot(&mut self, class: usize) -> Option<Block> {
        let size = size_of_class(class);
        let (number, fresh) = match self.partial[class].first() {
            Some(&number) => (number, None),
            None => {
                let align = SPAN_PAGES * PAGE_SIZE;
                // Spans are aligned to their size from the arena's start, not in memory.
                let run = self.runs.take(SPAN_PAGES, align, 0)?;
                let number = run.start.0 / SPAN_PAGES;
                let used = vec![0; slots_of_class(class).div_ceil(64)].into();
                self.spans.insert(number, Span { class, used, count: 0 });
                self.partial[class].insert(number);
                (number, Some(run))
            }
        };
        let slots = slots_of_class(class);
        let span = self.spans.get_mut(&number)?;
        let (word, bits) = span.used.iter_mut().enumerate().find(|(_, bits)| **bits != u64::MAX)?;
        let slot = word * 64 + bits.trailing_ones() as usize;
        debug_assert!(slot < slots);
        *bits |= 1 << (slot % 64);
        span.count += 1;
        if span.count == slots {
            self.partial[class].remove(&number);
        }
        let offset = number * SPAN_PAGES * PAGE_SIZE + slot * size;
        Some(Block { offset, size, fresh })
    }

    /// How many bytes a block that was allocated for `layout` has.
    pub(crate) fn usable_size(layout: Layout) -> usize {
        match class_of(layout) {
            Some(class) => size_of_class(class),
            None => layout.size().next_multiple_of(PAGE_SIZE),
        }
    }

    /// Whether a block for `old` can be one for `new` where it lies: in the same slot, or in the
    /// same pages or more or fewer of them.
    pub(crate) fn same_place(old: Layout, new: Layout) -> bool {
        // The caller sees to the alignment, and no layout without bytes has a place.
        old.size() > 0 && new.size() > 0 && class_of(old) == class_of(new)
    }

    /// Frees the block at `offset` that was allocated for `layout`. Pages that are named in return
    /// are to be released and then [given back](Self::give_back).
    pub(crate) fn free(&mut self, offset: usize, layout: Layout) -> Option<PageRange> {
        self.allocated -= Self::usable_size(layout);
        let Some(class) = class_of(layout) else {
            let pages = PageRange::touching(offset, layout.size());
            let end = self.blocks.remove(&pages.start.0);
            debug_assert_eq!(end, Some(pages.end.0), "freed twice, or not a block of this arena");
            return Some(pages);
        };
        let number = offset / (SPAN_PAGES * PAGE_SIZE);
        let slot = offset % (SPAN_PAGES * PAGE_SIZE) / size_of_class(class);
        let span = self.spans.get_mut(&number);
        debug_assert!(span.as_ref().is_some_and(|s| s.class == class), "not a block of this arena");
        let span = span?;
        let bit = 1 << (slot % 64);
        debug_assert!(span.used[slot / 64] & bit != 0, "freed twice");
        span.used[slot / 64] &= !bit;
        span.count -= 1;
        self.partial[class].insert(number);
        // One empty span per class is kept, so that a block that comes and goes takes none along.
        if span.count > 0 || self.partial[class].len() == 1 {
            return None;
        }
        self.partial[class].remove(&number);
        self.spans.remove(&number);
        let start = number * SPAN_PAGES;
        Some(PageRange::new(start, start + SPAN_PAGES))
    }

    /// Takes back pages that have been released.
    pub(crate) fn give_back(&mut self, pages: PageRange) {
        self.runs.give(pages);
    }

    /// Makes a block of pages at `offset` larger without moving it, if what follows is free.
    /// Names the pages that were added.
    pub(crate) fn grow(&mut self, offset: usize, old: Layout, new: Layout) -> Option<PageRange> {
        if class_of(old).is_some() || class_of(new).is_some() {
            return None;
        }
        let end = PageRange::touching(offset, old.size()).end.0;
        let more = new.size().div_ceil(PAGE_SIZE) - old.size().div_ceil(PAGE_SIZE);
        let added = PageRange::new(end, end + more);
        self.runs.take_exactly(added).then(|| {
            self.blocks.insert(PageIndex::containing(offset).0, added.end.0);
            self.allocated += added.bytes();
            added
        })
    }

    /// Makes a block of pages smaller without moving it. Names the pages to be released and given
    /// back; none if it must be moved.
    pub(crate) fn shrink(&mut self, offset: usize, old: Layout, new: Layout) -> Option<PageRange> {
        if class_of(old).is_some() || class_of(new).is_some() {
            return None;
        }
        let was = PageRange::touching(offset, old.size());
        let is = PageRange::touching(offset, new.size());
        let tail = PageRange { start: is.end, end: was.end };
        self.blocks.insert(is.start.0, is.end.0);
        self.allocated -= tail.bytes();
        Some(tail)
    }

    /// The pages from `page` to the end of the block of pages that it lies in; none if it lies in
    /// no such block.
    pub(crate) fn rest_of_block(&self, page: PageIndex) -> Option<PageRange> {
        let (_, &end) = self.blocks.range(..=page.0).next_back()?;
        (page.0 < end).then(|| PageRange::new(page.0, end))
    }

    /// Checks the heap's own sums.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.runs.check()?;
        for (number, span) in &self.spans {
            let marked: u32 = span.used.iter().map(|word| word.count_ones()).sum();
            let listed = self.partial[span.class].contains(number);
            let full = span.count == slots_of_class(span.class);
            if marked as usize != span.count || listed == full {
                return Err(format!("span {number}: {marked} marked, listed: {listed}, {span:?}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
