//! Random programs of one thread.

use super::*;
use proptest::prelude::*;

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
    /// After each step no two blocks share a byte and all structures agree.
    #[test]
    fn blocks_never_overlap(steps in steps()) {
        let (heap, pager) = heap_with(1024, HeapOptions { poison: false, most_dirty: 64 });
        let mut live: Vec<(usize, Layout)> = Vec::new();
        for step in steps {
            // An allocation that finds no room releases memory too, and the new block may lie there.
            let only_releases = matches!(step, Step::Tick | Step::Trim);
            lock(&pager.released).clear();
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
                    let released = lock(&pager.released);
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
