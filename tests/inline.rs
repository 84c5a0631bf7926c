//! Faults served by the thread that touched the page, in its handler for SIGBUS.

#![allow(missing_docs, unsafe_code)]

mod common;

use common::child::{child_case, fork, in_child, passes_in_child, text};
use common::pages::{PAGE, Pages, eventually, evict, rounds};
use common::signals::{Foreign, install};
use common::stacks::{Mixed, Stack};
use common::{SetOnDrop, Setup, inline_setups, quiet, scaled, setups};
use core::ffi::{c_int, c_void};
use core::ptr;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::Duration;
use thermocline::{Arena, BuildError, FaultMode, Stats};

/// The signals that the calling thread has blocked, a bit for each.
fn blocked() -> u64 {
    // SAFETY: a set is valid as zeros, and is written by the call.
    let mut set: libc::sigset_t = unsafe { core::mem::zeroed() };
    // SAFETY: changes nothing, for there is no new set.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &raw mut set) };
    // SAFETY: the set is whole.
    let has = |signal| unsafe { libc::sigismember(&raw const set, signal) } == 1;
    (1..=64).filter(|signal| has(*signal)).fold(0, |mask, signal| mask | 1 << (signal - 1))
}

fn block(signal: c_int) {
    // SAFETY: a set is valid as zeros, and of that thread alone.
    unsafe {
        let mut set: libc::sigset_t = core::mem::zeroed();
        libc::sigaddset(&raw mut set, signal);
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()), 0);
    }
}

/// What the handlers of this file have seen.
static CALLS: AtomicUsize = AtomicUsize::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);
static MASK: AtomicU64 = AtomicU64::new(0);
/// Where they read a word themselves, unless zero, and what it was.
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
    // SAFETY: the kernel's, or handed on whole by the arena's handler.
    let (address, code) = unsafe { ((*info).si_addr().addr(), (*info).si_code) };
    ADDRESS.store(address, Ordering::Relaxed);
    CODE.store(code, Ordering::Relaxed);
    one_argument(signal);
}

#[test]
fn what_is_not_ours_reaches_the_handler_that_was_there_before() {
    const TEST: &str = "what_is_not_ours_reaches_the_handler_that_was_there_before";
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
    // How it is where the kernel calls the handler itself.
    let foreign = Foreign::new();
    foreign.touch(1);
    let by_kernel = MASK.load(Ordering::Relaxed);
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
    assert_eq!(by_kernel.count_ones(), if flags & libc::SA_NODEFER == 0 { 4 } else { 3 });

    // Room for a fault that is served while another is passed on.
    let stack = Vec::leak(vec![0u8; 64 << 10]);
    let stack =
        libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: the stack is nobody else's, and is never freed.
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
fn without_a_handler_before_sigbus_does_what_it_would_have_done() {
    const TEST: &str = "without_a_handler_before_sigbus_does_what_it_would_have_done";
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
        panic!("an access that must fail has not");
    }
    // SAFETY: a signal to this process, and one to this thread.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGBUS);
        libc::raise(libc::SIGBUS);
    }
    assert_eq!(before, "ignored", "the signal has not ended the process");
    pages.verify();
}

static OURS: AtomicUsize = AtomicUsize::new(0);
static REPLACED: OnceLock<usize> = OnceLock::new();

/// A handler as a program should install it later: what is not its own goes to the one before.
extern "C" fn later(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's.
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
fn a_handler_installed_later_works_if_it_calls_ours_and_is_spoken_of() {
    const TEST: &str = "a_handler_installed_later_works_if_it_calls_ours_and_is_spoken_of";
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

static RUNG: AtomicUsize = AtomicUsize::new(0);

/// Touches pages, as a program's handler may, and in the order in which they are being brought back.
extern "C" fn rung(_: c_int) {
    let start = READ_AT.load(Ordering::Relaxed);
    let rung = RUNG.fetch_add(1, Ordering::Relaxed);
    for page in [rung % 2000, rung * 7919 % 2000] {
        // SAFETY: a word of a page of the arena.
        unsafe { ptr::with_exposed_provenance::<u64>(start + page * PAGE).read_volatile() };
    }
}

/// A program's handler that calls ours need not have thought of the signals that may come while ours
/// owns a page.
#[test]
fn a_handler_that_calls_ours_may_be_interrupted_by_one_that_touches_pages() {
    const TEST: &str = "a_handler_that_calls_ours_may_be_interrupted_by_one_that_touches_pages";
    let Some(case) = child_case() else {
        for setup in inline_setups(TEST) {
            passes_in_child(TEST, &setup.to_string());
        }
        return;
    };
    // SAFETY: whoever waits for a page that it owns itself waits for ever; this ends it.
    unsafe { libc::alarm(120) };
    let arena = quiet(Setup::parse(&case)).build().unwrap();
    let pages = Pages::filled(&arena, 2000);
    let handler = later as extern "C" fn(_, _, _) as usize;
    let flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    let replaced = install(libc::SIGBUS, handler, flags, &[]);
    REPLACED.set(replaced.sa_sigaction).unwrap();
    READ_AT.store(pages.address, Ordering::Relaxed);
    install(libc::SIGUSR1, rung as extern "C" fn(_) as usize, libc::SA_RESTART, &[]);
    let (toucher, over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let thread = toucher.load(Ordering::Relaxed);
                if thread != 0 {
                    // SAFETY: the thread lives until this one is told that it is over.
                    unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
                }
                thread::sleep(Duration::from_micros(20));
            }
        });
        let _over = SetOnDrop(&over);
        // Room for handlers that interrupt each other, which is none of what is tested.
        let (stack, signals) = (Stack::new(1 << 20), Stack::new(1 << 20));
        let mut wrong = 0;
        stack.run(Some(&signals), &mut || {
            // SAFETY: takes nothing.
            toucher.store(unsafe { libc::pthread_self() }, Ordering::Relaxed);
            for _ in 0..scaled(200, 10) {
                arena.evict_now().unwrap();
                wrong += (0..2000).filter(|page| !pages.is_right(*page)).count();
            }
            block(libc::SIGUSR1);
            toucher.store(0, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(20));
        });
        assert_eq!(wrong, 0);
    });
    assert!(RUNG.load(Ordering::Relaxed) > 10);
}

