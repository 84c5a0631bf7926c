//! A process whose large blocks come from an arena.
//!
//! Tests of the global allocator run in child processes. Such a child ends by `_exit` when its test is
//! done, before the test harness prints: in an arena that does not serve system calls the text could be
//! evicted before the harness writes it.

#![allow(missing_docs, unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

mod collections;
mod instance;
mod lives;

use common::child::{child_case, in_child, passes_in_child, text};
use common::pages::eventually;
use common::{SetOnDrop, Setup, quiet, scaled, setups, skip};
use std::process::Output;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use thermocline::{Arena, ArenaAlloc, Builder};

/// The size of a large block: low, so that collections allocate mostly large blocks. The lists that the standard
/// library uses between fork and exec are smaller.
const LARGE: usize = 128;

#[global_allocator]
static GLOBAL: ArenaAlloc = ArenaAlloc::lazy(LARGE, lazily);

/// Builds an arena in the cases that test the lazy allocator. In all other cases it returns none, and the test
/// starts the allocator.
fn lazily() -> Option<Arena> {
    let case = child_case()?;
    let setup = case.strip_prefix("lazy ").or(case.strip_prefix("harness "))?;
    zeal(Setup::parse(setup)).build().ok()
}

/// Evicts every untouched page, repeatedly.
fn zeal(setup: Setup) -> Builder {
    let interval = Duration::from_millis(1);
    quiet(setup).scan_interval(interval).cold_age(interval).zeal(true)
}

/// Allocated before `main`.
static EARLY: Mutex<Vec<u64>> = Mutex::new(Vec::new());
const EARLY_LEN: u64 = 100_000;

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    EARLY.lock().unwrap().extend(0..EARLY_LEN);
    if child_case().is_some_and(|case| case.starts_with("lazy ")) {
        works_before_main();
        end();
    }
}

/// The exit status of a child that succeeds. A child that ran no test has another one.
const WELL: i32 = 42;

/// Ends the process at once, with success.
fn end() -> ! {
    // SAFETY: ends the process; no exit handler is needed.
    unsafe { libc::_exit(WELL) }
}

/// Runs the named test again as `case`, which must succeed.
fn ends_well(test: &str, case: &str) {
    let output = in_child(test, case);
    assert_eq!(output.status.code(), Some(WELL), "{case}: {:?} {}", output.status, text(&output));
}

/// Runs `body` in a child for each setup, after starting the allocator with an arena of `builder`.
fn in_each_setup(test: &str, builder: fn(Setup) -> Builder, body: fn(Setup, &Arena)) {
    if let Some(case) = child_case() {
        let setup = Setup::parse(&case);
        let arena = builder(setup).build().unwrap();
        GLOBAL.start_without_system_calls(&arena).unwrap();
        body(setup, &arena);
        arena.check().unwrap();
        end();
    }
    for setup in setups(test) {
        ends_well(test, &setup.to_string());
    }
}

/// Whether the arena has evicted and restored enough pages for a valid result.
fn is_enough(arena: &Arena) -> bool {
    let (stats, enough) = (arena.stats(), scaled(20_000, 500));
    stats.evicted_pages > enough && stats.refaults > enough
}

/// Runs several threads until enough was evicted. Returns how many of their checks failed.
fn wrong_under(arena: impl Fn() -> Option<Arena> + Sync) -> usize {
    let (wrong, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for thread in 0..4 {
            let (wrong, stop) = (&wrong, &stop);
            scope.spawn(move || {
                let mut seed = thread;
                while !stop.load(Ordering::Relaxed) {
                    wrong.fetch_add(collections::wrong(seed), Ordering::Relaxed);
                    seed += 4;
                }
            });
        }
        let _stop = SetOnDrop(&stop);
        // At the start the threads have blocks of the system's allocator.
        thread::sleep(Duration::from_millis(20));
        let arena = arena().expect("the allocator has no arena");
        eventually(&arena, "enough", |_| is_enough(&arena));
    });
    wrong.into_inner()
}

#[test]
fn collections_keep_their_content() {
    const TEST: &str = "collections_keep_their_content";
    if let Some(case) = child_case() {
        let arena = zeal(Setup::parse(&case)).build().unwrap();
        let wrong = wrong_under(|| {
            GLOBAL.start_without_system_calls(&arena).unwrap();
            Some(arena.clone())
        });
        assert_eq!(wrong, 0, "{}", arena.stats());
        let stats = arena.stats();
        assert_eq!((stats.lost_bytes, stats.kernel_errors), (0, 0), "{stats}");
        arena.check().unwrap();
        end();
    }
    for setup in setups(TEST) {
        ends_well(TEST, &setup.to_string());
    }
}

/// Blocks from before `main` belong to the system's allocator. They move to the arena when they grow.
#[test]
fn blocks_allocated_before_the_start_stay_valid() {
    in_each_setup("blocks_allocated_before_the_start_stay_valid", zeal, |_, arena| {
        let mut early = EARLY.lock().unwrap();
        assert!(arena.ensure(early.as_slice()).is_err(), "the early block lies in the arena");
        early.extend(EARLY_LEN..2 * EARLY_LEN);
        arena.ensure(early.as_slice()).unwrap();
        for _ in 0..20 {
            arena.evict_now().unwrap();
            assert!(early.iter().enumerate().all(|(n, number)| *number == n as u64));
        }
        *early = Vec::new();
    });
}

/// The case that [`before_main`] runs.
fn works_before_main() {
    // The first thread builds the arena, and the other threads do not wait for it.
    let barrier = std::sync::Barrier::new(8);
    thread::scope(|scope| {
        for seed in 0..8 {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                assert_eq!(collections::wrong(seed), 0);
            });
        }
    });
    let arena = GLOBAL.arena().expect("no thread built the arena");
    assert_eq!(wrong_under(|| GLOBAL.arena()), 0);
    let again = GLOBAL.start_without_system_calls(&arena);
    assert_eq!(again, Err(thermocline::StartError::AlreadyStarted));
    arena.check().unwrap();
}

#[test]
fn the_lazy_allocator_builds_its_arena_before_main() {
    for setup in setups("the_lazy_allocator_builds_its_arena_before_main") {
        ends_well("no test at all", &format!("lazy {setup}"));
    }
}

/// The test harness itself allocates from the arena, also the text that it reads and writes.
#[test]
fn the_lazy_allocator_serves_the_test_harness_itself() {
    const TEST: &str = "the_lazy_allocator_serves_the_test_harness_itself";
    if child_case().is_some() {
        assert_eq!(wrong_under(|| GLOBAL.arena()), 0);
        println!("{}", "as many words as make a large block ".repeat(100));
        return;
    }
    let serves = |setup: &Setup| quiet(*setup).build().unwrap().serves_system_calls();
    let setups: Vec<_> = setups(TEST).into_iter().filter(serves).collect();
    if setups.is_empty() {
        skip(TEST, "system_calls", "no arena can serve system calls here");
    }
    for setup in setups {
        let output: Output = passes_in_child(TEST, &format!("harness {setup}"));
        assert!(text(&output).contains("test result: ok. 1 passed"), "{}", text(&output));
    }
}
