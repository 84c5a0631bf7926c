//! SIGBUS handlers that the program installs before and after the library's own.

use super::block;
use super::common::child::{child_case, in_child, passes_in_child, text};
use super::common::pages::{PAGE, Pages, evict};
use super::common::signals::{Foreign, install};
use super::common::stacks::Stack;
use super::common::{SetOnDrop, Setup, inline_setups, quiet, scaled};
use core::ffi::{c_int, c_void};
use core::ptr;
use std::os::unix::process::ExitStatusExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// The blocked signals of the calling thread, one bit each.
fn blocked() -> u64 {
    // SAFETY: a set is valid as zeros, and is written by the call.
    let mut set: libc::sigset_t = unsafe { core::mem::zeroed() };
    // SAFETY: without a new set the call changes nothing.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &raw mut set) };
    // SAFETY: the set is whole.
    let has = |signal| unsafe { libc::sigismember(&raw const set, signal) } == 1;
    (1..=64).filter(|signal| has(*signal)).fold(0, |mask, signal| mask | 1 << (signal - 1))
}

/// Results of the handlers in this file.
static CALLS: AtomicUsize = AtomicUsize::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);
static MASK: AtomicU64 = AtomicU64::new(0);
/// The address of a word that they read themselves, or zero; and the word.
static READ_AT: AtomicUsize = AtomicUsize::new(0);
static READ: AtomicU64 = AtomicU64::new(0);

extern "C" fn one_argument(signal: c_int) {
    assert_eq!(signal, libc::SIGBUS);
    MASK.store(blocked(), Ordering::Relaxed);
    CALLS.fetch_add(1, Ordering::Relaxed);
    let at = READ_AT.load(Ordering::Relaxed);
    if at != 0 {
        // SAFETY: a word of an arena.
        let read = unsafe { ptr::with_exposed_provenance::<u64>(at).read_volatile() };
        READ.store(read, Ordering::Relaxed);
    }
    Foreign::lengthen();
}

extern "C" fn three_arguments(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: from the kernel, or passed on unchanged by the arena's handler.
    let (address, code) = unsafe { ((*info).si_addr().addr(), (*info).si_code) };
    ADDRESS.store(address, Ordering::Relaxed);
    CODE.store(code, Ordering::Relaxed);
    one_argument(signal);
}

#[test]
fn a_foreign_sigbus_reaches_the_previous_handler() {
    const TEST: &str = "handlers::a_foreign_sigbus_reaches_the_previous_handler";
    const KINDS: [(&str, c_int); 4] = [
        ("one argument", 0),
        ("one argument, may be nested", libc::SA_NODEFER),
        ("three arguments", libc::SA_SIGINFO),
        ("three arguments, may be nested", libc::SA_SIGINFO | libc::SA_NODEFER),
    ];
    let Some(case) = child_case() else {
        for setup in inline_setups(TEST) {
            KINDS
                .iter()
                .for_each(|(kind, _)| drop(passes_in_child(TEST, &format!("{setup} {kind}"))));
        }
        return;
    };
    let (setup, kind) = case.split_once(' ').unwrap();
    let flags = KINDS.iter().find(|(name, _)| *name == kind).unwrap().1;
    let handler = if flags & libc::SA_SIGINFO == 0 {
        one_argument as extern "C" fn(_) as usize
    } else {
        three_arguments as extern "C" fn(_, _, _) as usize
    };
    install(libc::SIGBUS, handler, flags, &[libc::SIGUSR1, libc::SIGRTMAX()]);
    block(libc::SIGUSR2);
    let outside = blocked();
    // The reference: the kernel calls the handler itself.
    let foreign = Foreign::new();
    foreign.touch(1);
    let by_kernel = MASK.load(Ordering::Relaxed);
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
    assert_eq!(by_kernel.count_ones(), if flags & libc::SA_NODEFER == 0 { 4 } else { 3 });

    // Room for a fault that is served inside a handler to which a signal was passed on.
    let stack = Vec::leak(vec![0u8; 64 << 10]);
    let stack =
        libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: the stack has no other user and is never freed.
    assert_eq!(unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) }, 0);
    let arena = quiet(Setup::parse(setup)).build().unwrap();
    let pages = Pages::filled(&arena, 500);
    for round in 0..100 {
        if round % 10 == 0 {
            evict(&arena, 500);
        }
        if flags & libc::SA_NODEFER != 0 {
            READ_AT.store(pages.word(round + 200, 3).addr(), Ordering::Relaxed);
        }
        MASK.store(0, Ordering::Relaxed);
        foreign.touch(round * 8 + 5);
        assert_eq!(CALLS.load(Ordering::Relaxed), round + 2);
        assert_eq!(MASK.load(Ordering::Relaxed), by_kernel);
        assert_eq!(blocked(), outside);
        if flags & libc::SA_SIGINFO != 0 {
            assert_eq!(ADDRESS.load(Ordering::Relaxed), foreign.address + round * 8 + 5);
            assert_eq!(CODE.load(Ordering::Relaxed), libc::BUS_ADRERR);
        }
        if flags & libc::SA_NODEFER != 0 {
            assert_eq!(READ.load(Ordering::Relaxed), round as u64 + 201);
        }
        assert!(pages.is_right(round * 3) && pages.is_right(round * 5));
        assert_eq!(blocked(), outside);
    }
    assert!(arena.stats().refaults >= 100, "{}", arena.stats());
    pages.verify();
}

