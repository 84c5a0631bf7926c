//! Tests that read or change private state of an arena.

#![allow(unsafe_code)]

mod damage;

use super::*;
use crate::common::{Setup, quiet, setups};
use crate::prim::PageIndex;
use crate::table::State;
use core::alloc::Layout;
use std::process::Command;

/// Runs the test again in a child process, with `CHILD` set, and returns its output.
fn in_child(test: &str, case: &str) -> std::process::Output {
    let exe = std::env::current_exe().unwrap();
    let args = ["--exact", test, "--nocapture", "--test-threads=1"];
    Command::new(exe).args(args).env("THERMOCLINE_TEST_CHILD", case).output().unwrap()
}

fn child_case() -> Option<String> {
    std::env::var("THERMOCLINE_TEST_CHILD").ok()
}

fn signal_of(output: &std::process::Output) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&output.status)
}

/// Pages in the block of a test. It is a large block, so it shares no page with another block.
const PAGES: usize = 12;

/// An arena with one block of stored pages, each with text of its own.
fn stored(setup: Setup) -> (Arena, *mut u8) {
    let arena = quiet(setup).build().unwrap();
    let layout = Layout::from_size_align(PAGES * PAGE_SIZE, PAGE_SIZE).unwrap();
    let bytes = arena.allocate(layout).unwrap().cast::<u8>().as_ptr();
    for i in 0..PAGES * PAGE_SIZE {
        // SAFETY: within the block.
        unsafe { bytes.add(i).write((i / 64 % 251) as u8) };
    }
    assert_eq!(arena.evict_now().unwrap().pages, PAGES);
    (arena, bytes)
}

fn read(bytes: *mut u8, at: usize) -> u8 {
    assert!(at < PAGES * PAGE_SIZE);
    // SAFETY: within the block that `stored` made.
    unsafe { bytes.add(at).read_volatile() }
}

fn page_of(arena: &Arena, bytes: *mut u8) -> PageIndex {
    PageIndex::containing(bytes.addr() - arena.inner.base.0.addr())
}

fn engine(arena: &Arena) -> &Engine {
    arena.inner.parts.engine.as_ref().unwrap()
}

/// Damages the store's copy of the block's second page.
fn spoil(arena: &Arena, bytes: *mut u8) -> PageIndex {
    let page = PageIndex(page_of(arena, bytes).0 + 1);
    let word = engine(arena).core.table.load(page);
    assert_eq!(word.state(), State::Stored);
    engine(arena).core.store.corrupt(word.handle());
    page
}

#[test]
fn a_touch_of_a_damaged_page_is_sigbus_and_its_neighbours_are_readable() {
    const TEST: &str =
        "arena::tests::a_touch_of_a_damaged_page_is_sigbus_and_its_neighbours_are_readable";
    if let Some(case) = child_case() {
        let setup = Setup::parse(&case);
        let (arena, bytes) = stored(setup);
        spoil(&arena, bytes);
        assert_eq!((read(bytes, 0), read(bytes, 64)), (0, 1));
        assert_eq!(read(bytes, 2 * PAGE_SIZE), (2 * PAGE_SIZE / 64 % 251) as u8);
        assert_eq!(arena.stats().lost_bytes, 0);
        println!("neighbours read");
        println!("read {}", read(bytes, PAGE_SIZE));
        return;
    }
    for setup in setups("a_page_that_cannot_be_given_back") {
        let output = in_child(TEST, &setup.to_string());
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(signal_of(&output), Some(libc_sigbus()), "{out}\n{err}");
        assert!(out.contains("neighbours read") && !out.contains("\nread "), "{out}");
        assert!(err.contains("is lost: its checksum does not match"), "{err}");
    }
}

/// SIGBUS: 7 on all architectures of the library.
fn libc_sigbus() -> i32 {
    7
}

#[test]
fn a_lost_page_works_again_after_it_is_freed_and_allocated() {
    for setup in setups("a_lost_page_is_whole_again") {
        let (arena, bytes) = stored(setup);
        let page = spoil(&arena, bytes);
        // Prefetch finds the damage without a touch.
        let block = core::ptr::slice_from_raw_parts(bytes, PAGES * PAGE_SIZE);
        assert_eq!(arena.prefetch(block).unwrap(), PAGES - 1);
        assert_eq!(engine(&arena).core.table.load(page).state(), State::Lost);
        assert_eq!(arena.stats().lost_bytes, PAGE_SIZE as u64);
        let layout = Layout::from_size_align(PAGES * PAGE_SIZE, PAGE_SIZE).unwrap();
        let pointer = core::ptr::NonNull::new(bytes).unwrap();
        // SAFETY: allocated by `stored` with this layout.
        unsafe { arena.deallocate(pointer, layout) };
        assert_eq!(arena.stats().lost_bytes, 0);
        arena.check().unwrap();
        let again = arena.allocate_zeroed(layout).unwrap().cast::<u8>().as_ptr();
        assert_eq!(again, bytes, "the smallest run that fits");
        for at in (0..PAGES * PAGE_SIZE).step_by(PAGE_SIZE) {
            assert_eq!(read(again, at), 0);
            // SAFETY: within the block.
            unsafe { again.add(at).write(at as u8 | 1) };
        }
        // The evictor can arm and evict it like any other page.
        crate::common::pages::evict(&arena, PAGES);
        assert_eq!(read(again, PAGE_SIZE), 1);
        arena.check().unwrap();
    }
}

