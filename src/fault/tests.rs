//! What touches of stored pages bring along, and what is learnt from it.

use super::fixture::{Fixture, each};
use super::restore::{EmptyPages, RestoreOutcome};
use super::*;
use crate::prim::Tick;

/// Touches a stored page. Checks that just these pages come back.
fn touch(it: &Fixture, page: usize, expected: PageRange) {
    let along = it.resolver.core.counters.readahead_pages.get();
    let before = it.resolver.core.table.resident();
    assert_eq!(it.resolver.resolve(PageIndex(page)), Resolved::Restored);
    assert!(expected.iter().all(|page| it.is_right(page)), "{page}: {expected:?}");
    assert_eq!(
        it.resolver.core.table.resident() - before,
        expected.pages(),
        "{page}: {expected:?}"
    );
    let now_along = it.resolver.core.counters.readahead_pages.get();
    assert_eq!(now_along - along, expected.pages() as u64 - 1, "{page}: {expected:?}");
}

/// How many pages come back with each touch of a run.
fn steps() -> impl Iterator<Item = usize> {
    [1, 1, 2, 4, 8].into_iter().chain(std::iter::repeat(16))
}

/// Touches after which one in sixteen of those that brought something along has come for the second
/// time.
const TOUCHES: usize = 2 + 17;

fn pages_of(touches: usize) -> usize {
    steps().take(touches).sum()
}

/// Touches a run of stored pages upwards or downwards, so that each touch brings more along than the
/// one before.
fn touch_in_a_row(it: &Fixture, run: PageRange, up: bool, touches: usize) {
    let mut left = run;
    for step in steps().take(touches) {
        if up {
            touch(it, left.start.0, PageRange::new(left.start.0, left.start.0 + step));
            left.start.0 += step;
        } else {
            touch(it, left.end.0 - 1, PageRange::new(left.end.0 - step, left.end.0));
            left.end.0 -= step;
        }
    }
}

#[test]
fn touches_in_a_row_bring_more_and_more_along() {
    each("touches_in_a_row", |mut it| {
        for up in [true, false] {
            let run = it.stored(pages_of(10) + 40, 0);
            touch_in_a_row(&it, run, up, 10);
        }
        it.check();
    });
}

#[test]
fn a_run_ends_where_what_is_stored_ends() {
    each("a_run_ends_where_what_is_stored_ends", |mut it| {
        let first = it.stored(5, 0).start.0;
        // Not the page after the gap.
        it.stored(5, 0);
        for (page, pages) in [(0, 1), (1, 1), (2, 2), (4, 1)] {
            touch(&it, first + page, PageRange::new(first + page, first + page + pages));
        }
        it.check();
    });
}

/// No thread touches the pages that come along. So each of them that is watched was brought for nothing.
#[test]
fn what_came_along_is_watched_and_what_was_wasted_is_counted() {
    for up in [true, false] {
        each("what_came_along_is_watched", |mut it| {
            let run = it.stored(pages_of(TOUCHES), 0);
            touch_in_a_row(&it, run, up, TOUCHES - 1);
            assert_eq!(it.resolver.core.counters.readahead_sampled_misses.get(), 0);
            // The first one that brought something along was watched, which is looked at now.
            let step = if up { run.end.0 - 16 } else { run.start.0 + 15 };
            let last = if up { step..step + 16 } else { run.start.0..step + 1 };
            touch(&it, step, PageRange::new(last.start, last.end));
            assert_eq!(it.resolver.core.counters.readahead_sampled_misses.get(), 1, "up: {up}");
            assert_eq!(it.resolver.core.counters.readahead_sampled_hits.get(), 0);
            // And of this one the fifteen pages beside the touched one are watched.
            let watched = it.resolver.readahead.take_sample(it.resolver.core.table.now()).unwrap();
            let beside = if up { last.start + 1..last.end } else { last.start..last.end - 1 };
            assert_eq!(watched, PageRange::new(beside.start, beside.end));
        });
    }
}

#[test]
fn what_came_along_and_was_touched_is_counted_as_wanted() {
    each("what_came_along_and_was_touched", |mut it| {
        let run = it.stored(pages_of(TOUCHES + 16), 0);
        touch_in_a_row(&it, run, true, TOUCHES);
        // The fifteen pages that came along last are watched.
        let last = PageIndex(run.start.0 + pages_of(TOUCHES) - 16);
        for i in [1, 4, 5, 15] {
            it.read(PageIndex(last.0 + i));
        }
        let rest = PageRange::new(run.start.0 + pages_of(TOUCHES), run.end.0);
        for chunk in rest.chunks(16) {
            touch(&it, chunk.start.0, chunk);
        }
        assert_eq!(it.resolver.core.counters.readahead_sampled_hits.get(), 4);
        assert_eq!(it.resolver.core.counters.readahead_sampled_misses.get(), 1 + 11);
    });
}

#[test]
fn a_sample_of_another_tick_says_nothing() {
    each("a_sample_of_another_tick", |mut it| {
        let run = it.stored(pages_of(TOUCHES), 0);
        touch_in_a_row(&it, run, true, TOUCHES - 1);
        it.resolver.core.table.set_now(Tick::new(1));
        touch(&it, run.end.0 - 16, PageRange::new(run.end.0 - 16, run.end.0));
        assert_eq!(it.resolver.core.counters.readahead_sampled_misses.get(), 0);
    });
}

/// Pages of a run of which the kernel takes not all.
const RUN: usize = 5;

