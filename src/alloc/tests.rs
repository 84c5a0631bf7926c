use super::*;
use proptest::prelude::*;

const BASE: usize = 0x7000_0000_1000;

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

fn release(heap: &mut Heap, offset: usize, layout: Layout) {
    if let Some(pages) = heap.free(offset, layout) {
        heap.give_back(pages);
    }
}

#[test]
fn all_pages_can_be_used_and_come_back() {
    let mut heap = Heap::new(BASE, 64);
    let whole = layout(64 * PAGE_SIZE, 1);
    for _ in 0..3 {
        let block = heap.allocate(whole).unwrap();
        assert!(block.is_zeroed());
        assert_eq!(heap.allocate(layout(1, 1)), None);
        release(&mut heap, block.offset, whole);
        heap.check().unwrap();
    }
    assert_eq!(heap.allocate(layout(64 * PAGE_SIZE + 1, 1)), None);
    assert_eq!(heap.allocated(), 0);
}

#[test]
fn huge_alignments_are_of_the_address() {
    let mut heap = Heap::new(BASE, 4096);
    for shift in 12..=23 {
        let block = heap.allocate(layout(100, 1 << shift)).unwrap();
        assert_eq!((BASE + block.offset) % (1 << shift), 0);
    }
    assert_eq!(heap.allocate(layout(100, 1 << 40)), None);
    assert_eq!(heap.allocate(layout(100, 1 << 62)), None);
    heap.check().unwrap();
}

#[test]
fn an_empty_span_is_given_up_when_the_class_has_another() {
    let mut heap = Heap::new(BASE, 64);
    let small = layout(8192, 8);
    let blocks: Vec<_> = (0..16).map(|_| heap.allocate(small).unwrap().offset).collect();
    let mut given = 0;
    for offset in blocks {
        given += heap.free(offset, small).map_or(0, |pages| {
            heap.give_back(pages);
            pages.pages()
        });
        heap.check().unwrap();
    }
    assert_eq!(given, SPAN_PAGES);
}

#[test]
fn runs_grow_and_shrink_where_they_are() {
    let mut heap = Heap::new(BASE, 64);
    let (old, new) = (layout(5 * PAGE_SIZE, 1), layout(9 * PAGE_SIZE - 7, 1));
    let block = heap.allocate(old).unwrap();
    let added = heap.grow(block.offset, old, new).unwrap();
    assert_eq!(added, PageRange::new(5, 9));
    let other = heap.allocate(layout(3 * PAGE_SIZE, 1)).unwrap();
    assert_eq!(heap.grow(block.offset, new, layout(10 * PAGE_SIZE, 1)), None);
    let tail = heap.shrink(block.offset, new, layout(3 * PAGE_SIZE + 1, 1)).unwrap();
    assert_eq!(tail, PageRange::new(4, 9));
    heap.give_back(tail);
    release(&mut heap, block.offset, layout(3 * PAGE_SIZE + 1, 1));
    release(&mut heap, other.offset, layout(3 * PAGE_SIZE, 1));
    heap.check().unwrap();
    assert!(heap.allocate(layout(64 * PAGE_SIZE, 1)).is_some());
}

proptest! {
    /// No two blocks share a byte, whatever comes and goes.
    #[test]
    fn blocks_never_overlap(
        ops in proptest::collection::vec((any::<bool>(), 1usize..40_000, 0u32..14, any::<u16>()), 1..300),
    ) {
        let mut heap = Heap::new(BASE, 512);
        let mut live: Vec<(Block, Layout)> = Vec::new();
        for (allocate, size, shift, pick) in ops {
            if allocate || live.is_empty() {
                let layout = layout(size, 1 << shift);
                if let Some(block) = heap.allocate(layout) {
                    prop_assert!(block.size >= size);
                    prop_assert_eq!(block.size, Heap::usable_size(layout));
                    prop_assert_eq!((BASE + block.offset) % (1 << shift), 0);
                    prop_assert!(block.offset + block.size <= 512 * PAGE_SIZE);
                    for (other, _) in &live {
                        prop_assert!(
                            block.offset + block.size <= other.offset
                                || other.offset + other.size <= block.offset
                        );
                    }
                    live.push((block, layout));
                }
            } else {
                let (block, layout) = live.swap_remove(pick as usize % live.len());
                release(&mut heap, block.offset, layout);
            }
            heap.check().unwrap();
            prop_assert_eq!(heap.allocated(), live.iter().map(|(b, _)| b.size).sum::<usize>());
        }
    }
}
