//! The readahead of refaults and its samples; restoring ranges.

use super::fixture::{Fixture, each};
use super::restore::{EmptyPages, RestoreOutcome};
use super::*;
use crate::prim::Tick;

/// Touches a stored page. Asserts that this restores exactly the pages of `expected`.
fn touch(it: &Fixture, page: usize, expected: PageRange) {
    let readahead_before = it.resolver.core.counters.readahead_pages.get();
    let before = it.resolver.core.table.resident();
    assert_eq!(it.resolver.resolve(PageIndex(page)), Resolved::Restored);
    assert!(expected.iter().all(|page| it.has_its_bytes(page)), "{page}: {expected:?}");
    assert_eq!(
        it.resolver.core.table.resident() - before,
        expected.pages(),
        "{page}: {expected:?}"
    );
    let readahead = it.resolver.core.counters.readahead_pages.get() - readahead_before;
    assert_eq!(readahead, expected.pages() as u64 - 1, "{page}: {expected:?}");
}

/// How many pages each touch of a stream restores.
fn steps() -> impl Iterator<Item = usize> {
    [1, 1, 2, 4, 8].into_iter().chain(std::iter::repeat(16))
}

/// Touches of a stream up to the second sample: two without readahead, and one more than a sample interval.
const TOUCHES: usize = 2 + 17;

fn pages_of(touches: usize) -> usize {
    steps().take(touches).sum()
}

