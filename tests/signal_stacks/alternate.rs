//! How much an inline fault takes of the stack that the kernel chose for the SIGBUS handler.

use super::common::child::{child_case, passes_in_child, text};
use super::common::pages::{PAGE, Pages, evict};
use super::common::signals::{Foreign, install};
use super::common::stacks::{Stack, largest_frame};
use super::common::{Setup, inline_setups, quiet};
use super::{PROMISED, frame, touch_on};
use core::ffi::{c_int, c_void};
use core::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

#[test]
fn the_smallest_stack_without_a_signal_stack_is_large_enough() {
    for setup in inline_setups("the_smallest_stack") {
        // SAFETY: takes a number.
        let least = unsafe { libc::sysconf(libc::_SC_THREAD_STACK_MIN) };
        let least = usize::try_from(least).unwrap_or(0).max(libc::PTHREAD_STACK_MIN);
        // For the C library's data at the top of a stack, and the frames of the thread.
        let own = 8 << 10;
        let len = least.max(largest_frame() + PROMISED + own).next_multiple_of(PAGE);
        touch_on(&Stack::new(len), None, setup);
    }
}

/// Rust's standard library gives each thread an alternate stack of 8 to 12 KiB.
#[test]
fn threads_of_the_standard_library_touch_evicted_pages() {
    for setup in inline_setups("threads_of_the_standard_library") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 500);
        for _ in 0..5 {
            evict(&arena, 500);
            thread::scope(|scope| drop(scope.spawn(|| pages.verify())));
        }
        assert!(arena.stats().refaults > 0);
    }
}

/// [`thermocline::FaultMode::Inline`] promises this.
#[test]
fn serving_a_fault_takes_less_than_a_kib_of_stack_beyond_the_frame() {
    const TEST: &str = "alternate::serving_a_fault_takes_less_than_a_kib_of_stack_beyond_the_frame";
    let Some(case) = child_case() else {
        for setup in inline_setups(TEST) {
            let output = passes_in_child(TEST, &setup.to_string());
            println!("{}", text(&output).lines().find(|l| l.contains("of stack")).unwrap());
        }
        return;
    };
    let frame = frame();
    let alternate = Stack::new(largest_frame() + 2 * PROMISED);
    touch_on(&Stack::new(1 << 20), Some(&alternate), Setup::parse(&case));
    let used = alternate.used().saturating_sub(frame);
    println!("\n{case}: {used} bytes of stack beyond a frame of {frame}");
    assert!(used > 0, "the faults were served on another stack");
    assert!(used <= PROMISED, "{used} bytes beyond a frame of {frame}");
}

/// The address that the handler touches.
static TOUCHED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn touch_a_page(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    let address = TOUCHED.load(Ordering::Relaxed);
    // SAFETY: a word of an arena.
    unsafe { ptr::with_exposed_provenance::<u64>(address).read_volatile() };
    Foreign::lengthen();
}

/// The library passes a signal on to the program's handler, which touches an evicted page. That takes two
/// signal frames, and twice the library's part.
#[test]
fn passing_a_signal_on_takes_less_than_a_kib_of_stack_beyond_the_frame() {
    const TEST: &str =
        "alternate::passing_a_signal_on_takes_less_than_a_kib_of_stack_beyond_the_frame";
    const OWN: usize = 512;
    let Some(case) = child_case() else {
        inline_setups(TEST).iter().for_each(|setup| {
            let output = passes_in_child(TEST, &setup.to_string());
            println!("{}", text(&output).lines().find(|l| l.contains("of stack")).unwrap());
        });
        return;
    };
    let frame = frame();
    let handler = touch_a_page as extern "C" fn(_, _, _) as usize;
    install(libc::SIGBUS, handler, libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER, &[]);
    let arena = quiet(Setup::parse(&case)).build().unwrap();
    let pages = Pages::filled(&arena, 100);
    let foreign = Foreign::new();
    let alternate = Stack::new(2 * (largest_frame() + PROMISED) + (4 << 10));
    for round in 0..20 {
        evict(&arena, 100);
        TOUCHED.store(pages.word(round * 37 % 100, 3).addr(), Ordering::Relaxed);
        Stack::new(1 << 20).run(Some(&alternate), &mut || foreign.touch(round));
        pages.verify();
    }
    assert!(arena.stats().refaults >= 20);
    let used = alternate.used().saturating_sub(2 * frame);
    println!("\n{case}: {used} bytes of stack beyond two frames of {frame}");
    assert!(used > 0 && used <= 2 * PROMISED + OWN, "{used} bytes beyond two frames of {frame}");
}

/// Below a goroutine's stack lies another object, and each thread of Go's runtime has an alternate stack for
/// signals.
#[test]
fn nothing_is_written_below_a_faulting_thread_with_an_alternate_stack() {
    // For the rest of the touching function's frame, and the red zone.
    const OWN: usize = 1 << 10;
    const LEN: usize = 256 << 10;
    for setup in inline_setups("nothing_is_written_below_a_faulting_thread_with_an_alternate_stack")
    {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 500);
        evict(&arena, 500);
        let stack = Stack::new(LEN);
        let (mut wrong, mut depth) = (0, 0);
        stack.run(Some(&Stack::new(64 << 10)), &mut || {
            let here = 0u8;
            depth = stack.depth(&here) + OWN;
            stack.paint_below(depth);
            for page in 0..500 {
                // SAFETY: a word of the arena.
                let read = unsafe { pages.word(page, 3).read_volatile() };
                wrong += usize::from(read != page as u64 + 1);
            }
            depth = stack.used().saturating_sub(depth);
        });
        assert_eq!(wrong, 0, "{setup}");
        assert_eq!(depth, 0, "{setup}: bytes written below the faulting thread's frame");
        assert!(arena.stats().refaults > 0);
    }
}