#[test]
fn peek_finds_a_damaged_page_without_a_touch() {
    for setup in setups("peeking_at_a_damaged_page") {
        let (arena, bytes) = stored(setup);
        let page = spoil(&arena, bytes);
        // SAFETY: the block of `stored`, to which no thread writes.
        let block = unsafe { core::slice::from_raw_parts(bytes, PAGES * PAGE_SIZE) };
        let mut buffer = Vec::new();
        assert_eq!(arena.peek(&block[PAGE_SIZE - 1..], &mut buffer), Err(ArenaError::Lost));
        assert_eq!(engine(&arena).core.table.load(page).state(), State::Lost);
        assert_eq!(arena.peek(&block[64..66], &mut buffer), Ok(Peek::Copied(&[1, 1])));
        assert_eq!(arena.peek(&block[PAGE_SIZE..][..1], &mut buffer), Err(ArenaError::Lost));
    }
}

#[test]
fn a_handler_thread_that_fails_aborts_the_process_and_says_why() {
    const TEST: &str = "arena::tests::a_handler_thread_that_fails_aborts_the_process_and_says_why";
    if child_case().is_some() {
        let (arena, bytes) = stored(Setup::parse("zap/handler"));
        // In the descriptor table of the arena's threads, which a thread of the program cannot change.
        let backing = &arena.inner.engine().unwrap().core.backing;
        backing.keeper().call(|| backing.uffds()[0].replace_file());
        println!("read {}", read(bytes, 0));
        return;
    }
    if !setups("a_handler_that_cannot_go_on").is_empty() {
        let output = in_child(TEST, "zap");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(signal_of(&output), Some(6), "SIGABRT, not {:?}: {err}", output.status);
        assert!(err.contains("thermocline: a fault handler failed: "), "{err}");
        assert!(err.contains("(userfaultfd)"), "the call that failed: {err}");
    }
}

/// A fault fills a page while another thread releases its neighbours.
#[test]
fn release_drops_no_page_that_another_thread_fills_meanwhile() {
    for setup in setups("releasing_drops_no_page") {
        let arena = quiet(setup).build().unwrap();
        let engine = engine(&arena);
        let all = PageRange::new(5000, 5512);
        let other = PageIndex(5100);
        for round in 0..crate::common::scaled(6000, 300) {
            assert!(engine.populate(PageRange::new(5400, 5401)));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..round % 50 * 20 {
                        std::hint::spin_loop();
                    }
                    assert!(engine.populate(other.only()));
                });
                engine.release(all).unwrap();
            });
            let resident = engine.core.table.load(other).state() == State::Resident;
            let bytes = arena.stats().memory_bytes;
            assert_eq!(bytes, if resident { PAGE_SIZE as u64 } else { 0 }, "{setup}: {round}");
            engine.release(all).unwrap();
        }
    }
}

/// A fault may add at most twelve bytes of metadata per page.
#[test]
fn a_terabyte_takes_no_memory_until_it_is_touched() {
    for setup in setups("a_terabyte_costs_nothing") {
        let arena = quiet(setup).reserve(1 << 40).build().unwrap();
        assert_eq!(arena.stats().memory_bytes, 0);
        let layout = Layout::from_size_align(1 << 39, PAGE_SIZE).unwrap();
        let before = resident();
        let block = arena.allocate(layout).unwrap().cast::<u8>();
        // SAFETY: within the block.
        unsafe { block.add(1 << 38).write(1) };
        let used = arena.stats().memory_bytes;
        assert!(used <= 3 << 20, "what is populated ahead, and a page: {used}");
        let grown = resident().saturating_sub(before);
        assert!(grown < 8 << 20, "{grown}");
        // SAFETY: allocated above with this layout.
        unsafe { arena.deallocate(block, layout) };
        arena.trim();
        assert_eq!(arena.stats().memory_bytes, 0);
    }
}

/// This process's resident bytes, by the kernel's count.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * PAGE_SIZE
}

/// Arming removes poison from the page table (`MADV_DONTNEED`), and a stopped arena has no thread that
/// restores it.
#[test]
fn a_lost_page_stays_lost_after_stop() {
    const TEST: &str = "arena::tests::a_lost_page_stays_lost_after_stop";
    if let Some(case) = child_case() {
        let setup = Setup::parse(&case);
        let (arena, bytes) = stored(setup);
        spoil(&arena, bytes);
        let block = core::ptr::slice_from_raw_parts(bytes, PAGES * PAGE_SIZE);
        arena.prefetch(block).unwrap();
        assert_eq!(arena.stats().lost_bytes, PAGE_SIZE as u64);
        arena.evict_now().unwrap();
        arena.stop().unwrap();
        assert_eq!((read(bytes, 0), read(bytes, 64)), (0, 1));
        println!("neighbours read");
        println!("read {}", read(bytes, PAGE_SIZE));
        return;
    }
    for setup in setups("a_lost_page_stays_lost_after_stop") {
        let output = in_child(TEST, &setup.to_string());
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("neighbours read"), "{setup}: {output:?}");
        assert!(!text.contains("read 0"), "{setup}: zeros instead of SIGBUS: {text}");
        assert_eq!(signal_of(&output), Some(libc_sigbus()), "{setup}: {output:?}");
    }
}

/// Two threads touch the page at the same time, and then a third one does.
#[test]
fn a_lost_page_may_be_touched_again_and_again() {
    for setup in setups("a_lost_page_may_be_touched_again_and_again") {
        let (arena, bytes) = stored(setup);
        let page = spoil(&arena, bytes);
        let block = core::ptr::slice_from_raw_parts(bytes, PAGES * PAGE_SIZE);
        arena.prefetch(block).unwrap();
        for _ in 0..3 {
            assert_eq!(engine(&arena).resolver.resolve(page), crate::fault::Resolved::Lost);
        }
        assert_eq!(read(bytes, 2 * PAGE_SIZE), (2 * PAGE_SIZE / 64 % 251) as u8);
    }
}
