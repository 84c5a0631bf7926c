//! Holes: pages without a live byte in spans that are in use.

use super::*;
use crate::alloc::bin::magazine_limit;
use crate::alloc::classes::class;
use std::collections::HashSet;

/// Pages that freed blocks reach into and live blocks do not.
fn pages_without_live(freed: &[usize], live: &[usize], size: usize) -> HashSet<usize> {
    let pages = |offsets: &[usize]| -> HashSet<usize> {
        let pages = offsets.iter().flat_map(|offset| PageRange::touching(*offset, size).iter());
        pages.map(|page| page.0).collect()
    };
    &pages(freed) - &pages(live)
}

/// Allocates blocks and frees all but every `nth`. Returns the live and the freed ones.
fn fragment(heap: &Arc<Heap>, count: usize, size: usize, nth: usize) -> (Vec<usize>, Vec<usize>) {
    let blocks: Vec<_> = (0..count).map(|_| offset(heap, layout(size, 8)).unwrap()).collect();
    let (mut live, mut freed) = (Vec::new(), Vec::new());
    for (n, offset) in blocks.into_iter().enumerate() {
        if n % nth == 0 { &mut live } else { &mut freed }.push(offset);
    }
    freed.iter().for_each(|offset| free(heap, *offset, layout(size, 8)));
    (live, freed)
}

#[test]
fn trim_releases_each_page_without_a_live_byte_once() {
    for size in [8, 64, 200, 600, 1000, 3000, 5000, 20_000] {
        let (heap, pager) = heap(1 << 14);
        let (live, freed) = fragment(&heap, 40_000_000 / size.max(2000), size, 17 + 20_000 / size);
        let released = heap.trim();
        let pages: Vec<_> = lock(&pager.released).iter().flat_map(|range| range.iter()).collect();
        let distinct: HashSet<_> = pages.iter().map(|page| page.0).collect();
        assert_eq!((pages.len(), released), (distinct.len(), distinct.len() * PAGE_SIZE), "{size}");
        let expected = pages_without_live(&freed, &live, usable_size(layout(size, 8)));
        assert!(expected.is_subset(&distinct), "{size}");
        let mut kept = live.iter().flat_map(|offset| PageRange::touching(*offset, size).iter());
        assert!(kept.all(|page| !distinct.contains(&page.0)), "{size}: a live byte is lost");
        heap.check().unwrap();
        assert_eq!((heap.trim(), heap.report().hole_bytes()), (0, 0), "{size}: no hole is left");
        live.into_iter().for_each(|offset| free(&heap, offset, layout(size, 8)));
        heap.trim();
        assert_eq!(heap.report().held_bytes(), 0, "{size}");
        heap.check().unwrap();
    }
}

#[test]
fn statistics_count_holes_and_held_bytes_shrink_by_them_on_trim() {
    let (heap, pager) = heap(1 << 12);
    fragment(&heap, 4000, 1000, 40);
    let before = heap.report();
    assert!(before.hole_bytes() > 1 << 20, "{before}");
    assert_eq!(heap.allocated_and_holes(), (before.live_bytes(), before.hole_bytes()));
    heap.trim();
    let after = heap.report();
    assert_eq!((after.hole_bytes(), after.live_bytes()), (0, before.live_bytes()), "{after}");
    let released: u64 = after.lanes[0].classes.iter().map(|class| class.released_bytes).sum();
    assert!(
        released >= before.hole_bytes() && pager.released() as u64 >= before.hole_bytes() >> 12
    );
    assert!(after.held_bytes() <= before.held_bytes() - before.hole_bytes(), "{before}{after}");
    assert!(after.fragmentation() < before.fragmentation());
}

#[test]
fn released_pages_are_populated_when_their_slots_are_allocated_again() {
    for size in [8, 200, 1000, 3000, 12_000] {
        let (heap, pager) = heap(1 << 12);
        let (mut live, _) = fragment(&heap, 6_000_000 / size.max(1000), size, 20 + 20_000 / size);
        heap.trim();
        let mut empty: HashSet<_> = lock(&pager.released)
            .iter()
            .flat_map(|range| range.iter().map(|page| page.0))
            .collect();
        assert!(!empty.is_empty());
        lock(&pager.populated).clear();
        for _ in 0..10_000_000 / size.max(1000) {
            let block = offset(&heap, layout(size, 8)).unwrap();
            for range in lock(&pager.populated).drain(..) {
                range.iter().for_each(|page| _ = empty.remove(&page.0));
            }
            let mut pages = PageRange::touching(block, size).iter();
            assert!(pages.all(|page| !empty.contains(&page.0)), "{size}: a touch would fault");
            live.push(block);
        }
        heap.check().unwrap();
        let distinct: HashSet<_> = live.iter().collect();
        assert_eq!(distinct.len(), live.len());
        live.into_iter().for_each(|offset| free(&heap, offset, layout(size, 8)));
        heap.check().unwrap();
    }
}

