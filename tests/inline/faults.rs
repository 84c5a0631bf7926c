//! `errno` and the signal mask across a fault, and simultaneous faults.

use super::block;
use super::common::child::{child_case, in_child, text};
use super::common::pages::{PAGE_BYTES, Pages, eventually, evict};
use super::common::stacks::Mixed;
use super::common::{Setup, inline_setups, quiet, scaled, setups};
use std::os::unix::process::ExitStatusExt;
use std::sync::Barrier;
use std::thread;
use thermocline::FaultMode;

#[test]
fn a_touch_leaves_errno_unchanged() {
    for setup in inline_setups("a_touch_leaves_errno_unchanged") {
        let arena = quiet(setup).build().unwrap();
        let mixed = Mixed::new(&arena);
        for round in 0..scaled(20, 3) {
            arena.evict_now().unwrap();
            for page in 0..1200 {
                let page = if round % 2 == 0 { page } else { page * 7 % 1200 };
                // SAFETY: the thread's own errno.
                let errno = unsafe { libc::__errno_location() };
                // SAFETY: as above.
                unsafe { errno.write(4711 + page as i32) };
                mixed.pages.read(page, 5);
                // SAFETY: as above.
                assert_eq!(unsafe { errno.read() }, 4711 + page as i32, "{setup}");
            }
        }
        assert!(arena.stats().refaults > 100, "{}", arena.stats());
    }
}

#[test]
fn with_sigbus_blocked_inline_faults_end_the_process_and_handler_faults_do_not() {
    const TEST: &str =
        "faults::with_sigbus_blocked_inline_faults_end_the_process_and_handler_faults_do_not";
    let Some(case) = child_case() else {
        for setup in setups(TEST) {
            let output = in_child(TEST, &setup.to_string());
            let wanted = setup.is_inline().then_some(libc::SIGBUS);
            assert_eq!(output.status.signal(), wanted, "{setup}: {}", text(&output));
            assert!(setup.is_inline() || output.status.success(), "{setup}: {}", text(&output));
        }
        return;
    };
    let arena = quiet(Setup::parse(&case)).build().unwrap();
    let pages = Pages::filled(&arena, 500);
    evict(&arena, 500);
    block(libc::SIGBUS);
    // `ensure` raises no fault.
    arena.ensure(pages.part(0, 250)).unwrap();
    assert!((0..250).all(|page| pages.is_right(page)));
    println!("and now a touch");
    pages.verify();
}

#[test]
fn simultaneous_touches_of_one_page_are_one_refault() {
    const THREADS: usize = 32;
    for setup in setups("simultaneous_touches_of_one_page") {
        let arena = quiet(setup).build().unwrap();
        // Far apart, so that no page comes back by readahead.
        let pages = Pages::new(&arena, 64 * 32);
        (0..64).for_each(|page| pages.write(page * 32, 3, (page as u64) << 8 | 5));
        arena.check().unwrap();
        let all = arena.stats().resident_bytes / PAGE_BYTES;
        let rounds = scaled(200, 20);
        let mut stale = 0;
        for round in 0..rounds {
            evict(&arena, all as usize);
            let before = arena.stats().refaults;
            let (barrier, page) = (Barrier::new(THREADS), round * 37 % 64);
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        barrier.wait();
                        let read = pages.read(page * 32, 3);
                        assert_eq!(read, (page as u64) << 8 | 5, "{setup}, {round}");
                    });
                }
            });
            // A handler thread counts a refault a moment after it woke the faulting thread.
            eventually(&arena, "the refault", |stats| stats.refaults > before);
            let stats = arena.stats();
            stale +=
                usize::from((stats.refaults - before, stats.resident_bytes) != (1, PAGE_BYTES));
        }
        // A thread that raises its fault while another's is served does not wait, but leaves a message. A
        // handler thread may serve that after the page was evicted again.
        let most = if setup.fault_mode == FaultMode::Inline { 0 } else { rounds / 10 };
        let stats = arena.stats();
        assert!(stale <= most, "{setup}: {stale} of {rounds} rounds: {stats}");
        assert_eq!(stats.readahead_pages, 0, "{setup}: {stats}");
        arena.check().unwrap();
    }
}
