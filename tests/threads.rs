//! Threads, arenas and processes that begin and end in any order.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs, unsafe_code)]

mod common;

use allocator_api2::alloc::Allocator;
use allocator_api2::vec::Vec as AVec;
use common::blocks::{Block, Random, layout};
use common::child::fork;
use common::{LANES, Setup, quiet, scaled, setups};
use std::cell::RefCell;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use thermocline::{AllocError, Arena, ArenaError, HeapStats, Lane};

fn small_arena(setup: Setup) -> Arena {
    quiet(setup).reserve(64 << 20).build().unwrap()
}

/// Allocates and frees blocks of all kinds, and returns how many words were wrong.
fn use_it(arena: &Arena, stamp: u64) -> u64 {
    let sizes = [16, 100, 100, 3000, 20_000, 100_000, 400_000];
    let block = |(n, size): (usize, &usize)| {
        let (lane, layout) = (LANES[n % 3], layout(*size, 8));
        Block::new(arena.lane(lane).allocate(layout).unwrap(), layout, stamp)
    };
    let blocks: Vec<_> = sizes.iter().enumerate().map(block).collect();
    let free = |block: Block| {
        let wrong = block.wrong();
        block.free(arena);
        wrong
    };
    blocks.into_iter().map(free).sum()
}

fn cached(stats: &HeapStats) -> u64 {
    let classes = stats.lanes.iter().flat_map(|lane| &lane.classes);
    classes.map(|class| class.cached).sum::<u64>() + stats.cached_large_bytes
}

/// Checks that all blocks are free and that no thread caches one after a trim.
fn nothing_is_left(arena: &Arena) {
    arena.check().unwrap();
    assert_eq!(arena.stats().allocated_bytes, 0, "{}", arena.heap_stats().unwrap());
    arena.trim();
    let stats = arena.heap_stats().unwrap();
    assert_eq!((stats.held_bytes(), cached(&stats)), (0, 0), "{stats}");
    assert_eq!(arena.stats().memory_bytes, 0, "{}", arena.stats());
}

#[test]
fn the_cache_of_an_ending_thread_is_freed() {
    for setup in setups("the_cache_of_an_ending_thread_is_freed") {
        let arena = small_arena(setup);
        let kept = thread::scope(|scope| {
            let work = || {
                assert_eq!(use_it(&arena, 1), 0);
                let stats = arena.heap_stats().unwrap();
                assert_eq!(stats.live_bytes(), 0, "{stats}");
                (cached(&stats), stats.cached_large_bytes)
            };
            scope.spawn(work).join().unwrap()
        });
        assert!(kept.0 > 6 && kept.1 >= 100_000, "{setup}: {kept:?}");
        arena.check().unwrap();
        let stats = arena.heap_stats().unwrap();
        assert_eq!(stats.cached_large_bytes, 0, "{setup}: {stats}");
        // The next thread gets the blocks of the first.
        thread::scope(|scope| scope.spawn(|| assert_eq!(use_it(&arena, 2), 0)).join().unwrap());
        arena.check().unwrap();
        let again = arena.heap_stats().unwrap();
        assert_eq!(again.free_bytes, stats.free_bytes, "{setup}: {again}");
        nothing_is_left(&arena);
    }
}

#[test]
fn thousands_of_short_threads_leave_nothing_behind() {
    for setup in setups("thousands_of_short_threads_leave_nothing_behind") {
        let arena = small_arena(setup);
        let mut held = Vec::new();
        for round in 0..scaled(500, 20) {
            let blocks: Vec<Block> = thread::scope(|scope| {
                let arena = &arena;
                let work = |number: u64| {
                    move || {
                        assert_eq!(use_it(arena, number), 0);
                        // The main thread frees one block of each thread, of one size in all rounds.
                        Block::allocate(arena, layout(300, 8), number)
                    }
                };
                let handles: Vec<_> = (0..4).map(|number| scope.spawn(work(number))).collect();
                handles.into_iter().map(|handle| handle.join().unwrap()).collect()
            });
            for block in blocks {
                assert_eq!(block.wrong(), 0);
                block.free(&arena);
            }
            if round % 10 == 9 {
                arena.check().unwrap();
                held.push(arena.heap_stats().unwrap().held_bytes());
            }
        }
        let most = held.iter().max().unwrap();
        assert!(*most < 16 << 20, "{setup}: {held:?}");
        nothing_is_left(&arena);
    }
}