/// The memory of one page is not registered any more, so that the kernel refuses to put it in place.
#[test]
fn what_the_kernel_does_not_take_stays_stored_but_for_the_touched_page() {
    each("what_the_kernel_does_not_take", |mut it| {
        for (gone, touched) in (0..RUN).flat_map(|gone| (0..RUN).map(move |i| (gone, i))) {
            let run = it.stored(RUN, 0);
            let [gone, page] = [gone, touched].map(|i| PageIndex(run.start.0 + i));
            it.resolver.core.backing.map_inaccessible(gone);
            let (resolved, there) = it.restore_within(run, page);
            let case = format!("{page:?} of {run:?} without {gone:?}");
            let expected = match page.cmp(&gone) {
                std::cmp::Ordering::Less => (Resolved::Restored, PageRange { end: gone, ..run }),
                std::cmp::Ordering::Equal => (Resolved::Lost, page.only()),
                std::cmp::Ordering::Greater => (Resolved::Restored, page.only()),
            };
            assert_eq!((resolved, there), expected, "{case}");
            for other in run.iter() {
                let came = other < gone || other == page && page != gone;
                assert_eq!(it.is_right(other), came, "{case}: {other:?}");
                let lost = other == page && page == gone;
                let state = if lost { State::Lost } else { State::Stored };
                assert!(came || it.state(other) == state, "{case}: {other:?}");
            }
        }
        it.check();
    });
}

#[test]
fn a_range_comes_back_up_to_what_the_kernel_does_not_take() {
    each("a_range_comes_back_up_to", |mut it| {
        let run = it.stored(40, 0);
        let gone = PageIndex(run.start.0 + 20);
        it.resolver.core.backing.map_inaccessible(gone);
        assert!(matches!(it.resolver.restore(run, EmptyPages::Leave), Err(FillError::Sys(_))));
        for page in run.iter() {
            assert_eq!(it.is_right(page), page < gone, "{page:?}");
            assert_eq!(it.state(page) == State::Stored, page >= gone, "{page:?}");
        }
        it.check();
    });
}

#[test]
fn pages_that_were_never_written_get_memory_only_where_that_is_asked_for() {
    each("pages_that_were_never_written", |mut it| {
        let first = it.stored(3, 0).start;
        // After a page that was never written.
        let beyond = PageRange::new(first.0, it.stored(3, 0).end.0 + 20);
        let gap = PageIndex(first.0 + 3);
        let brought = it.resolver.restore(beyond, EmptyPages::Leave).unwrap();
        assert_eq!(brought, RestoreOutcome { restored: 6, lost: 0 });
        assert_eq!((it.resolver.core.table.resident(), it.state(gap)), (6, State::Empty));
        let again = it.resolver.restore(beyond, EmptyPages::Populate).unwrap();
        assert_eq!(again, RestoreOutcome::default());
        assert_eq!(it.resolver.core.table.resident(), beyond.pages());
        assert!(beyond.iter().skip(7).all(|page| it.read(page) == 0));
        assert_eq!(it.read(gap), 0);
        assert_eq!(it.resolver.core.table.extent().end, beyond.end);
        it.check();
    });
}

#[test]
fn pages_in_memory_count_as_touched_and_those_on_their_way_out_are_taken_back() {
    each("pages_in_memory_count_as_touched", |mut it| {
        let run = it.stored(3, 0);
        it.resolver.restore(run, EmptyPages::Leave).unwrap();
        it.resolver.core.table.set_now(Tick::new(9));
        let claimed = PageIndex(run.start.0 + 1);
        it.resolver.core.table.claim(claimed, it.resolver.core.table.load(claimed)).unwrap();
        assert_eq!(it.resolver.restore(run, EmptyPages::Leave).unwrap(), RestoreOutcome::default());
        assert!(run.iter().all(|page| it.resolver.core.table.load(page).tick() == Tick::new(9)));
        assert_eq!(it.state(claimed), State::Resident);
        assert_eq!(it.resolver.core.counters.evictions_cancelled.get(), 1);
        assert_eq!(it.resolver.core.counters.protection_faults.get(), 0);
        // The same for a touch, and for one of a page that only seems to be protected.
        it.resolver.core.table.leave_batch(claimed, |word| word);
        it.resolver.core.table.claim(claimed, it.resolver.core.table.load(claimed)).unwrap();
        assert_eq!(it.resolver.resolve(claimed), Resolved::TakenBack);
        assert_eq!(it.resolver.resolve(run.start), Resolved::Unprotected);
        assert_eq!(it.resolver.core.counters.evictions_cancelled.get(), 2);
        assert_eq!(it.resolver.core.counters.protection_faults.get(), 1);
    });
}

/// The last look at bytes before the kernel gets them.
#[test]
fn bytes_that_are_not_at_their_pages_place_are_found() {
    each("bytes_that_are_not_at_their_pages_place", |mut it| {
        let run = it.stored(2, 0);
        let [first, second] = [0, 1].map(|i| PageIndex(run.start.0 + i));
        let word = |page| it.resolver.core.table.load(page);
        it.resolver.scratches.with(|scratch| {
            scratch.begin(second);
            scratch.push_above(word(second));
            assert!(scratch.decode(second, &it.resolver.core.store));
            assert!(scratch.matches_store(second.only(), &it.resolver.core.store));
            // Too late: the bytes are where those of the page below belong now.
            scratch.push_below(word(first));
            assert_eq!(scratch.run(), run);
            assert!(!scratch.matches_store(first.only(), &it.resolver.core.store));
            assert!(scratch.decode(first, &it.resolver.core.store));
            assert!(!scratch.matches_store(run, &it.resolver.core.store));
            assert!(scratch.decode(second, &it.resolver.core.store));
            assert!(scratch.matches_store(run, &it.resolver.core.store));
        });
    });
}

#[test]
fn fault_modes_have_names() {
    let modes = [FaultMode::Auto, FaultMode::Handler, FaultMode::Inline];
    assert_eq!(modes.map(|mode| mode.to_string()), ["auto", "handler", "inline"]);
}
