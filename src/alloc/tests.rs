//! Tests of the heap with a pager that only records its calls.

mod holes;
mod programs;
mod threads;

use super::*;
use crate::prim::PageRange;
use std::sync::atomic::AtomicBool;

const BASE: usize = 0x7000_0000_1000;

type OnRelease = Box<dyn Fn(PageRange) + Send>;

/// A pager that records its calls and gives no memory.
#[derive(Default)]
struct RecordingPager {
    populated: Mutex<Vec<PageRange>>,
    forgotten: Mutex<Vec<PageRange>>,
    released: Mutex<Vec<PageRange>>,
    out_of_memory: AtomicBool,
    refuses: AtomicBool,
    /// Runs during each call to `release`.
    while_releasing: Mutex<Option<OnRelease>>,
}

impl core::fmt::Debug for RecordingPager {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("recording pager")
    }
}

impl RecordingPager {
    fn released(&self) -> usize {
        lock(&self.released).iter().map(|range| range.pages()).sum()
    }
}

impl Pager for RecordingPager {
    fn populate(&self, range: PageRange) -> bool {
        lock(&self.populated).push(range);
        !self.out_of_memory.load(Ordering::Relaxed)
    }

    fn forget(&self, range: PageRange) {
        lock(&self.forgotten).push(range);
    }

    fn is_likely_resident(&self, _: PageRange) -> bool {
        false
    }

    fn resident(&self, range: PageRange) -> usize {
        range.pages()
    }

    fn release(&self, range: PageRange) -> Result<(), SysError> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(SysError::range_gone("a test"));
        }
        lock(&self.released).push(range);
        if let Some(work) = &*lock(&self.while_releasing) {
            work(range);
        }
        Ok(())
    }

    fn presence(&self, _: PageIndex) -> Presence {
        Presence::Resident
    }
}

fn heap_with(pages: usize, options: HeapOptions) -> (Arc<Heap>, Arc<RecordingPager>) {
    let pager = Arc::new(RecordingPager::default());
    let map = Arc::new(BlockMap::new(pages).unwrap());
    let heap = Heap::new(BASE, pages, map, Arc::clone(&pager) as _, options).unwrap();
    (Arc::new(heap), pager)
}

