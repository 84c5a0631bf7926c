mod holes;

use super::*;
use proptest::prelude::*;
use std::sync::atomic::AtomicBool;
use std::thread;

const BASE: usize = 0x7000_0000_1000;

type OnRelease = Box<dyn Fn(PageRange) + Send>;

/// Notes what it is asked for.
#[derive(Default)]
struct Notes {
    populated: Mutex<Vec<PageRange>>,
    forgotten: Mutex<Vec<PageRange>>,
    released: Mutex<Vec<PageRange>>,
    out_of_memory: AtomicBool,
    refuses: AtomicBool,
    /// What else happens while pages are released.
    while_releasing: Mutex<Option<OnRelease>>,
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("notes")
    }
}

impl Notes {
    fn released(&self) -> usize {
        lock(&self.released).iter().map(|range| range.pages()).sum()
    }
}

impl Pager for Notes {
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

fn heap_with(pages: usize, options: HeapOptions) -> (Arc<Heap>, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let map = Arc::new(BlockMap::new(pages).unwrap());
    let pager = Arc::clone(&notes) as _;
    (Arc::new(Heap::new(BASE, pages, map, pager, options).unwrap()), notes)
}

fn heap(pages: usize) -> (Arc<Heap>, Arc<Notes>) {
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
fn all_pages_can_be_used_and_come_back() {
    let (heap, _) = heap(1024);
    let whole = layout(1024 * PAGE_SIZE, 1);
    for _ in 0..3 {
        // Small blocks of each lane first, which take regions of their own.
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
fn a_single_region_serves_all_lanes_and_sizes() {
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
fn huge_alignments_are_of_the_address() {
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
fn lanes_share_no_region() {
    let (heap, _) = heap(1 << 16);
    let mut regions = std::collections::HashMap::new();
    for n in 0..3000 {
        for lane in Lane::ALL {
            let block =
                heap.allocate(lane, layout(if n % 9 == 0 { 50_000 } else { 700 }, 8)).unwrap();
            assert_eq!(*regions.entry(block.offset >> 21).or_insert(lane), lane);
        }
    }
    // And freed by whom it may be, a block goes back to its own.
    let mine = layout(700, 8);
    let block = heap.allocate(Lane::Hot, mine).unwrap();
    heap.free(block.offset, mine);
    for _ in 0..3000 {
        let block = heap.allocate(Lane::Default, mine).unwrap();
        assert_eq!(regions.get(&(block.offset >> 21)).copied().unwrap_or_default(), Lane::Default);
    }
}

#[test]
fn an_empty_span_is_forgotten_at_once_and_released_after_a_while() {
    let (heap, notes) = heap(1024);
    let small = layout(8192, 8);
    let blocks: Vec<_> = (0..64).map(|_| offset(&heap, small).unwrap()).collect();
    blocks.iter().for_each(|offset| free(&heap, *offset, small));
    let forgotten: usize = lock(&notes.forgotten).iter().map(|range| range.pages()).sum();
    assert!(forgotten > 0, "some spans are empty, whatever the caches keep");
    assert_eq!(notes.released(), 0);
    let tick = || {
        heap.pass(1);
        heap.tick();
    };
    tick();
    assert_eq!(notes.released(), 0, "not before it has been free for a whole epoch");
    tick();
    assert!(notes.released() >= forgotten);
    heap.check().unwrap();
    heap.trim();
    let stats = heap.report();
    assert_eq!((stats.held_bytes(), stats.free_bytes), (0, 1024 * PAGE_SIZE as u64), "{stats}");
    heap.check().unwrap();
}

#[test]
fn no_more_is_kept_than_may_be() {
    let (heap, notes) = heap_with(4096, HeapOptions { poison: false, most_dirty: 100 });
    let large = layout(300 * PAGE_SIZE, 1);
    let blocks: Vec<_> = (0..10).map(|_| offset(&heap, large).unwrap()).collect();
    blocks.iter().for_each(|offset| free(&heap, *offset, large));
    assert!(heap.report().dirty_bytes <= 100 * PAGE_SIZE as u64, "{}", heap.report());
    assert!(notes.released() >= 2900);
    heap.check().unwrap();
}

#[test]
fn memory_that_cannot_be_released_stays_dirty_and_usable() {
    let (heap, notes) = heap(512);
    let whole = layout(512 * PAGE_SIZE, 1);
    free(&heap, offset(&heap, whole).unwrap(), whole);
    notes.refuses.store(true, Ordering::Relaxed);
    assert_eq!(heap.trim(), 0);
    let block = heap.allocate(Lane::Default, whole).unwrap();
    assert!(!block.clean);
    heap.free(block.offset, whole);
    notes.refuses.store(false, Ordering::Relaxed);
    assert_eq!(heap.trim(), 512 * PAGE_SIZE);
    assert!(heap.allocate(Lane::Default, whole).unwrap().clean);
}

#[test]
fn without_memory_there_is_no_block_and_no_loss() {
    let (heap, notes) = heap(512);
    notes.out_of_memory.store(true, Ordering::Relaxed);
    for size in [100, 30_000, 100_000] {
        assert_eq!(offset(&heap, layout(size, 8)), None);
        heap.check().unwrap();
    }
    notes.out_of_memory.store(false, Ordering::Relaxed);
    assert!(offset(&heap, layout(512 * PAGE_SIZE, 1)).is_some());
}

#[test]
fn runs_grow_and_shrink_where_they_are() {
    let (heap, _) = heap(512);
    let pages = |n: usize| layout(n * PAGE_SIZE - 7, 1);
    let block = offset(&heap, pages(15)).unwrap();
    let grown = heap.grow(block, pages(15), pages(19));
    assert_eq!(grown, Some((PageRange::new(15, 19), true)));
    let other = offset(&heap, pages(13)).unwrap();
    assert_eq!(heap.grow(block, pages(19), pages(20)), None, "somebody lives there");
    assert!(heap.shrink(block, pages(19), pages(10)));
    heap.check().unwrap();
    assert_eq!(heap.grow(block, pages(10), pages(40)), None);
    let grown = heap.grow(block, pages(10), pages(19));
    assert_eq!(grown, Some((PageRange::new(10, 19), false)), "they may hold bytes");
    heap.check().unwrap();
    free(&heap, block, pages(19));
    free(&heap, other, pages(13));
    heap.check().unwrap();
    assert!(offset(&heap, layout(512 * PAGE_SIZE, 1)).is_some());
}

#[test]
fn a_block_grows_beyond_its_region() {
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

#[test]
fn a_thread_gives_back_what_it_kept_when_it_ends() {
    let (heap, _) = heap(4096);
    let small = layout(64, 8);
    let theirs = Arc::clone(&heap);
    thread::spawn(move || {
        let blocks: Vec<_> = (0..1000).map(|_| offset(&theirs, small).unwrap()).collect();
        blocks.iter().for_each(|offset| free(&theirs, *offset, small));
        let stats = theirs.report();
        assert_eq!(stats.live_bytes(), 0);
        assert!(stats.lanes[0].classes[0].cached > 0);
    })
    .join()
    .unwrap();
    heap.check().unwrap();
    assert!(lock(&heap.caches).is_empty());
    heap.trim();
    assert_eq!(heap.report().held_bytes(), 0);
}

#[test]
fn a_thread_keeps_no_more_than_a_mebibyte_in_blocks_of_pages() {
    let (heap, _) = heap(4096);
    for pages in [100, 200, 9, 256, 30, 120, 90, 10, 11, 12, 13, 14, 15, 16, 17, 255, 1] {
        let layout = layout(pages * PAGE_SIZE, if pages < 9 { 8192 } else { 8 });
        let kept = offset(&heap, layout).unwrap();
        free(&heap, kept, layout);
        let stats = heap.report();
        assert!(
            stats.cached_large_bytes >= (pages * PAGE_SIZE) as u64,
            "the last one is kept: {stats}"
        );
        assert!(stats.cached_large_bytes <= 1 << 20, "{stats}");
        heap.check().unwrap();
        if pages >= 9 {
            assert_eq!(offset(&heap, layout), Some(kept), "and used again");
            free(&heap, kept, layout);
        }
    }
    heap.tick();
    assert!(heap.report().cached_large_bytes > 0);
    heap.tick();
    assert_eq!(heap.report().cached_large_bytes, 0, "nobody has asked for them since");
    heap.check().unwrap();
}

#[test]
fn blocks_are_freed_by_other_threads() {
    let (heap, _) = heap(1 << 16);
    let (sender, receiver) = std::sync::mpsc::sync_channel::<(usize, Layout)>(1000);
    thread::scope(|scope| {
        let heap = &heap;
        let producer = scope.spawn(move || {
            for n in 0..50_000 {
                let layout = layout(8 + n % 3000, 8);
                sender.send((offset(heap, layout).unwrap(), layout)).unwrap();
            }
        });
        let consumer = scope.spawn(move || {
            for (offset, layout) in receiver {
                free(heap, offset, layout);
            }
        });
        // The end of the scope does not wait for what the threads do last.
        producer.join().unwrap();
        consumer.join().unwrap();
    });
    heap.check().unwrap();
    assert_eq!(heap.allocated(), 0);
    heap.trim();
    assert_eq!(heap.report().held_bytes(), 0, "{}", heap.report());
}

#[test]
fn another_thread_trims_when_it_next_needs_something() {
    let (heap, _) = heap(4096);
    let small = layout(64, 8);
    let theirs = Arc::clone(&heap);
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let (done, is_done) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        free(&theirs, offset(&theirs, small).unwrap(), small);
        done.send(()).unwrap();
        asked.recv().unwrap();
        // A size of which it has none.
        free(&theirs, offset(&theirs, layout(2000, 8)).unwrap(), layout(2000, 8));
        done.send(()).unwrap();
        asked.recv().unwrap();
    });
    is_done.recv().unwrap();
    heap.trim();
    let cached = || heap.report().lanes[0].classes.iter().find(|c| c.size == 64).map(|c| c.cached);
    assert!(cached().is_some_and(|cached| cached > 0));
    ask.send(()).unwrap();
    is_done.recv().unwrap();
    heap.trim();
    assert_eq!(cached(), None);
    ask.send(()).unwrap();
    thread.join().unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Allocate { lane: Lane, size: usize, shift: u32 },
    Free(u16),
    Resize(u16, usize),
    Tick,
    Trim,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![4 => 1usize..600, 2 => 600usize..40_000, 1 => 40_000usize..400_000];
    let lane = (0..Lane::ALL.len()).prop_map(|lane| Lane::ALL[lane]);
    let shift = prop_oneof![8 => 0u32..5, 1 => 5u32..15];
    let step = prop_oneof![
        8 => (lane, size.clone(), shift).prop_map(|(lane, size, shift)| Step::Allocate { lane, size, shift }),
        7 => any::<u16>().prop_map(Step::Free),
        3 => (any::<u16>(), size).prop_map(|(pick, size)| Step::Resize(pick, size)),
        1 => Just(Step::Tick),
        1 => Just(Step::Trim),
    ];
    proptest::collection::vec(step, 1..400)
}

proptest! {
    /// No two blocks share a byte, whatever comes and goes, and every structure fits the others at
    /// each step.
    #[test]
    fn blocks_never_overlap(steps in steps()) {
        let (heap, notes) = heap_with(1024, HeapOptions { poison: false, most_dirty: 64 });
        let mut live: Vec<(usize, Layout)> = Vec::new();
        for step in steps {
            // Also where there was no room, memory is released; the new block may lie there.
            let only_releases = matches!(step, Step::Tick | Step::Trim);
            lock(&notes.released).clear();
            match step {
                Step::Allocate { lane, size, shift } => {
                    let layout = layout(size, 1 << shift);
                    if let Some(block) = heap.allocate(lane, layout) {
                        heap.watch(block.offset, layout, true);
                        prop_assert!(block.size >= size);
                        prop_assert_eq!(block.size, usable_size(layout));
                        prop_assert_eq!((BASE + block.offset) % (1 << shift), 0);
                        prop_assert!(block.offset + block.size <= 1024 * PAGE_SIZE);
                        live.push((block.offset, layout));
                    }
                }
                Step::Free(pick) if !live.is_empty() => {
                    let (offset, layout) = live.swap_remove(pick as usize % live.len());
                    free(&heap, offset, layout);
                }
                Step::Resize(pick, size) if !live.is_empty() => {
                    let at = pick as usize % live.len();
                    let (offset, old) = live[at];
                    let new = layout(size, old.align());
                    let (was, is) = (usable_size(old), usable_size(new));
                    let fits = same_place(old, new) && match was.cmp(&is) {
                        core::cmp::Ordering::Less => heap.grow(offset, old, new).is_some(),
                        core::cmp::Ordering::Greater => heap.shrink(offset, old, new),
                        core::cmp::Ordering::Equal => true,
                    };
                    if fits {
                        live[at].1 = new;
                    }
                }
                Step::Tick => {
                    heap.pass(1);
                    heap.tick();
                }
                Step::Trim => drop(heap.trim()),
                _ => {}
            }
            if let Err(e) = heap.check() {
                return Err(TestCaseError::fail(e));
            }
            if only_releases {
                for (offset, layout) in &live {
                    let pages = PageRange::touching(*offset, usable_size(*layout));
                    let released = lock(&notes.released);
                    prop_assert!(released.iter().all(|range| range.intersection(pages).is_empty()));
                }
            }
            let mut spans: Vec<_> =
                live.iter().map(|(offset, layout)| (*offset, offset + usable_size(*layout))).collect();
            spans.sort_unstable();
            prop_assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0));
            prop_assert_eq!(heap.allocated(), spans.iter().map(|(start, end)| end - start).sum::<usize>());
        }
        for (offset, layout) in live {
            free(&heap, offset, layout);
        }
        heap.trim();
        prop_assert_eq!(heap.report().free_bytes, 1024 * PAGE_SIZE as u64);
    }
}