#[test]
fn a_foreign_sigbus_without_a_previous_handler_acts_as_without_the_library() {
    const TEST: &str =
        "handlers::a_foreign_sigbus_without_a_previous_handler_acts_as_without_the_library";
    let Some(case) = child_case() else {
        for setup in inline_setups(TEST) {
            for (case, dies) in [
                ("default, accessed", true),
                ("ignored, accessed", true),
                ("default, sent", true),
                ("ignored, sent", false),
            ] {
                let output = in_child(TEST, &format!("{setup} {case}"));
                let wanted = dies.then_some(libc::SIGBUS);
                assert_eq!(output.status.signal(), wanted, "{setup} {case}: {}", text(&output));
                assert!(dies || output.status.success(), "{setup} {case}: {}", text(&output));
            }
        }
        return;
    };
    let (setup, case) = case.split_once(' ').unwrap();
    let (before, what) = case.split_once(", ").unwrap();
    let action = if before == "ignored" { libc::SIG_IGN } else { libc::SIG_DFL };
    install(libc::SIGBUS, action, 0, &[]);
    let arena = quiet(Setup::parse(setup)).build().unwrap();
    let pages = Pages::filled(&arena, 500);
    evict(&arena, 500);
    pages.verify();
    evict(&arena, 500);
    if what == "accessed" {
        Foreign::new().touch(7);
        panic!("an access beyond the end of a file succeeded");
    }
    // SAFETY: a signal to this process, and one to this thread.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGBUS);
        libc::raise(libc::SIGBUS);
    }
    assert_eq!(before, "ignored", "the process survived SIGBUS");
    pages.verify();
}

static OURS: AtomicUsize = AtomicUsize::new(0);
static REPLACED: OnceLock<usize> = OnceLock::new();

/// A handler that a program installs later, as documented: it calls the replaced handler for addresses
/// that are not its own.
extern "C" fn later(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: from the kernel.
    let address = unsafe { (*info).si_addr() }.addr();
    let ours = OURS.load(Ordering::Relaxed);
    if (ours..ours + PAGE).contains(&address) {
        return three_arguments(signal, info, context);
    }
    let replaced = REPLACED.get().copied().unwrap_or_default();
    // SAFETY: the arena's handler, which has three arguments.
    let replaced: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
        unsafe { core::mem::transmute(replaced) };
    replaced(signal, info, context);
}

