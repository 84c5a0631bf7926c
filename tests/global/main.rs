//! A process whose large blocks come from an arena.
//!
//! Everything that needs the process's own allocator runs in processes of their own. There the
//! harness must have nothing more to do once the arena serves: where it does not serve system
//! calls, what is printed may be evicted before it is written.

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

/// So little that most of what collections allocate is large; but the standard library's own lists of
/// what it does between fork and exec are not.
const LARGE: usize = 128;

#[global_allocator]
static GLOBAL: ArenaAlloc = ArenaAlloc::lazy(LARGE, lazily);

/// None, but in the cases that are about it: all others start the allocator themselves.
fn lazily() -> Option<Arena> {
    let case = child_case()?;
    let setup = case.strip_prefix("lazy ").or(case.strip_prefix("harness "))?;
    zeal(Setup::parse(setup)).build().ok()
}

/// Everything that is not touched is evicted, again and again.
fn zeal(setup: Setup) -> Builder {
    let interval = Duration::from_millis(1);
    quiet(setup).scan_interval(interval).cold_age(interval).zeal()
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

/// How a process ends in which all went well; one that ran no test at all ends otherwise.
const WELL: i32 = 42;

/// Ends the process at once, and well.
fn end() -> ! {
    // SAFETY: nothing has to be done any more.
    unsafe { libc::_exit(WELL) }
}

/// Runs the named test again as `case`, which must end well.
fn ends_well(test: &str, case: &str) {
    let output = in_child(test, case);
    assert_eq!(output.status.code(), Some(WELL), "{case}: {:?} {}", output.status, text(&output));
}

/// Runs `body` in a process of its own for each setup, in which the allocator has been started with
/// what `builder` makes.
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

/// Whether enough has happened for a result to mean something.
fn is_enough(arena: &Arena) -> bool {
    let (stats, enough) = (arena.stats(), scaled(20_000, 500));
    stats.evicted_pages > enough && stats.refaults > enough
}

/// Several threads at work until enough was evicted. Says how often they were wrong.
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
        // They have blocks of the system's when the arena begins to serve.
        thread::sleep(Duration::from_millis(20));
        let arena = arena().expect("an arena serves");
        eventually(&arena, "enough", |_| is_enough(&arena));
    });
    wrong.into_inner()
}

#[test]
fn collections_hold_what_was_put_into_them() {
    const TEST: &str = "collections_hold_what_was_put_into_them";
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

/// What was allocated before `main` is the system's, and moves when it grows.
#[test]
fn blocks_from_before_the_start_go_on_living() {
    in_each_setup("blocks_from_before_the_start_go_on_living", zeal, |_, arena| {
        let mut early = EARLY.lock().unwrap();
        assert!(arena.ensure(early.as_slice()).is_err(), "it lies elsewhere");
        early.extend(EARLY_LEN..2 * EARLY_LEN);
        arena.ensure(early.as_slice()).unwrap();
        for _ in 0..20 {
            arena.evict_now().unwrap();
            assert!(early.iter().enumerate().all(|(n, number)| *number == n as u64));
        }
        *early = Vec::new();
    });
}

/// The case that [`before_main`] serves.
fn works_before_main() {
    // Who comes first makes the arena, and the others do not wait for it.
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
    let arena = GLOBAL.arena().expect("it was made");
    assert_eq!(wrong_under(|| GLOBAL.arena()), 0);
    let again = GLOBAL.start_without_system_calls(&arena);
    assert_eq!(again, Err(thermocline::StartError::AlreadyStarted));
    arena.check().unwrap();
}

#[test]
fn an_arena_is_made_before_main_when_it_is_needed() {
    for setup in setups("an_arena_is_made_before_main") {
        ends_well("no test at all", &format!("lazy {setup}"));
    }
}

/// The harness itself, too, with all that it reads and writes.
#[test]
fn an_arena_is_made_for_an_unsuspecting_program() {
    const TEST: &str = "an_arena_is_made_for_an_unsuspecting_program";
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