#[test]
fn ticks_release_holes_of_spans_without_an_allocation_since_the_last_sweep() {
    let (heap, pager) = heap(1 << 12);
    let (_, freed) = fragment(&heap, 4000, 1000, 40);
    heap.tick();
    assert_eq!(pager.released(), 0, "it is still the first epoch");
    for n in 1..=2 {
        heap.pass(1);
        heap.tick();
        heap.check().unwrap();
        assert_eq!(pager.released() == 0, n == 1, "the first sweep finds all spans active");
    }
    // The spans count the slots that the thread caches as used.
    let kept = magazine_limit(class(class_of(layout(1000, 8)).unwrap()));
    assert!(pager.released() >= freed.len() / 5 - 2 * kept, "{}", heap.report());
    let before = pager.released();
    heap.pass(1);
    heap.tick();
    assert_eq!(pager.released(), before, "no page is released twice");
    assert_eq!(heap.report().hole_bytes(), 0);
}

#[test]
fn a_tick_is_bounded_and_the_sweep_continues_where_it_stopped() {
    let (heap, pager) = heap(1 << 16);
    fragment(&heap, 200_000, 1000, 40);
    heap.pass(1);
    while heap.tick() {}
    heap.pass(1);
    let (mut steps, mut before) = (0, 0);
    let mut more = heap.tick();
    while more {
        let released = pager.released();
        assert!(released > before && released - before < 3000, "{released} pages after {before}");
        (before, steps) = (released, steps + 1);
        more = heap.sweep();
        heap.check().unwrap();
    }
    assert!(steps > 5, "{steps} steps");
    assert_eq!(heap.report().hole_bytes(), 0, "{}", heap.report());
    assert!(!heap.sweep());
}

#[test]
fn holes_whose_release_fails_stay_holes_and_are_released_later() {
    let (heap, pager) = heap(1 << 12);
    let (live, _) = fragment(&heap, 4000, 1000, 40);
    pager.refuses.store(true, Ordering::Relaxed);
    assert_eq!(heap.trim(), 0);
    heap.check().unwrap();
    let holes = heap.report().hole_bytes();
    assert!(holes > 1 << 20, "{}", heap.report());
    pager.refuses.store(false, Ordering::Relaxed);
    assert!(heap.trim() as u64 >= holes);
    heap.check().unwrap();
    live.into_iter().for_each(|offset| free(&heap, offset, layout(1000, 8)));
    heap.check().unwrap();
}

/// During the pager call other threads may free the span's last blocks, and allocate new ones.
#[test]
fn a_span_may_become_empty_while_its_holes_are_released() {
    for size in [1000, 20_000] {
        let (heap, pager) = heap(1 << 12);
        let (live, _) = fragment(&heap, 2_000_000 / size, size, 20);
        let (theirs, seen) = (Arc::clone(&heap), Arc::new(Mutex::new(HashSet::new())));
        let (live, known) = (Mutex::new(live), Arc::clone(&seen));
        let holes = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&holes);
        *lock(&pager.while_releasing) = Some(Box::new(move |range: PageRange| {
            let freed: Vec<_> = lock(&live).drain(..).collect();
            freed.into_iter().for_each(|offset| free(&theirs, offset, layout(size, 8)));
            // A free run is in no list while the pager releases it, so the check would fail.
            if theirs.bin_at(range.start.offset()).is_some() {
                theirs.check().unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
            }
            let block = offset(&theirs, layout(size, 8)).unwrap();
            let taken = PageRange::touching(block, size);
            assert!(taken.intersection(range).is_empty(), "{taken:?} of {range:?}");
            assert!(lock(&known).insert(block), "allocated twice");
        }));
        heap.trim();
        *lock(&pager.while_releasing) = None;
        heap.check().unwrap();
        let blocks = core::mem::take(&mut *lock(&seen));
        assert!(holes.load(Ordering::Relaxed) > 0 && !blocks.is_empty());
        blocks.into_iter().for_each(|offset| free(&heap, offset, layout(size, 8)));
        heap.trim();
        assert_eq!(heap.report().held_bytes(), 0, "{}", heap.report());
        heap.check().unwrap();
    }
}
