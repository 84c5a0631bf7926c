//! Threads and processes that begin and end, and the library's own allocations.

use super::collections::{mix, wrong};
use super::common::child::{child_case, forbid_userfaultfd, fork, in_child, text};
use super::common::pages::eventually;
use super::common::{SetOnDrop, Setup, quiet, scaled, setups};
use super::{GLOBAL, LARGE, end, ends_well, in_each_setup, zeal};
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use thermocline::{Arena, Swapping};

/// Neither the library's threads nor the program's threads inside the library allocate there.
#[test]
fn the_library_allocates_nothing_in_the_arena() {
    let test = "lives::the_library_allocates_nothing_in_the_arena";
    in_each_setup(test, quiet, |setup, arena| {
        let numbers: Vec<u64> = (0..300_000).map(|n| mix(1, n)).collect();
        let allocated = || arena.stats().allocated_bytes;
        let before = allocated();
        assert!(before >= 2_400_000);
        for round in 0..10 {
            assert!(arena.evict_now().unwrap().pages > 0);
            assert_eq!(allocated(), before, "evicting");
            match round % 3 {
                0 => assert!(arena.prefetch(numbers.as_slice()).unwrap() > 0),
                1 => drop(arena.pin(numbers.as_slice()).unwrap()),
                _ => assert_eq!(numbers[150_000], mix(1, 150_000)),
            }
            arena.check().unwrap();
            assert_eq!(allocated(), before, "restoring, and checking");
        }
        for _ in 0..3 {
            let other = quiet(setup).build().unwrap();
            let layout = Layout::from_size_align(1 << 20, 4096).unwrap();
            let blocks = [(); 30].map(|()| other.allocate(layout).unwrap().cast::<u8>());
            // SAFETY: within each block.
            blocks.iter().for_each(|block| unsafe { block.write_bytes(1, 1 << 20) });
            other.evict_now().unwrap();
            let small = Layout::from_size_align(48, 8).unwrap();
            (0..10_000).for_each(|_| assert!(other.allocate(small).is_ok()));
            assert_eq!(allocated(), before, "another arena in use");
            // SAFETY: allocated above, and freed once.
            blocks.into_iter().for_each(|block| unsafe { other.deallocate(block, layout) });
            other.check().unwrap();
            other.stop().unwrap();
            drop(other);
            assert_eq!(allocated(), before, "another arena's end");
        }
        assert!(numbers.iter().zip(0..).all(|(number, n)| *number == mix(1, n)));
    });
}

#[test]
fn other_arenas_are_built_and_dropped() {
    in_each_setup("lives::other_arenas_are_built_and_dropped", zeal, |setup, arena| {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for seed in 0..2 {
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        assert_eq!(wrong(seed), 0);
                    }
                });
            }
            let _stop = SetOnDrop(&stop);
            for round in 0..scaled(20, 4) {
                let other = zeal(setup).build().unwrap();
                let mut numbers = allocator_api2::vec::Vec::new_in(&other);
                numbers.extend((0..50_000).map(|n| mix(round, n)));
                other.evict_now().unwrap();
                assert!(numbers.iter().zip(0..).all(|(number, n)| *number == mix(round, n)));
            }
        });
        eventually(arena, "some eviction", |stats| stats.evicted_pages > 100);
    });
}

/// A large block that a thread still has when it ends. Its destructor allocates another one.
struct Last(Vec<u64>);

static ENDED: AtomicUsize = AtomicUsize::new(0);

impl Drop for Last {
    fn drop(&mut self) {
        let copy: Vec<u64> = self.0.iter().map(|n| n ^ 1).collect();
        let right = |(number, n): (&u64, u64)| *number == mix(7, n) ^ 1;
        if copy.iter().zip(0..).all(right) {
            ENDED.fetch_add(1, Ordering::Relaxed);
        }
        self.0 = copy;
    }
}

#[test]
fn destructors_of_ending_threads_may_allocate() {
    in_each_setup("lives::destructors_of_ending_threads_may_allocate", zeal, |_, arena| {
        thread_local!(static LAST: Cell<Option<Last>> = const { Cell::new(None) });
        // On an emulated machine all threads may end before the evictor first runs.
        let (least, most) = (scaled(200, 20), 4000);
        let mut threads = 0;
        while threads < least || (arena.stats().evicted_pages == 0 && threads < most) {
            threads += 4;
            let life = || {
                LAST.set(Some(Last((0..5000).map(|n| mix(7, n)).collect())));
                thread::sleep(Duration::from_millis(3));
            };
            let lives = [(); 4].map(|()| thread::spawn(life));
            lives.into_iter().for_each(|life| life.join().unwrap());
        }
        assert_eq!(ENDED.load(Ordering::Relaxed), threads);
        assert!(arena.stats().evicted_pages > 0);
    });
}

