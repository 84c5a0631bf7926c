//! Readahead: a fault restores neighbours of the touched page if the program is likely to touch them.

#![allow(missing_docs)]

mod common;

use common::pages::{PAGE_BYTES, Pages, evict};
use common::{SetOnDrop, quiet, scaled, setups};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use thermocline::{Arena, Stats};

/// The number of pages.
fn count() -> usize {
    scaled(20_000, 2_400)
}

fn evicted(arena: &Arena) -> Pages<'_> {
    let pages = Pages::filled(arena, count());
    evict(arena, count());
    pages
}

/// The numbers below `bound`, each once, in random order.
fn shuffled(bound: usize) -> impl Iterator<Item = usize> {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let mut numbers: Vec<usize> = (0..bound).collect();
    for i in (1..bound).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        numbers.swap(i, (state % (i as u64 + 1)) as usize);
    }
    numbers.into_iter()
}

/// Pages that faults restored between two readings of the figures.
struct Since {
    /// Pages that were touched.
    faults: usize,
    /// Neighbours that came back with them.
    brought: usize,
}

/// Touches pages in this order, checks them, and returns the counts.
fn touch(pages: Pages<'_>, order: impl Iterator<Item = usize>) -> Since {
    let before = pages.arena.stats();
    order.for_each(|page| assert!(pages.is_right(page), "page {page}"));
    // A handler thread counts a moment after it woke the faulting thread.
    pages.arena.check().unwrap();
    let after = pages.arena.stats();
    let all = |stats: &Stats| stats.refaults + stats.readahead_pages;
    assert_eq!(after.stored_bytes, before.stored_bytes - (all(&after) - all(&before)) * PAGE_BYTES);
    let faults = (after.refaults - before.refaults) as usize;
    Since { faults, brought: (after.readahead_pages - before.readahead_pages) as usize }
}

#[test]
fn sequential_reads_fault_on_few_pages() {
    for setup in setups("sequential_reads_fault_on_few_pages") {
        let arena = quiet(setup).build().unwrap();
        let pages = evicted(&arena);
        for backwards in [false, true] {
            let order = (0..count()).map(|i| if backwards { count() - 1 - i } else { i });
            let since = touch(pages, order);
            assert_eq!(since.faults + since.brought, count(), "{setup}");
            assert!(
                since.faults < count() / 8,
                "{setup}: {} faults\n{}",
                since.faults,
                arena.stats()
            );
            evict(&arena, count());
        }
    }
}

#[test]
fn touches_of_clusters_fault_on_few_pages() {
    const CLUSTER: usize = 16;
    for setup in setups("touches_of_clusters_fault_on_few_pages") {
        let arena = quiet(setup).build().unwrap();
        let pages = evicted(&arena);
        let clusters = shuffled(count() / CLUSTER);
        let order = clusters.flat_map(|cluster| (0..CLUSTER).map(move |i| cluster * CLUSTER + i));
        let since = touch(pages, order);
        assert_eq!(since.faults + since.brought, count(), "{setup}");
        assert!(since.faults < count() / 4, "{setup}: {} faults\n{}", since.faults, arena.stats());
    }
}

#[test]
fn random_touches_cause_little_readahead() {
    for setup in setups("random_touches_cause_little_readahead") {
        let arena = quiet(setup).build().unwrap();
        let pages = evicted(&arena);
        // A tenth of the pages, so that few of them are neighbours.
        let touched: Vec<usize> = shuffled(count()).take(count() / 10).collect();
        let since = touch(pages, touched.iter().copied());
        assert!(since.brought * 20 < touched.len(), "{setup}: {}", arena.stats());
        assert!(since.faults * 20 > touched.len() * 19, "{setup}: {}", arena.stats());
        // The history of earlier faults makes no difference.
        let rest: BTreeSet<usize> = touched.into_iter().collect();
        arena.prefetch(pages.range()).unwrap();
        evict(&arena, count());
        let later = shuffled(count()).filter(|page| !rest.contains(page)).take(count() / 10);
        let since = touch(pages, later);
        assert!(since.brought * 20 < count() / 10, "{setup}: {}", arena.stats());
    }
}

