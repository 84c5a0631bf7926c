//! Damaged pages at every place of a run: an intact page gets its own bytes, a damaged one gets none.

use super::fixture::{Fixture, bytes_of, each, is_damaged};
use super::restore::{EmptyPages, RestoreOutcome};
use super::*;
use crate::prim::PAGE_SIZE;

/// Pages of the run, which is tested with every combination of damaged pages.
const RUN: usize = 5;

/// The pages of the run that are restored with `touched`: those up to the next damaged one.
fn expected(damaged: usize, touched: usize) -> std::ops::Range<usize> {
    let start = (0..touched).rev().find(|&i| is_damaged(damaged, i)).map_or(0, |i| i + 1);
    let end = (touched..RUN).find(|&i| is_damaged(damaged, i)).unwrap_or(RUN);
    start..end
}

#[test]
fn a_refault_restores_the_pages_own_bytes_next_to_damaged_pages() {
    each("a_refault_restores_the_pages_own_bytes", |mut it| {
        for (damaged, touched) in (0..1 << RUN).flat_map(|set| (0..RUN).map(move |i| (set, i))) {
            let run = it.stored(RUN, damaged);
            let page = PageIndex(run.start.0 + touched);
            let (resolved, in_place) = it.restore_within(run, page);
            let case = format!("{touched} of {damaged:b}");
            if is_damaged(damaged, touched) {
                assert_eq!(resolved, Resolved::Lost, "{case}");
                assert_eq!((in_place, it.state(page)), (page.only(), State::Lost), "{case}");
                let mut others = run.iter().filter(|other| *other != page);
                assert!(others.all(|other| it.state(other) == State::Stored), "{case}");
                continue;
            }
            let good = expected(damaged, touched);
            let good = PageRange::new(run.start.0 + good.start, run.start.0 + good.end);
            assert_eq!((resolved, in_place), (Resolved::Restored, good), "{case}");
            for other in run.iter() {
                let restored = good.start <= other && other < good.end;
                assert_eq!(it.has_its_bytes(other), restored, "{case}: {other:?}");
                assert_eq!(it.state(other) == State::Stored, !restored, "{case}: {other:?}");
                assert!(restored || it.reads_as_zeros(other), "{case}: {other:?}");
            }
        }
        it.check();
    });
}

fn assert_restores(it: &mut Fixture, pages: usize, damaged: usize, empty: EmptyPages) {
    let run = it.stored(pages, damaged);
    let lost = (0..pages).filter(|&i| is_damaged(damaged, i)).count();
    let outcome = it.resolver.restore(run, empty).unwrap();
    assert_eq!(outcome, RestoreOutcome { restored: pages - lost, lost }, "{damaged:b}");
    for (i, page) in run.iter().enumerate() {
        if is_damaged(damaged, i) {
            assert_eq!(it.state(page), State::Lost, "{damaged:b}: {page:?}");
            assert!(it.reads_as_zeros(page), "{damaged:b}: {page:?}");
        } else {
            assert!(it.has_its_bytes(page), "{damaged:b}: {page:?}");
        }
    }
}

#[test]
fn restore_gives_each_intact_page_of_a_range_its_own_bytes() {
    each("restore_gives_each_intact_page", |mut it| {
        for damaged in 0..1 << RUN {
            assert_restores(&mut it, RUN, damaged, EmptyPages::Leave);
            assert_restores(&mut it, RUN, damaged, EmptyPages::Populate);
        }
        // More pages than one call restores, with damage where one call ends and the next begins.
        for damaged in [1, 1 << 15, 1 << 16, 1 << 17, 3 << 15, 1 << 15 | 1 << 31, 1 << 39] {
            assert_restores(&mut it, 40, damaged, EmptyPages::Leave);
        }
        it.check();
    });
}

#[test]
fn peek_reads_the_pages_own_bytes_next_to_damaged_pages() {
    each("peek_reads_the_pages_own_bytes", |mut it| {
        for damaged in 0..1 << RUN {
            let run = it.stored(RUN, damaged);
            for (i, page) in run.iter().enumerate() {
                let mut bytes = [0; PAGE_SIZE];
                let peeked = it.resolver.peek(page, 8..PAGE_SIZE, &mut bytes);
                if is_damaged(damaged, i) {
                    assert_eq!((peeked, it.state(page)), (Peeked::Lost, State::Lost));
                    assert_eq!(bytes, [0; PAGE_SIZE], "bytes of a damaged page");
                } else {
                    assert_eq!((peeked, it.state(page)), (Peeked::Stored, State::Stored));
                    assert_eq!(bytes[..PAGE_SIZE - 8], bytes_of(page)[8..]);
                }
            }
        }
        it.check();
    });
}

/// The store's part of the last check before the kernel gets a page's bytes.
#[test]
fn is_copy_rejects_the_bytes_of_another_page() {
    each("is_copy_rejects_the_bytes_of_another_page", |mut it| {
        let run = it.stored(2, 0);
        let Core { table, store, .. } = &*it.resolver.core;
        for (page, other) in [(run.start, PageIndex(2)), (PageIndex(2), run.start)] {
            let handle = table.load(page).handle();
            assert!(store.is_copy(handle, page.0 as u64, &bytes_of(page)));
            assert!(!store.is_copy(handle, page.0 as u64, &bytes_of(other)));
            assert!(!store.is_copy(handle, other.0 as u64, &bytes_of(page)));
        }
    });
}