#[test]
fn a_forked_child_allocates_from_the_system() {
    in_each_setup("lives::a_forked_child_allocates_from_the_system", zeal, |_, arena| {
        let numbers: Vec<u64> = (0..100_000).map(|n| mix(3, n)).collect();
        let layout = Layout::array::<u64>(numbers.capacity()).unwrap();
        let first = numbers.as_ptr().cast_mut().cast::<u8>();
        let elsewhere = Err(thermocline::ArenaError::OutsideArena);
        for _ in 0..scaled(10, 3) {
            let status = fork(|| {
                // SAFETY: the child's own copy of the vector's three words.
                let mine = unsafe { std::ptr::read(&ManuallyDrop::new(&numbers)) };
                // SAFETY: as above; it is dropped once in this process, which frees nothing.
                drop(unsafe { std::ptr::read(*mine) });
                // SAFETY: a block of the parent's.
                let moved = unsafe { GLOBAL.realloc(first, layout, 4_000_000) };
                let right = thread::spawn(|| wrong(5) == 0).join().unwrap_or(false);
                if moved.is_null() && right && wrong(6) == 0 { 11 } else { 12 }
            });
            assert_eq!(status.code(), Some(11), "{status:?}");
            // The kernel places no new mapping of the child at the addresses of the arena.
            let status = fork(|| {
                let many: Vec<Vec<u64>> = (0..64).map(|_| vec![0; 1 << 21]).collect();
                i32::from(many.iter().any(|own| arena.ensure(own.as_slice()) != elsewhere))
            });
            assert_eq!(status.code(), Some(0), "{status:?}");
            // SAFETY: the read ends the child.
            let status = fork(|| unsafe { first.read_volatile() }.into());
            assert_eq!(status.signal(), Some(libc::SIGSEGV), "{status:?}");
            assert!(numbers.iter().zip(0..).all(|(number, n)| *number == mix(3, n)));
        }
        arena.evict_now().unwrap();
    });
}

#[test]
fn child_programs_run() {
    in_each_setup("lives::child_programs_run", zeal, |_, arena| {
        for _ in 0..scaled(20, 3) {
            assert!(Command::new("/bin/true").status().unwrap().success());
            let mut forked = Command::new("/bin/true");
            // SAFETY: the closure does nothing, which is allowed after a fork.
            unsafe { forked.pre_exec(|| Ok(())) };
            assert!(forked.status().unwrap().success());
            if arena.serves_system_calls() {
                let long = "0123456789".repeat(20_000 / 10);
                let mut echo = Command::new("/bin/echo");
                // The argument is a large block, and so is the output.
                let output = echo.arg(&long).output().unwrap();
                assert_eq!(output.stdout.len(), long.len() + 1);
                assert!(output.stdout.starts_with(long.as_bytes()));
                let told = echo.arg("x".repeat(LARGE)).env("LONG", &long).output().unwrap();
                assert_eq!(told.stdout.len(), long.len() + LARGE + 2);
            }
        }
        arena.evict_now().unwrap();
    });
}

/// System calls work on plain memory.
#[test]
fn without_userfaultfd_plain_memory_serves() {
    const TEST: &str = "lives::without_userfaultfd_plain_memory_serves";
    if child_case().is_none() {
        ends_well(TEST, "forbidden");
        return;
    }
    forbid_userfaultfd();
    let arena = Arena::builder().reserve(1 << 30).plain_memory_fallback(true).build().unwrap();
    assert!(matches!(arena.swapping(), Swapping::Off(_)));
    GLOBAL.start(&arena).unwrap();
    assert_eq!(wrong(1), 0);
    let page: Vec<u8> = vec![7; 4096];
    arena.ensure(page.as_slice()).unwrap();
    end();
}

extern "C" fn at_exit() {
    let numbers: Vec<u64> = (0..100_000).map(|n| mix(9, n)).collect();
    thread::sleep(Duration::from_millis(5));
    assert!(numbers.iter().zip(0..).all(|(number, n)| *number == mix(9, n)));
}

#[test]
fn a_process_exits_while_its_threads_allocate() {
    const TEST: &str = "lives::a_process_exits_while_its_threads_allocate";
    if let Some(case) = child_case() {
        let arena = zeal(Setup::parse(&case)).build().unwrap();
        GLOBAL.start_without_system_calls(&arena).unwrap();
        // SAFETY: a function that may be called at the end of the process.
        unsafe { libc::atexit(at_exit) };
        for seed in 0..3 {
            thread::spawn(move || {
                loop {
                    assert_eq!(wrong(seed), 0);
                }
            });
        }
        thread::sleep(Duration::from_millis(30));
        std::process::exit(7);
    }
    for setup in setups(TEST) {
        for _ in 0..scaled(10, 2) {
            let output = in_child(TEST, &setup.to_string());
            assert_eq!(output.status.code(), Some(7), "{setup}: {}", text(&output));
        }
    }
}