/// Touches a run of stored pages as a stream, upwards or downwards. Asserts the window of each touch.
fn touch_as_a_stream(it: &Fixture, run: PageRange, up: bool, touches: usize) {
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
fn the_window_of_a_stream_doubles() {
    each("the_window_of_a_stream_doubles", |mut it| {
        for up in [true, false] {
            let run = it.stored(pages_of(10) + 40, 0);
            touch_as_a_stream(&it, run, up, 10);
        }
        it.check();
    });
}

#[test]
fn readahead_ends_at_a_page_that_is_not_stored() {
    each("readahead_ends_at_a_page_that_is_not_stored", |mut it| {
        let first = it.stored(5, 0).start.0;
        // Stored pages after a gap of one page.
        it.stored(5, 0);
        for (page, pages) in [(0, 1), (1, 1), (2, 2), (4, 1)] {
            touch(&it, first + page, PageRange::new(first + page, first + page + pages));
        }
        it.check();
    });
}

/// No thread touches the readahead pages. So each page of a sample is a miss.
#[test]
fn untouched_pages_of_a_sample_count_as_misses() {
    for up in [true, false] {
        each("untouched_pages_of_a_sample_count_as_misses", |mut it| {
            let run = it.stored(pages_of(TOUCHES), 0);
            touch_as_a_stream(&it, run, up, TOUCHES - 1);
            assert_eq!(it.resolver.core.counters.readahead_sampled_misses.get(), 0);
            // The first touch with readahead made a sample of one page. This touch scans it.
            let step = if up { run.end.0 - 16 } else { run.start.0 + 15 };
            let last = if up { step..step + 16 } else { run.start.0..step + 1 };
            touch(&it, step, PageRange::new(last.start, last.end));
            assert_eq!(it.resolver.core.counters.readahead_sampled_misses.get(), 1, "up: {up}");
            assert_eq!(it.resolver.core.counters.readahead_sampled_hits.get(), 0);
            // It makes a sample of the fifteen pages beside the touched one.
            let sample = it.resolver.readahead.take_sample(it.resolver.core.table.now()).unwrap();
            let beside = if up { last.start + 1..last.end } else { last.start..last.end - 1 };
            assert_eq!(sample, PageRange::new(beside.start, beside.end));
        });
    }
}

#[test]
fn touched_pages_of_a_sample_count_as_hits() {
    each("touched_pages_of_a_sample_count_as_hits", |mut it| {
        let run = it.stored(pages_of(TOUCHES + 16), 0);
        touch_as_a_stream(&it, run, true, TOUCHES);
        // The last fifteen readahead pages are the sample.
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
fn a_sample_of_an_earlier_tick_is_not_counted() {
    each("a_sample_of_an_earlier_tick_is_not_counted", |mut it| {
        let run = it.stored(pages_of(TOUCHES), 0);
        touch_as_a_stream(&it, run, true, TOUCHES - 1);
        it.resolver.core.table.set_now(Tick::new(1));
        touch(&it, run.end.0 - 16, PageRange::new(run.end.0 - 16, run.end.0));
        assert_eq!(it.resolver.core.counters.readahead_sampled_misses.get(), 0);
    });
}

/// Pages of a run of which the kernel refuses one.
const RUN: usize = 5;

/// The memory of one page is not registered any more, so the kernel refuses to put the page in place.
#[test]
fn a_page_that_the_kernel_refuses_stays_stored_unless_it_was_touched() {
    each("a_page_that_the_kernel_refuses_stays_stored", |mut it| {
        for (refused, touched) in (0..RUN).flat_map(|refused| (0..RUN).map(move |i| (refused, i))) {
            let run = it.stored(RUN, 0);
            let [refused, page] = [refused, touched].map(|i| PageIndex(run.start.0 + i));
            it.resolver.core.backing.map_inaccessible(refused);
            let (resolved, in_place) = it.restore_within(run, page);
            let case = format!("{page:?} of {run:?}, {refused:?} is refused");
            let expected = match page.cmp(&refused) {
                std::cmp::Ordering::Less => (Resolved::Restored, PageRange { end: refused, ..run }),
                std::cmp::Ordering::Equal => (Resolved::Lost, page.only()),
                std::cmp::Ordering::Greater => (Resolved::Restored, page.only()),
            };
            assert_eq!((resolved, in_place), expected, "{case}");
            for other in run.iter() {
                let restored = other < refused || other == page && page != refused;
                assert_eq!(it.has_its_bytes(other), restored, "{case}: {other:?}");
                let lost = other == page && page == refused;
                let state = if lost { State::Lost } else { State::Stored };
                assert!(restored || it.state(other) == state, "{case}: {other:?}");
            }
        }
        it.check();
    });
}

#[test]
fn restore_stops_at_a_page_that_the_kernel_refuses() {
    each("restore_stops_at_a_page_that_the_kernel_refuses", |mut it| {
        let run = it.stored(40, 0);
        let refused = PageIndex(run.start.0 + 20);
        it.resolver.core.backing.map_inaccessible(refused);
        assert!(matches!(it.resolver.restore(run, EmptyPages::Leave), Err(FillError::Sys(_))));
        for page in run.iter() {
            assert_eq!(it.has_its_bytes(page), page < refused, "{page:?}");
            assert_eq!(it.state(page) == State::Stored, page >= refused, "{page:?}");
        }
        it.check();
    });
}

#[test]
fn restore_populates_empty_pages_only_on_request() {
    each("restore_populates_empty_pages_only_on_request", |mut it| {
        let first = it.stored(3, 0).start;
        // Two stored runs with an empty page between them, and empty pages behind them.
        let range = PageRange::new(first.0, it.stored(3, 0).end.0 + 20);
        let gap = PageIndex(first.0 + 3);
        let outcome = it.resolver.restore(range, EmptyPages::Leave).unwrap();
        assert_eq!(outcome, RestoreOutcome { restored: 6, lost: 0 });
        assert_eq!((it.resolver.core.table.resident(), it.state(gap)), (6, State::Empty));
        let again = it.resolver.restore(range, EmptyPages::Populate).unwrap();
        assert_eq!(again, RestoreOutcome::default());
        assert_eq!(it.resolver.core.table.resident(), range.pages());
        assert!(range.iter().skip(7).all(|page| it.read(page) == 0));
        assert_eq!(it.read(gap), 0);
        assert_eq!(it.resolver.core.table.extent().end, range.end);
        it.check();
    });
}

#[test]
fn restore_touches_resident_pages_and_takes_claimed_pages_back() {
    each("restore_touches_resident_pages_and_takes_claimed_pages_back", |mut it| {
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
        // A fault takes a claimed page back too. A fault on a resident page counts as a protection fault.
        it.resolver.core.table.leave_batch(claimed, |word| word);
        it.resolver.core.table.claim(claimed, it.resolver.core.table.load(claimed)).unwrap();
        assert_eq!(it.resolver.resolve(claimed), Resolved::TakenBack);
        assert_eq!(it.resolver.resolve(run.start), Resolved::Unprotected);
        assert_eq!(it.resolver.core.counters.evictions_cancelled.get(), 2);
        assert_eq!(it.resolver.core.counters.protection_faults.get(), 1);
    });
}

/// The last check of bytes before the kernel gets them.
#[test]
fn matches_store_finds_bytes_at_the_place_of_another_page() {
    each("matches_store_finds_bytes_at_the_place_of_another_page", |mut it| {
        let run = it.stored(2, 0);
        let [first, second] = [0, 1].map(|i| PageIndex(run.start.0 + i));
        let word = |page| it.resolver.core.table.load(page);
        it.resolver.scratches.with(|scratch| {
            scratch.begin(second);
            scratch.push_above(word(second));
            assert!(scratch.decode(second, &it.resolver.core.store));
            assert!(scratch.matches_store(second.only(), &it.resolver.core.store));
            // Too late: the decoded bytes are now at the place of the page below.
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
fn fault_modes_display_their_names() {
    let modes = [FaultMode::Auto, FaultMode::Handler, FaultMode::Inline];
    assert_eq!(modes.map(|mode| mode.to_string()), ["auto", "handler", "inline"]);
}

#[test]
fn simultaneous_faults_on_a_page_are_served_once() {
    each("simultaneous_faults_on_a_page_are_served_once", |mut it| {
        let page = it.stored(1, 0).start;
        it.serve_touches(page, 8);
        assert!(it.has_its_bytes(page));
        let counters = &it.resolver.core.counters;
        assert_eq!(counters.faults.get(), 8);
        assert_eq!((counters.refaults.get(), counters.protection_faults.get()), (1, 0));
        it.check();
    });
}