/// Long-lived threads use arenas, of which they sometimes drop the last handle.
#[test]
fn long_lived_threads_use_arenas_that_are_dropped() {
    for setup in setups("long_lived_threads_use_arenas_that_are_dropped") {
        let mut threads = Vec::new();
        for number in 0..3u64 {
            let (sender, receiver) = channel::<Arena>();
            let work = move || {
                let mut random = Random::new(number);
                let mut arenas: Vec<Arena> = Vec::new();
                for arena in receiver {
                    arenas.push(arena);
                    // Also the one before last.
                    for _ in 0..4 {
                        assert_eq!(use_it(&arenas[random.below(arenas.len())], number), 0);
                    }
                    if arenas.len() > 2 {
                        arenas.swap_remove(random.below(3));
                    }
                }
            };
            threads.push((sender, thread::spawn(work)));
        }
        for _ in 0..scaled(60, 10) {
            let arena = small_arena(setup);
            for (sender, _) in &threads {
                sender.send(arena.clone()).unwrap();
            }
            assert_eq!(use_it(&arena, 9), 0);
        }
        for (sender, thread) in threads {
            drop(sender);
            thread.join().unwrap();
        }
    }
}

/// Uses an arena in a destructor of a thread local.
struct AtTheEnd {
    arena: Arena,
    block: Option<Block>,
    done: Sender<u64>,
}

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        let mut wrong = 0;
        for round in 0..3 {
            wrong += use_it(&self.arena, round);
        }
        if let Some(block) = self.block.take() {
            wrong += block.wrong();
            block.free(&self.arena);
        }
        self.done.send(wrong).unwrap();
    }
}

thread_local! {
    static FIRST: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
    static LAST: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
}

#[test]
fn destructors_of_thread_locals_may_use_an_arena() {
    for setup in setups("destructors_of_thread_locals") {
        for poison in [false, true] {
            let builder = quiet(setup).reserve(64 << 20);
            let builder = builder.poison_freed(poison);
            let arena = builder.build().unwrap();
            for round in 0..scaled(50, 10) {
                let (done, results) = channel();
                let end = |block| {
                    let (arena, done) = (arena.clone(), done.clone());
                    Some(AtTheEnd { arena, block, done })
                };
                // std destroys thread locals in the order of their first use: before the arena's own thread
                // local or after it.
                let (first, last) = (end(None), end(None));
                let theirs = arena.clone();
                let work = move || {
                    FIRST.set(first);
                    let arena = theirs;
                    if round % 3 > 0 {
                        assert_eq!(use_it(&arena, 5), 0);
                        FIRST.with_borrow_mut(|first| {
                            let block = Block::allocate(&arena, layout(200, 8), 1);
                            first.as_mut().unwrap().block = Some(block);
                        });
                    }
                    if round % 3 > 1 {
                        LAST.set(last);
                        LAST.with_borrow_mut(|last| {
                            let block = Block::allocate(&arena, layout(150_000, 8), 2);
                            last.as_mut().unwrap().block = Some(block);
                        });
                    }
                };
                thread::spawn(work).join().unwrap();
                drop(done);
                assert!(results.iter().all(|wrong| wrong == 0), "{setup}");
                arena.check().unwrap();
            }
            nothing_is_left(&arena);
        }
    }
}

