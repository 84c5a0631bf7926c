//! The heap, and a model of the blocks that the program has.

use crate::alloc::{self, BlockMap, Heap, HeapOptions, Lane};
use crate::pages::Pages;
use crate::prim::{PAGE_SIZE, PageIndex, PageRange};
use crate::program::Program;
use std::alloc::Layout;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The arena's address: not a multiple of 2 MiB.
const BASE: usize = 0x7000_0000_1000;
/// Three regions and a part of a fourth.
const PAGES: usize = 3 * 512 + 100;

/// A block that the program has.
#[derive(Clone, Copy, Debug)]
struct Block {
    layout: Layout,
    /// Usable bytes.
    size: usize,
}

pub(crate) struct Blocks {
    heap: Arc<Heap>,
    pages: Arc<Pages>,
    /// The blocks by offset.
    blocks: BTreeMap<usize, Block>,
}

fn pages_of(offset: usize, size: usize) -> PageRange {
    PageRange::touching(offset, size)
}

impl Blocks {
    pub(crate) fn new(how: usize) -> Self {
        let pages = Arc::new(Pages::new(PAGES));
        let map = Arc::new(BlockMap::new(PAGES).unwrap());
        let options = HeapOptions { poison: how & 7 == 7, most_dirty: how >> 3 << 5 };
        let heap = Heap::new(BASE, PAGES, map, Arc::clone(&pages) as _, options).unwrap();
        Self { heap: Arc::new(heap), pages, blocks: BTreeMap::new() }
    }

    /// One step of a program.
    pub(crate) fn step(&mut self, step: u8, program: &mut Program<'_>) {
        let how = usize::from(step >> 4);
        let lane = Lane::ALL[how % Lane::ALL.len()];
        match step & 15 {
            0..=2 => {
                let size = 1 + program.number() % [128, 1 << 10, 8 << 10, 40 << 10][how / 4];
                let layout = layout(size, program.byte());
                (0..1 + program.byte() % 32).for_each(|_| self.allocate(lane, layout));
            }
            3 | 4 => {
                let pages = 1 + program.number() % [4, 64, 300, 800][how / 4];
                let slack = program.byte() * 16;
                self.allocate(lane, layout(pages * PAGE_SIZE - slack, program.byte()));
            }
            5..=7 => {
                let (at, count) = (program.number(), program.byte());
                (0..1 + count % 32).for_each(|n| self.free(at + n * (count / 32)));
            }
            8 | 9 => self.resize(program.number(), program.number() * 16, how, true),
            10 => self.resize(program.number(), program.number() * 16, how, false),
            11 => {
                self.heap.pass(how as u32);
                self.heap.tick();
            }
            12 if how % 4 == 0 => self.trim(),
            12 if how % 4 == 1 => drop(self.heap.sweep()),
            12 => self.heap.release_dirty(),
            13 | 14 => {
                let first = program.number() % PAGES;
                let count = (1 + program.byte() * how).min(PAGES - first);
                self.pages.evict(PageRange::new(first, first + count));
            }
            _ => self.pages.fail(how & 3 == 1, how & 3 == 2),
        }
        self.heap.check().unwrap();
        self.check();
    }

    /// Trims the heap. Afterwards pages without a byte of a block are empty.
    fn trim(&self) {
        self.heap.trim();
        let report = self.heap.report();
        let classes = report.lanes.iter().flat_map(|lane| &lane.classes);
        let cached = classes.map(|class| class.cached).sum::<u64>() + report.cached_large_bytes;
        // Trim does not flush the caches of other threads.
        if !self.pages.fails() && cached == 0 {
            assert!(self.pages.free_are_empty(), "{report}");
            assert_eq!(report.hole_bytes(), 0, "{report}");
        }
    }

    /// Compares the heap's statistics with the model.
    fn check(&self) {
        let bytes: usize = self.blocks.values().map(|block| block.size).sum();
        assert_eq!(self.heap.allocated(), bytes);
    }

    /// Adds a block to the model. No other block may share a byte with it.
    fn take(&mut self, offset: usize, block: Block) {
        let end = offset + block.size;
        assert!(end <= PAGES * PAGE_SIZE && block.size >= block.layout.size(), "{block:?}");
        assert!((BASE + offset).is_multiple_of(block.layout.align()), "{offset:#x}: {block:?}");
        if let Some((other, before)) = self.blocks.range(..end).next_back() {
            assert!(
                other + before.size <= offset,
                "{offset:#x}: {block:?}, {other:#x}: {before:?}"
            );
        }
        self.blocks.insert(offset, block);
        self.pages.claim(pages_of(offset, block.size), true);
    }

    fn give(&mut self, offset: usize) -> Block {
        let block = self.blocks.remove(&offset).unwrap();
        self.pages.claim(pages_of(offset, block.size), false);
        block
    }