#[test]
fn errno_is_as_before_the_touch() {
    for setup in inline_setups("errno_is_as_before_the_touch") {
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
fn with_sigbus_blocked_an_inline_fault_ends_the_process_and_no_other_does() {
    const TEST: &str = "with_sigbus_blocked_an_inline_fault_ends_the_process_and_no_other_does";
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
    // What is asked for is no fault.
    arena.ensure(pages.part(0, 250)).unwrap();
    assert!((0..250).all(|page| pages.is_right(page)));
    println!("and now a touch");
    pages.verify();
}

#[test]
fn as_many_inline_arenas_as_there_can_be() {
    const TEST: &str = "as_many_inline_arenas_as_there_can_be";
    const MOST: usize = 256;
    let Some(case) = child_case() else {
        for setup in inline_setups(TEST) {
            let output = passes_in_child(TEST, &setup.to_string());
            if let Some(line) = text(&output).lines().find(|line| line.starts_with("SKIPPED")) {
                eprintln!("{line}");
            }
        }
        return;
    };
    // SAFETY: changes a limit of this process alone.
    let files = unsafe {
        let mut limit: libc::rlimit = core::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max.min(1 << 14);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
        limit.rlim_cur
    };
    if files < 10 * MOST as u64 {
        common::skip(TEST, "files", &format!("only {files} files may be open at a time"));
        return;
    }
    let setup = Setup::parse(&case);
    let small = |mode| quiet(setup).reserve(2 << 20).store_limit(1 << 20).fault_mode(mode).build();
    let mut arenas: Vec<Arena> = (0..MOST).map(|_| small(FaultMode::Inline).unwrap()).collect();
    let error = small(FaultMode::Inline).unwrap_err();
    assert_eq!(error, BuildError::TooManyInline { most: MOST });
    let said = error.to_string();
    assert!(said.contains("256") && said.contains("FaultMode::Handler"), "{said}");

    let works = |arena: &Arena| {
        let pages = Pages::filled(arena, 64);
        evict(arena, 64);
        pages.verify();
        pages.free();
    };
    works(&small(FaultMode::Handler).unwrap());
    [0, 100, MOST - 1].iter().for_each(|i| works(&arenas[*i]));
    drop(arenas.swap_remove(100));
    for _ in 0..3 {
        works(&small(FaultMode::Inline).unwrap());
    }
    arenas.push(small(FaultMode::Inline).unwrap());
    works(&arenas[MOST - 1]);
    assert!(matches!(small(FaultMode::Inline), Err(BuildError::TooManyInline { .. })));
    // A child has none of them, and as much room as any process.
    let status = fork(|| {
        let own: Vec<Arena> = (0..3).map(|_| small(FaultMode::Inline).unwrap()).collect();
        own.iter().for_each(works);
        0
    });
    assert!(status.success(), "{status:?}");
    // A stopped arena has touchers no more, but keeps its place until it is dropped.
    arenas[7].stop().unwrap();
    drop(arenas);
    works(&small(FaultMode::Inline).unwrap());
}

#[test]
fn auto_is_inline_where_only_user_code_can_be_served_and_handler_elsewhere() {
    const TEST: &str = "auto_is_inline_where_only_user_code_can_be_served_and_handler_elsewhere";
    let check = |needs: Option<FaultMode>| {
        let arena = Arena::builder().reserve(64 << 20).build().unwrap();
        let route = arena.route().unwrap();
        let privileged = route.serves_system_calls();
        let mode = if privileged { FaultMode::Handler } else { FaultMode::Inline };
        assert_eq!(arena.fault_mode(), Some(mode), "{route}");
        assert_eq!(arena.serves_system_calls(), privileged);
        if let Some(needs) = needs {
            assert_eq!(mode, needs, "{route}");
        }
        let pages = Pages::filled(&arena, 300);
        evict(&arena, 300);
        pages.verify();
    };
    if setups(TEST).is_empty() {
        return;
    }
    if child_case().is_none() {
        // SAFETY: takes nothing.
        let root = unsafe { libc::geteuid() } == 0;
        check(root.then_some(FaultMode::Handler));
        passes_in_child(TEST, "nobody");
        return;
    }
    // SAFETY: changes the credentials of this process alone. A change of them takes the process's
    // own pagemap away from it.
    unsafe {
        if libc::getuid() == 0 {
            assert_eq!(libc::setgroups(0, ptr::null()), 0);
            assert_eq!(libc::setresgid(65534, 65534, 65534), 0);
            assert_eq!(libc::setresuid(65534, 65534, 65534), 0);
        }
        assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0), 0);
    }
    let open = std::fs::OpenOptions::new().read(true).write(true).open("/dev/userfaultfd").is_ok();
    let setting = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd");
    let privileged = open || setting.is_ok_and(|setting| setting.trim() == "1");
    check(Some(if privileged { FaultMode::Handler } else { FaultMode::Inline }));
}