fn heap(pages: usize) -> (Arc<Heap>, Arc<RecordingPager>) {
    heap_with(pages, HeapOptions { poison: false, most_dirty: 1 << 20 })
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

fn offset(heap: &Arc<Heap>, layout: Layout) -> Option<usize> {
    let block = heap.allocate(Lane::Default, layout)?;
    heap.watch(block.offset, layout, true);
    Some(block.offset)
}

fn free(heap: &Arc<Heap>, offset: usize, layout: Layout) {
    heap.watch(offset, layout, false);
    heap.free(offset, layout);
}

#[test]
fn one_block_can_take_all_pages_again_and_again() {
    let (heap, _) = heap(1024);
    let whole = layout(1024 * PAGE_SIZE, 1);
    for _ in 0..3 {
        // Small blocks of each lane first, each of which takes a region of its own.
        for lane in Lane::ALL {
            let block = heap.allocate(lane, layout(100, 1));
            heap.check().unwrap();
            if let Some(block) = block {
                heap.watch(block.offset, layout(100, 1), true);
                free(&heap, block.offset, layout(100, 1));
            }
        }
        let block = heap.allocate(Lane::Default, whole).unwrap();
        assert_eq!(block.offset, 0);
        assert_eq!(heap.allocate(Lane::Cold, layout(1, 1)), None);
        heap.check().unwrap();
        heap.free(block.offset, whole);
        heap.check().unwrap();
    }
    assert_eq!(heap.allocate(Lane::Default, layout(1024 * PAGE_SIZE + 1, 1)), None);
    assert_eq!(heap.allocated(), 0);
}

#[test]
fn an_arena_of_one_region_serves_all_lanes_and_sizes() {
    let (heap, _) = heap(512);
    let mut blocks = Vec::new();
    for lane in Lane::ALL {
        for size in [8, 5000, 40_000, 200_000] {
            let layout = layout(size, 8);
            let block = heap.allocate(lane, layout).unwrap();
            heap.watch(block.offset, layout, true);
            blocks.push((block.offset, layout));
        }
    }
    heap.check().unwrap();
    for (offset, layout) in blocks {
        free(&heap, offset, layout);
        heap.check().unwrap();
    }
    assert!(offset(&heap, layout(512 * PAGE_SIZE, 1)).is_some());
}

#[test]
fn large_alignments_hold_for_the_address() {
    let (heap, _) = heap(8192);
    for shift in 12..=23 {
        let offset = offset(&heap, layout(100, 1 << shift)).unwrap();
        assert_eq!((BASE + offset) % (1 << shift), 0);
    }
    assert_eq!(offset(&heap, layout(100, 1 << 40)), None);
    assert_eq!(offset(&heap, layout(100, 1 << 62)), None);
    heap.check().unwrap();
}

#[test]
fn no_two_lanes_have_blocks_in_one_region() {
    let (heap, _) = heap(1 << 16);
    let mut regions = std::collections::HashMap::new();
    for n in 0..3000 {
        for lane in Lane::ALL {
            let block =
                heap.allocate(lane, layout(if n % 9 == 0 { 50_000 } else { 700 }, 8)).unwrap();
            assert_eq!(*regions.entry(block.offset >> 21).or_insert(lane), lane);
        }
    }
    // A freed block goes back to its own lane.
    let mine = layout(700, 8);
    let block = heap.allocate(Lane::Hot, mine).unwrap();
    heap.free(block.offset, mine);
    for _ in 0..3000 {
        let block = heap.allocate(Lane::Default, mine).unwrap();
        assert_eq!(regions.get(&(block.offset >> 21)).copied().unwrap_or_default(), Lane::Default);
    }
}

#[test]
fn an_empty_span_is_forgotten_at_once_and_released_after_an_epoch() {
    let (heap, pager) = heap(1024);
    let small = layout(8192, 8);
    let blocks: Vec<_> = (0..64).map(|_| offset(&heap, small).unwrap()).collect();
    blocks.iter().for_each(|offset| free(&heap, *offset, small));
    let forgotten: usize = lock(&pager.forgotten).iter().map(|range| range.pages()).sum();
    assert!(forgotten > 0, "some spans are empty although the caches keep slots");
    assert_eq!(pager.released(), 0);
    let tick = || {
        heap.pass(1);
        heap.tick();
    };
    tick();
    assert_eq!(pager.released(), 0, "not before it was free for a whole epoch");
    tick();
    assert!(pager.released() >= forgotten);
    heap.check().unwrap();
    heap.trim();
    let stats = heap.report();
    assert_eq!((stats.held_bytes(), stats.free_bytes), (0, 1024 * PAGE_SIZE as u64), "{stats}");
    heap.check().unwrap();
}

#[test]
fn dirty_pages_stay_below_the_limit() {
    let (heap, pager) = heap_with(4096, HeapOptions { poison: false, most_dirty: 100 });
    let large = layout(300 * PAGE_SIZE, 1);
    let blocks: Vec<_> = (0..10).map(|_| offset(&heap, large).unwrap()).collect();
    blocks.iter().for_each(|offset| free(&heap, *offset, large));
    assert!(heap.report().dirty_bytes <= 100 * PAGE_SIZE as u64, "{}", heap.report());
    assert!(pager.released() >= 2900);
    heap.check().unwrap();
}

#[test]
fn pages_whose_release_fails_stay_dirty_and_usable() {
    let (heap, pager) = heap(512);
    let whole = layout(512 * PAGE_SIZE, 1);
    free(&heap, offset(&heap, whole).unwrap(), whole);
    pager.refuses.store(true, Ordering::Relaxed);
    assert_eq!(heap.trim(), 0);
    let block = heap.allocate(Lane::Default, whole).unwrap();
    assert!(!block.clean);
    heap.free(block.offset, whole);
    pager.refuses.store(false, Ordering::Relaxed);
    assert_eq!(heap.trim(), 512 * PAGE_SIZE);
    assert!(heap.allocate(Lane::Default, whole).unwrap().clean);
}

#[test]
fn without_memory_allocations_fail_and_lose_no_page() {
    let (heap, pager) = heap(512);
    pager.out_of_memory.store(true, Ordering::Relaxed);
    for size in [100, 30_000, 100_000] {
        assert_eq!(offset(&heap, layout(size, 8)), None);
        heap.check().unwrap();
    }
    pager.out_of_memory.store(false, Ordering::Relaxed);
    assert!(offset(&heap, layout(512 * PAGE_SIZE, 1)).is_some());
}

#[test]
fn large_blocks_grow_and_shrink_in_place() {
    let (heap, _) = heap(512);
    let pages = |n: usize| layout(n * PAGE_SIZE - 7, 1);
    let block = offset(&heap, pages(15)).unwrap();
    let grown = heap.grow(block, pages(15), pages(19));
    assert_eq!(grown, Some((PageRange::new(15, 19), true)));
    let other = offset(&heap, pages(13)).unwrap();
    assert_eq!(heap.grow(block, pages(19), pages(20)), None, "the next pages are in use");
    assert!(heap.shrink(block, pages(19), pages(10)));
    heap.check().unwrap();
    assert_eq!(heap.grow(block, pages(10), pages(40)), None);
    let grown = heap.grow(block, pages(10), pages(19));
    assert_eq!(grown, Some((PageRange::new(10, 19), false)), "the pages may hold bytes");
    heap.check().unwrap();
    free(&heap, block, pages(19));
    free(&heap, other, pages(13));
    heap.check().unwrap();
    assert!(offset(&heap, layout(512 * PAGE_SIZE, 1)).is_some());
}

#[test]
fn a_large_block_grows_beyond_its_region() {
    let (heap, _) = heap(4096);
    let pages = |n: usize| layout(n * PAGE_SIZE, 1);
    let block = offset(&heap, pages(500)).unwrap();
    assert!(heap.grow(block, pages(500), pages(700)).is_some());
    heap.check().unwrap();
    let other = heap.allocate(Lane::Hot, pages(100)).unwrap();
    assert_eq!(other.offset / PAGE_SIZE, 1024, "regions are taken whole");
    assert_eq!(heap.grow(block, pages(700), pages(1025)), None);
    assert!(heap.grow(block, pages(700), pages(1024)).is_some());
    heap.check().unwrap();
}