#[test]
fn a_later_handler_that_calls_ours_works_and_is_reported_once() {
    const TEST: &str = "handlers::a_later_handler_that_calls_ours_works_and_is_reported_once";
    let Some(case) = child_case() else {
        for setup in inline_setups(TEST) {
            for (case, times) in [("later", 1), ("none", 0)] {
                let output = passes_in_child(TEST, &format!("{setup} {case}"));
                let said = text(&output).matches("another handler for SIGBUS").count();
                assert_eq!(said, times, "{setup} {case}: {}", text(&output));
            }
        }
        return;
    };
    let (setup, case) = case.split_once(' ').unwrap();
    let builder = quiet(Setup::parse(setup)).scan_interval(Duration::from_millis(1));
    let arena = builder.cold_age(Duration::from_secs(500)).build().unwrap();
    let pages = Pages::filled(&arena, 500);
    let foreign = Foreign::new();
    if case == "later" {
        let all: Vec<c_int> = (1..32).collect();
        let handler = later as extern "C" fn(_, _, _) as usize;
        OURS.store(foreign.address, Ordering::Relaxed);
        let replaced = install(libc::SIGBUS, handler, libc::SA_SIGINFO | libc::SA_ONSTACK, &all);
        assert_ne!(replaced.sa_flags & libc::SA_SIGINFO, 0);
        REPLACED.set(replaced.sa_sigaction).unwrap();
    }
    let cycles = arena.stats().scans;
    let mut round = 0;
    while round < 20 || arena.stats().scans < cycles + 10 {
        arena.evict_now().unwrap();
        pages.verify();
        if case == "later" {
            foreign.touch(round % PAGE);
            assert_eq!(ADDRESS.load(Ordering::Relaxed), foreign.address + round % PAGE);
        }
        round += 1;
    }
    assert_eq!(CALLS.load(Ordering::Relaxed), if case == "later" { round } else { 0 });
    assert!(arena.stats().refaults > 500, "{}", arena.stats());
}

static INTERRUPTS: AtomicUsize = AtomicUsize::new(0);

/// Touches two pages: one in the order in which the faulting thread restores them, and one at random.
extern "C" fn touch_two_pages(_: c_int) {
    let start = READ_AT.load(Ordering::Relaxed);
    let call = INTERRUPTS.fetch_add(1, Ordering::Relaxed);
    for page in [call % 2000, call * 7919 % 2000] {
        // SAFETY: a word of a page of the arena.
        unsafe { ptr::with_exposed_provenance::<u64>(start + page * PAGE).read_volatile() };
    }
}

/// A program's handler that calls ours may leave signals unblocked: our handler blocks them while it
/// owns a page.
#[test]
fn a_later_handler_that_calls_ours_may_be_interrupted_by_one_that_touches_pages() {
    const TEST: &str =
        "handlers::a_later_handler_that_calls_ours_may_be_interrupted_by_one_that_touches_pages";
    let Some(case) = child_case() else {
        for setup in inline_setups(TEST) {
            passes_in_child(TEST, &setup.to_string());
        }
        return;
    };
    // SAFETY: takes a number. The alarm ends a process in which a thread waits for a page of its own.
    unsafe { libc::alarm(120) };
    let arena = quiet(Setup::parse(&case)).build().unwrap();
    let pages = Pages::filled(&arena, 2000);
    let handler = later as extern "C" fn(_, _, _) as usize;
    let flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    let replaced = install(libc::SIGBUS, handler, flags, &[]);
    REPLACED.set(replaced.sa_sigaction).unwrap();
    READ_AT.store(pages.address, Ordering::Relaxed);
    let interrupt = touch_two_pages as extern "C" fn(_) as usize;
    install(libc::SIGUSR1, interrupt, libc::SA_RESTART, &[]);
    let (faulting, over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let thread = faulting.load(Ordering::Relaxed);
                if thread != 0 {
                    // SAFETY: the thread outlives this loop.
                    unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
                }
                thread::sleep(Duration::from_micros(20));
            }
        });
        let _over = SetOnDrop(&over);
        // Room for handlers that interrupt each other: stack use is not tested here.
        let (stack, signals) = (Stack::new(1 << 20), Stack::new(1 << 20));
        let mut wrong = 0;
        stack.run(Some(&signals), &mut || {
            // SAFETY: takes nothing.
            faulting.store(unsafe { libc::pthread_self() }, Ordering::Relaxed);
            for _ in 0..scaled(200, 10) {
                arena.evict_now().unwrap();
                wrong += (0..2000).filter(|page| !pages.is_right(*page)).count();
            }
            block(libc::SIGUSR1);
            faulting.store(0, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(20));
        });
        assert_eq!(wrong, 0);
    });
    assert!(INTERRUPTS.load(Ordering::Relaxed) > 10);
}