#[test]
fn many_threads_that_touch_one_page_at_once_are_one_refault() {
    const THREADS: usize = 32;
    for setup in setups("many_threads_that_touch_one_page") {
        let arena = quiet(setup).build().unwrap();
        // Far apart, so that none is brought along.
        let pages = Pages::new(&arena, 64 * 32);
        (0..64).for_each(|page| pages.write(page * 32, 3, (page as u64) << 8 | 5));
        arena.check().unwrap();
        let all = arena.stats().resident_bytes / PAGE;
        let rounds = scaled(200, 20);
        for round in 0..rounds {
            evict(&arena, all);
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
            // A handler counts what it has done a moment later.
            eventually(&arena, "the refault", |stats| stats.refaults > round as u64);
            assert_eq!(arena.stats().resident_bytes, PAGE, "{setup}");
        }
        let stats = arena.stats();
        assert_eq!((stats.refaults, stats.readahead_pages), (rounds as u64, 0), "{setup}: {stats}");
        arena.check().unwrap();
    }
}

#[test]
fn arenas_come_and_go_while_threads_fault_in_another() {
    for setup in inline_setups("arenas_come_and_go") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 2000);
        let (over, wrong) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for number in 0..3 {
                let (over, wrong) = (&over, &wrong);
                scope.spawn(move || {
                    let mut page = number * 501;
                    while !over.load(Ordering::Relaxed) {
                        page = (page + 7919) % 2000;
                        wrong.fetch_add(usize::from(!pages.is_right(page)), Ordering::Relaxed);
                        if page.is_multiple_of(16) {
                            // What is touched all the time is never evicted.
                            thread::sleep(Duration::from_millis(scaled(1, 10)));
                        }
                    }
                });
            }
            let _over = SetOnDrop(&over);
            let is_enough = |stats: &Stats| stats.refaults > 1000;
            for round in rounds(&arena, scaled(60, 8), "refaults", is_enough) {
                let other = quiet(setup).build().unwrap();
                let others = Pages::filled(&other, 500);
                arena.evict_now().unwrap();
                evict(&other, 500);
                thread::scope(|scope| {
                    let (left, right) = (0..250, 250..500);
                    scope.spawn(|| left.for_each(|page| assert!(others.is_right(page))));
                    scope.spawn(|| right.for_each(|page| assert!(others.is_right(page))));
                    if round % 2 == 0 {
                        other.stop().unwrap();
                    }
                });
                arena.evict_now().unwrap();
            }
        });
        assert_eq!(wrong.into_inner(), 0, "{setup}");
        pages.verify();
        arena.check().unwrap();
    }
}

/// Whether there is any memory of this process at an address.
fn is_mapped(address: usize) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let number = |text| usize::from_str_radix(text, 16).unwrap();
    maps.lines().any(|line| {
        let (start, rest) = line.split_once('-').unwrap();
        let end = rest.split(' ').next().unwrap();
        (number(start)..number(end)).contains(&address)
    })
}

#[test]
fn a_forked_child_serves_itself_and_the_parents_memory_is_sigsegv() {
    for setup in inline_setups("a_forked_child_serves_itself") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 500);
        evict(&arena, 500);
        for touches in [false, true] {
            let status = fork(|| {
                // So small that it leaves most of the room where the parent's lay.
                let own = quiet(setup).reserve(64 << 20).store_limit(1 << 20).build().unwrap();
                let own_pages = Pages::filled(&own, 500);
                for _ in 0..5 {
                    evict(&own, 500);
                    own_pages.verify();
                }
                assert!(own.stats().refaults > 0);
                if touches {
                    assert!(!is_mapped(pages.address), "something else is there");
                    pages.read(0, 3);
                    return 1;
                }
                drop(own);
                0
            });
            let wanted = if touches { (Some(libc::SIGSEGV), None) } else { (None, Some(0)) };
            assert_eq!((status.signal(), status.code()), wanted, "{setup}: {status:?}");
        }
        pages.verify();
        evict(&arena, 500);
        pages.verify();
    }
}