    /// A block chosen by `at`, in the order of addresses.
    fn pick(&self, at: usize) -> Option<usize> {
        let place = at % PAGES * PAGE_SIZE;
        let mut blocks = self.blocks.range(place..).chain(&self.blocks);
        blocks.nth(at / PAGES).map(|(offset, _)| *offset)
    }

    /// Allocates as an arena does: the fast path first.
    fn find(&self, lane: Lane, layout: Layout) -> Option<alloc::Block> {
        let number = self.heap.number();
        let found = match alloc::bin_of(lane, layout) {
            Some(bin) => alloc::pop_fast(number, bin)
                .map(|offset| (offset as usize, alloc::size_of_bin(bin))),
            None if layout.align() > PAGE_SIZE => None,
            None => {
                let pages = layout.size().div_ceil(PAGE_SIZE);
                let page = alloc::take_block_fast(number, lane, pages);
                page.map(|page| (PageIndex(page).offset(), pages * PAGE_SIZE))
            }
        };
        let found = found.map(|(offset, size)| alloc::Block { offset, size, clean: false });
        found.or_else(|| self.heap.allocate(lane, layout))
    }

    fn allocate(&mut self, lane: Lane, layout: Layout) {
        let Some(found) = self.find(lane, layout) else {
            let none = self.blocks.is_empty() && layout.align() <= PAGE_SIZE;
            return assert!(!none || self.pages.fails(), "no room for {layout:?}");
        };
        self.heap.watch(found.offset, layout, true);
        self.take(found.offset, Block { layout, size: found.size });
        let range = pages_of(found.offset, found.size);
        assert!(!found.clean || self.pages.are_zero(range), "{found:?} is not clean");
        self.pages.write(range);
    }

    fn free(&mut self, at: usize) {
        let Some(offset) = self.pick(at) else { return };
        let layout = self.give(offset).layout;
        self.heap.watch(offset, layout, false);
        if let Some(bin) = alloc::bin_of(Lane::ALL[at % Lane::ALL.len()], layout)
            && self.heap.bin_at(offset) == Some(bin)
            && alloc::push_fast(self.heap.number(), bin, offset as u64)
        {
            return;
        }
        self.heap.free(offset, layout);
    }

    /// Resizes a block in place. If the heap refuses, moves it if `how` is odd.
    fn resize(&mut self, at: usize, by: usize, how: usize, larger: bool) {
        let Some(offset) = self.pick(at) else { return };
        let old = self.blocks[&offset].layout;
        let size = if larger { old.size() + by } else { old.size().saturating_sub(by).max(1) };
        let new = Layout::from_size_align(size, old.align()).unwrap();
        let (was, is) = (alloc::usable_size(old), alloc::usable_size(new));
        let stays = alloc::same_place(old, new);
        let done = match stays {
            true if was == is => true,
            true if larger => self.grow(offset, old, new),
            true => {
                // Before the call, because the heap may release the tail during the call.
                let tail = PageRange::new((offset + is) / PAGE_SIZE, (offset + was) / PAGE_SIZE);
                self.pages.claim(tail, false);
                let done = self.heap.shrink(offset, old, new);
                self.pages.claim(tail, true);
                done
            }
            false => false,
        };
        if done {
            self.give(offset);
            self.take(offset, Block { layout: new, size: is });
        } else if how & 1 == 1 {
            self.allocate(Lane::ALL[how % Lane::ALL.len()], new);
            self.free(at);
        }
    }

    fn grow(&mut self, offset: usize, old: Layout, new: Layout) -> bool {
        let Some((added, clean)) = self.heap.grow(offset, old, new) else { return false };
        let end = PageIndex((offset + alloc::usable_size(old)) / PAGE_SIZE);
        assert_eq!(
            (added.start, added.bytes()),
            (end, alloc::usable_size(new) - alloc::usable_size(old))
        );
        assert!(!clean || self.pages.are_zero(added), "{added:?} are not clean");
        self.pages.write(added);
        true
    }

    /// Frees all blocks. Afterwards the heap must be as it was at the start.
    pub(crate) fn end(mut self) {
        self.pages.fail(false, false);
        while !self.blocks.is_empty() {
            self.free(0);
        }
        self.heap.trim();
        self.heap.check().unwrap();
        self.check();
        assert!(self.pages.are_empty());
        self.allocate(Lane::Default, layout(PAGES * PAGE_SIZE, 0));
        assert_eq!(self.blocks.len(), 1);
    }
}

/// A layout with an alignment of at most 16, or in one of four cases up to 4 MiB.
fn layout(size: usize, how: usize) -> Layout {
    let shift = if how < 192 { how % 5 } else { how % 23 };
    Layout::from_size_align(size.max(1), 1 << shift).unwrap()
}