#[test]
fn a_thread_may_use_many_arenas_in_turn() {
    for setup in setups("a_thread_may_use_many_arenas") {
        let arenas: Vec<Arena> = (0..scaled(12, 6)).map(|_| small_arena(setup)).collect();
        thread::scope(|scope| {
            let arenas = &arenas;
            let work = |number| {
                let mut random = Random::new(number);
                let mut blocks: Vec<(usize, Block)> = Vec::new();
                for n in 0..scaled(20_000, 2000) {
                    let at = random.below(arenas.len());
                    if blocks.len() > 300 || random.one_in(3) && !blocks.is_empty() {
                        let (at, block) = blocks.swap_remove(random.below(blocks.len()));
                        assert_eq!(block.wrong(), 0, "{block:?}");
                        block.free(&arenas[at]);
                        continue;
                    }
                    let size = [24, 24, 500, 70_000][random.below(4)];
                    let block = Block::allocate(&arenas[at], layout(size, 8), n);
                    // The block lies in that arena and in no other.
                    assert_eq!(arenas[at].ensure(block.range()), Ok(()));
                    let other = &arenas[(at + 1) % arenas.len()];
                    assert_eq!(other.ensure(block.range()), Err(ArenaError::OutsideArena));
                    blocks.push((at, block));
                }
                blocks.into_iter().for_each(|(at, block)| block.free(&arenas[at]));
            };
            let handles: Vec<_> = (0..2).map(|n| scope.spawn(move || work(n))).collect();
            handles.into_iter().for_each(|handle| handle.join().unwrap());
        });
        arenas.iter().for_each(nothing_is_left);
    }
}

#[test]
fn an_arena_may_end_before_the_threads_that_have_used_it() {
    for setup in setups("an_arena_may_end_before") {
        for _ in 0..scaled(20, 4) {
            let arena = small_arena(setup);
            let (theirs, (gone, is_gone), (used, is_used)) = (arena.clone(), channel(), channel());
            let thread = thread::spawn(move || {
                assert_eq!(use_it(&theirs, 1), 0);
                drop(theirs);
                used.send(()).unwrap();
                is_gone.recv().unwrap();
                // The thread's cache for the first arena must not serve the second one.
                let other = small_arena(setup);
                assert_eq!(use_it(&other, 2), 0);
                nothing_is_left(&other);
            });
            is_used.recv().unwrap();
            drop(arena);
            gone.send(()).unwrap();
            thread.join().unwrap();
        }
        // At the same moment.
        for _ in 0..scaled(100, 10) {
            let arena = small_arena(setup);
            let theirs = arena.clone();
            let thread = thread::spawn(move || assert_eq!(use_it(&theirs, 1), 0));
            assert_eq!(use_it(&arena, 2), 0);
            drop(arena);
            thread.join().unwrap();
        }
    }
}

#[test]
fn a_clone_works_after_the_first_arena_is_dropped() {
    for setup in setups("a_clone_works_after_the_first_arena_is_dropped") {
        let first = small_arena(setup);
        let arena = first.clone();
        let mut numbers = AVec::new_in(first.lane(Lane::Cold));
        numbers.extend(0..10_000u64);
        drop(first);
        arena.evict_now().unwrap();
        numbers.extend(10_000..20_000);
        thread::spawn(move || {
            assert!(numbers.iter().copied().eq(0..20_000));
            numbers.truncate(10);
            numbers.shrink_to_fit();
            assert!(numbers.iter().copied().eq(0..10));
        })
        .join()
        .unwrap();
        assert_eq!(use_it(&arena, 1), 0);
        nothing_is_left(&arena);
    }
}

