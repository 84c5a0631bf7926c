//! Accessed bits: which regions are armed, and what happens without them.

#![allow(missing_docs, unsafe_code)]

mod common;

use common::pages::{PAGE, PAGE_BYTES, Pages, eventually};
use common::{SetOnDrop, quiet, scaled, setups};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thermocline::{Arena, Builder, Stats};

const REGION_PAGES: usize = 512;
const MILLISECOND: Duration = Duration::from_millis(1);

/// The arenas of a process share its accessed bits, so one test runs at a time.
static ONE_TEST: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_TEST.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ticking(builder: Builder, cold_age: Duration) -> Builder {
    builder.scan_interval(10 * MILLISECOND).cold_age(cold_age)
}

/// Whether this system lets a process read its accessed bits. Says so if it does not.
fn has_accessed_bits(arena: &Arena, test: &str) -> bool {
    let has = arena.stats().accessed_errors == 0;
    if !has {
        common::skip(
            test,
            "accessed_bits",
            "this system does not let a process read its accessed bits",
        );
    }
    has
}

/// Calls `act` again and again on another thread while `meanwhile` runs.
fn during<R>(act: impl Fn() + Sync, meanwhile: impl FnOnce() -> R) -> R {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                act();
            }
        });
        let _done = SetOnDrop(&done);
        meanwhile()
    })
}

/// Touches all pages again and again during eight looks at least. None if one of them may have been untouched for
/// so long that it was idle: the machine did not let the thread run.
fn keep_hot(arena: &Arena) -> Option<Stats> {
    const IDLE: Duration = Duration::from_secs(1);
    // The time from which on a page may not have been touched, and the longest such time.
    let pause = Mutex::new((Instant::now(), Duration::ZERO));
    let note_pause = |touching_since: Instant| {
        let (since, longest) = &mut *pause.lock().unwrap();
        *longest = since.elapsed().max(*longest);
        *since = touching_since;
    };
    let pages = Pages::filled(arena, 4 * REGION_PAGES);
    let touch_all = || {
        let start = Instant::now();
        pages.verify();
        note_pause(start);
    };
    let before = arena.stats().accessed_scans;
    // The processor sets bits again after the second clear.
    let enough =
        |stats: &Stats| stats.accessed_scans >= before + 8 && stats.tracking_fault_nanos > 0;
    let stats = during(touch_all, || eventually(arena, "looks", enough));
    note_pause(Instant::now());
    let (_, longest) = pause.into_inner().unwrap();
    (longest < IDLE).then_some(stats)
}

#[test]
fn a_hot_region_is_not_armed() {
    let _alone = alone();
    const TEST: &str = "a_hot_region_is_not_armed";
    for setup in setups(TEST) {
        let hot = (0..scaled(20, 3)).find_map(|_| {
            let arena = ticking(quiet(setup), 3000 * MILLISECOND).build().unwrap();
            has_accessed_bits(&arena, TEST).then(|| keep_hot(&arena))?
        });
        let Some(stats) = hot else {
            common::skip_part(
                TEST,
                "",
                "the thread that touches pages had to pause again and again",
            );
            continue;
        };
        assert_eq!((stats.armed_pages, stats.evicted_pages), (0, 0), "{setup}: {stats}");
        assert!(stats.tracking_nanos > 0, "{setup}: {stats}");
    }
}

#[test]
fn idle_regions_are_evicted_while_another_one_is_in_use() {
    let _alone = alone();
    const TEST: &str = "idle_regions_are_evicted_while_another_one_is_in_use";
    for setup in setups(TEST) {
        let arena = ticking(quiet(setup), 300 * MILLISECOND).build().unwrap();
        let pages = Pages::filled(&arena, 8 * REGION_PAGES);
        let hot = REGION_PAGES * PAGE;
        let touch = || (0..2 * REGION_PAGES).for_each(|page| assert!(pages.is_right(page)));
        during(touch, || {
            let idle = (pages.count * PAGE - 4 * hot) as u64;
            let stats = eventually(&arena, "idle regions", |stats| stats.stored_bytes >= idle);
            assert!(stats.accessed_scans > 0 || stats.accessed_errors > 0, "{setup}: {stats}");
        });
        pages.verify();
        arena.check().unwrap();
    }
}

#[test]
fn the_idle_pages_of_a_thinly_used_region_are_evicted() {
    let _alone = alone();
    for setup in setups("the_idle_pages_of_a_thinly_used_region_are_evicted") {
        let arena = ticking(quiet(setup), 300 * MILLISECOND).build().unwrap();
        let pages = Pages::filled(&arena, 4 * REGION_PAGES);
        let touch = || {
            (0..4).for_each(|region| assert!(pages.is_right(region * REGION_PAGES + 100)));
        };
        during(touch, || {
            let most = (pages.count as u64 - 64) * PAGE_BYTES;
            eventually(&arena, "the idle pages", |stats| stats.stored_bytes >= most);
        });
        pages.verify();
        arena.check().unwrap();
    }
}

/// A per mille of a processor, half of the budget, arms a region now and then.
#[test]
fn a_small_budget_delays_eviction_and_does_not_prevent_it() {
    let _alone = alone();
    for setup in setups("a_small_budget_delays_eviction_and_does_not_prevent_it") {
        let builder = ticking(quiet(setup), 100 * MILLISECOND).tracking_budget(0.002);
        let arena = builder.build().unwrap();
        let pages = Pages::filled(&arena, 2 * REGION_PAGES);
        eventually(&arena, "an eviction", |stats| stats.evicted_pages > 0);
        pages.verify();
    }
}

#[test]
fn without_accessed_bits_idle_pages_are_evicted_too() {
    let _alone = alone();
    for setup in setups("without_accessed_bits_idle_pages_are_evicted_too") {
        let builder = ticking(quiet(setup), 100 * MILLISECOND).accessed_bits(false);
        let arena = builder.build().unwrap();
        let pages = Pages::filled(&arena, 4 * REGION_PAGES);
        let all = pages.count as u64 * PAGE_BYTES;
        let stats = eventually(&arena, "all pages", |stats| stats.stored_bytes >= all);
        assert_eq!((stats.accessed_scans, stats.accessed_errors), (0, 0), "{setup}: {stats}");
        pages.verify();
    }
}

/// Another agent clears the accessed bits between any two looks, so the evictor learns nothing from them.
#[test]
fn idle_pages_are_evicted_while_another_agent_clears_accessed_bits() {
    let _alone = alone();
    const TEST: &str = "idle_pages_are_evicted_while_another_agent_clears_accessed_bits";
    for setup in setups(TEST) {
        let arena = ticking(quiet(setup), 900 * MILLISECOND).build().unwrap();
        if !has_accessed_bits(&arena, TEST) {
            return;
        }
        let pages = Pages::filled(&arena, 4 * REGION_PAGES);
        let clear = || {
            std::fs::write("/proc/self/clear_refs", "3").unwrap();
            std::thread::sleep(5 * MILLISECOND);
        };
        let all = pages.count as u64 * PAGE_BYTES;
        during(clear, || {
            eventually(&arena, "accessed bits given up", |stats| stats.accessed_errors > 0);
            let stats = eventually(&arena, "all pages", |stats| stats.stored_bytes >= all);
            assert!(stats.accessed_interruptions >= 8, "{setup}: {stats}");
        });
        pages.verify();
    }
}