/// Two pages, then a gap: the second touch looks like the beginning of a sequence.
#[test]
fn readahead_after_pairs_wastes_a_bounded_share() {
    const GAP: usize = 20;
    for setup in setups("readahead_after_pairs_wastes_a_bounded_share") {
        let arena = quiet(setup).build().unwrap();
        let pages = evicted(&arena);
        for _ in 0..3 {
            let pairs = shuffled(count() / GAP);
            let order = pairs.flat_map(|pair| [pair * GAP, pair * GAP + 1]);
            let since = touch(pages, order);
            let wanted = count() / GAP * 2;
            let wasted = since.faults + since.brought - wanted;
            assert!(wasted * 4 < wanted, "{setup}: {wasted} of {wanted}\n{}", arena.stats());
            arena.prefetch(pages.range()).unwrap();
            evict(&arena, count());
        }
        let stats = arena.stats();
        assert!(stats.readahead_sampled_misses <= stats.readahead_pages, "{setup}: {stats}");
    }
}

/// The history of random touches must not stop readahead for a later sequence.
#[test]
fn readahead_resumes_after_a_phase_of_random_touches() {
    for setup in setups("readahead_resumes_after_a_phase_of_random_touches") {
        let arena = quiet(setup).build().unwrap();
        let pages = evicted(&arena);
        for _ in 0..2 {
            touch(pages, shuffled(count() / 2).filter(|page| page % 5 == 0));
            // Beyond the readahead of the last random touch.
            let first = count() / 2 + 32;
            let since = touch(pages, first..count());
            assert_eq!(since.faults + since.brought, count() - first, "{setup}");
            assert!(since.faults < count() / 12, "{setup}: {}", arena.stats());
            arena.prefetch(pages.range()).unwrap();
            evict(&arena, count());
        }
    }
}

#[test]
fn readahead_restores_the_right_bytes_under_zeal() {
    for setup in setups("readahead_restores_the_right_bytes_under_zeal") {
        let interval = Duration::from_millis(1);
        let arena =
            quiet(setup).scan_interval(interval).cold_age(interval).zeal(true).build().unwrap();
        let pages = Pages::filled(&arena, 2000);
        let (over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for number in 0..4usize {
                let (over, rounds) = (&over, &rounds);
                scope.spawn(move || {
                    // Two threads go up and two go down, from different places, over the same pages.
                    let mut round = 0u64;
                    while !over.load(Ordering::Relaxed) {
                        round += 1;
                        for i in 0..2000 {
                            let i = if number % 2 == 0 { i } else { 1999 - i };
                            let page = (i + number * 700) % 2000;
                            assert!(pages.is_right(page), "{setup}, page {page}");
                            // Each word has one writer.
                            if page % 4 == number {
                                let word = 10 + number;
                                assert_eq!(pages.read(page, word), round - 1, "{setup}");
                                pages.write(page, word, round);
                            }
                        }
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let _over = SetOnDrop(&over);
            let enough = scaled(20_000, 500);
            // Under emulation the threads touch nearly every page before the evictor is done with it, so a
            // minute ends the test at the small scale.
            let end = scaled(None, Some(Instant::now() + Duration::from_secs(60)));
            let is_over = || end.is_some_and(|end| Instant::now() > end);
            while !is_over()
                && (arena.stats().readahead_pages < enough || rounds.load(Ordering::Relaxed) < 8)
            {
                thread::sleep(interval);
            }
            let stats = arena.stats();
            assert!(stats.readahead_pages > 0, "{setup}: {stats}");
        });
        pages.verify();
        assert_eq!(arena.stats().lost_bytes, 0);
        arena.check().unwrap();
    }
}