/// A forked child does not change its parent's arena, neither by calls nor by the ends of its threads.
#[test]
fn allocating_and_freeing_in_a_forked_child_is_refused() {
    for setup in setups("allocating_and_freeing_in_a_forked_child_is_refused") {
        let arena = small_arena(setup);
        let sizes = [16, 3000, 100_000, 1 << 20];
        let blocks: Vec<_> = sizes
            .iter()
            .map(|size| Block::allocate(&arena, layout(*size, 8), *size as u64))
            .collect();
        assert_eq!(use_it(&arena, 1), 0);
        let before = arena.heap_stats();
        // The child's own arena has blocks of the sizes that this thread caches for the parent's.
        let status = fork(|| {
            let hot = arena.hot();
            for size in sizes {
                let layout = layout(size, 8);
                if arena.allocate(layout) != Err(AllocError)
                    || arena.allocate_zeroed(layout) != Err(AllocError)
                    || hot.allocate(layout).is_ok()
                {
                    return 1;
                }
            }
            for block in &blocks {
                // SAFETY: the block is this test's; in the child the calls do nothing.
                unsafe {
                    arena.deallocate(block.pointer, block.layout);
                    arena.deallocate(block.pointer, block.layout);
                    let more = layout(block.layout.size() * 2, 8);
                    if arena.grow(block.pointer, block.layout, more).is_ok() {
                        return 2;
                    }
                }
            }
            if arena.trim() != 0 || arena.heap_stats().is_some() || arena.check().is_ok() {
                return 3;
            }
            // The end of a thread, and an arena of the child in the thread that used the parent's.
            let ended = thread::spawn(move || hot.allocate(layout(16, 8)).is_err()).join();
            let own = small_arena(setup);
            let wrong = use_it(&own, 1);
            if wrong != 0 || own.check().is_err() || arena.allocate(layout(16, 8)).is_ok() {
                return 4;
            }
            i32::from(ended.ok() != Some(true)) * 5
        });
        assert_eq!(status.code(), Some(0), "{setup}: {status:?}");
        assert_eq!(arena.heap_stats(), before, "{setup}");
        assert_eq!(use_it(&arena, 1), 0);
        for block in blocks {
            assert_eq!(block.wrong(), 0);
            block.free(&arena);
        }
        nothing_is_left(&arena);
    }
}

/// In the child, the thread that forked and the process end by `exit`, so that all destructors run.
#[test]
fn a_forked_child_may_run_its_destructors() {
    for setup in setups("a_forked_child_may_run_its_destructors") {
        let arena = small_arena(setup);
        let theirs = arena.clone();
        let status = thread::spawn(move || {
            assert_eq!(use_it(&theirs, 1), 0);
            // SAFETY: the child only ends, by its one thread.
            match unsafe { libc::fork() } {
                -1 => panic!("{}", std::io::Error::last_os_error()),
                0 => {
                    // SAFETY: the frames below need no destructors. Thread locals do, and `exit` runs them.
                    unsafe { libc::exit(7) }
                }
                pid => {
                    let mut status = 0;
                    // SAFETY: waits for the child and writes one integer.
                    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
                    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
                }
            }
        });
        assert_eq!(status.join().unwrap(), Some(7), "{setup}");
        nothing_is_left(&arena);
    }
}

/// A fork while other threads are inside the allocator.
#[test]
fn forks_may_happen_at_any_moment() {
    for setup in setups("forks_may_happen_at_any_moment") {
        let arena = small_arena(setup);
        let over = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            let (arena, over) = (&arena, &over);
            let work = |number| {
                move || {
                    while !over.load(std::sync::atomic::Ordering::Relaxed) {
                        assert_eq!(use_it(arena, number), 0);
                        arena.trim();
                    }
                }
            };
            let handles: Vec<_> = (0..2).map(|number| scope.spawn(work(number))).collect();
            let set = common::SetOnDrop(over);
            let block = Block::allocate(arena, layout(64, 8), 3);
            for round in 0..scaled(60, 8) {
                // No call here takes a lock of the system's allocator, which another thread may hold.
                let status = fork(|| {
                    let (small, large) = (layout(64, 8), layout(1 << 20, 8));
                    let refused = [small, large].map(|layout| arena.allocate(layout).is_err());
                    // SAFETY: the block is this test's; in the child the call does nothing.
                    unsafe { arena.deallocate(block.pointer, block.layout) };
                    i32::from(refused != [true, true])
                });
                assert_eq!(status.code(), Some(0), "{setup}, {round}: {status:?}");
            }
            block.free(arena);
            drop(set);
            handles.into_iter().for_each(|handle| handle.join().unwrap());
        });
        nothing_is_left(&arena);
    }
}
