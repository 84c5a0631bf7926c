//! The arena and its process: fork, system calls, missing rights and features, signals, cancellation.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs, unsafe_code)]

mod common;

use allocator_api2::vec::Vec as AVec;
use common::child::{child_case, forbid_userfaultfd, fork, in_child, text};
use common::{Setup, quiet, setups};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::process::Output;
use std::time::Duration;
use thermocline::{Arena, ArenaError, BuildError, Swapping, Tracker};

fn arena_with_numbers(setup: Setup) -> (Arena, *const u64) {
    let arena = quiet(setup).build().unwrap();
    let mut numbers = AVec::with_capacity_in(1 << 16, arena.clone());
    numbers.extend(0..1u64 << 16);
    let (pointer, _, _, _) = numbers.into_raw_parts_with_alloc();
    (arena, pointer)
}

fn number(numbers: *const u64, at: usize) -> u64 {
    assert!(at < 1 << 16);
    // SAFETY: within the numbers. In a forked child the read ends the child.
    unsafe { numbers.add(at).read_volatile() }
}

#[test]
fn a_forked_child_gets_sigsegv_and_never_other_bytes() {
    for setup in setups("a_forked_child_gets_sigsegv") {
        for evicted in [false, true] {
            let (arena, numbers) = arena_with_numbers(setup);
            if evicted {
                arena.evict_now().unwrap();
            }
            let status = fork(|| if number(numbers, 5) == 5 { 1 } else { 2 });
            assert_eq!(status.signal(), Some(libc::SIGSEGV), "{setup}: {status:?}");
            assert_eq!(number(numbers, 40_000), 40_000, "the parent's numbers");
        }
    }
}

#[test]
fn calls_in_a_forked_child_return_errors() {
    for setup in setups("calls_in_a_forked_child_return_errors") {
        let (arena, numbers) = arena_with_numbers(setup);
        let status = fork(|| {
            let mut refused = 0;
            refused += i32::from(AVec::<u8, _>::new_in(&arena).try_reserve(100).is_err());
            refused += i32::from(arena.evict_now() == Err(ArenaError::ForkedChild));
            refused += i32::from(arena.stop() == Err(ArenaError::ForkedChild));
            drop(arena.clone());
            refused
        });
        assert_eq!(status.code(), Some(3), "{setup}: {status:?}");
        let other = quiet(setup).build().unwrap();
        // A drop in the child neither hangs nor releases the parent's memory.
        let status = fork(move || {
            drop(other);
            0
        });
        assert_eq!(status.code(), Some(0), "{setup}: {status:?}");
        arena.evict_now().unwrap();
        assert_eq!(number(numbers, 60_000), 60_000);
    }
}

#[test]
fn a_forked_child_may_build_an_arena() {
    for setup in setups("a_forked_child_may_build_an_arena") {
        let (_arena, _) = arena_with_numbers(setup);
        let status = fork(|| {
            let (arena, numbers) = arena_with_numbers(setup);
            arena.evict_now().unwrap();
            i32::from(number(numbers, 1000) != 1000)
        });
        assert_eq!(status.code(), Some(0), "{setup}: {status:?}");
    }
}

#[test]
fn programs_can_be_run_while_pages_are_evicted() {
    for setup in setups("programs_can_be_run") {
        let (arena, numbers) = arena_with_numbers(setup);
        for _ in 0..5 {
            arena.evict_now().unwrap();
            assert!(Command::new("/bin/true").status().unwrap().success());
            assert_eq!(number(numbers, 333), 333);
        }
    }
}

/// `read(2)` into evicted pages, and `write(2)` from them.
#[test]
fn system_calls_on_evicted_pages_are_served_or_fail_with_efault() {
    for setup in setups("system_calls_on_evicted_pages_are_served_or_fail_with_efault") {
        let (arena, numbers) = arena_with_numbers(setup);
        arena.evict_now().unwrap();
        let mut pipe = [0; 2];
        // SAFETY: room for two descriptors.
        assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
        // SAFETY: writes eight bytes of the arena, resident or not.
        let write = |at: usize| unsafe { libc::write(pipe[1], numbers.add(at).cast(), 8) };
        // SAFETY: reads over a number of the arena, which no other thread uses.
        let read = |at: usize| unsafe { libc::read(pipe[0], numbers.add(at).cast_mut().cast(), 8) };
        if arena.serves_system_calls() {
            assert_eq!(write(0), 8, "{setup}: {}", std::io::Error::last_os_error());
            assert_eq!((read(10_000), number(numbers, 10_000)), (8, 0));
        } else {
            let written = write(0);
            let error = std::io::Error::last_os_error().raw_os_error();
            assert_eq!((written, error), (-1, Some(libc::EFAULT)), "{setup}");
            // After a touch, or `ensure`, the calls succeed.
            assert_eq!(number(numbers, 0), 0);
            assert_eq!(write(0), 8);
            assert_eq!(read(10_000), -1, "{setup}");
            arena.ensure(core::ptr::slice_from_raw_parts(numbers.wrapping_add(10_000), 1)).unwrap();
            assert_eq!((read(10_000), number(numbers, 10_000)), (8, 0));
        }
        let privileged = arena.route().unwrap().serves_system_calls();
        assert_eq!(arena.serves_system_calls(), privileged && !setup.is_inline());
        for fd in pipe {
            // SAFETY: our own descriptors.
            unsafe { libc::close(fd) };
        }
    }
}

/// System calls succeed on resident pages, armed or not, in each fault mode, with and without privileges.
#[test]
fn system_calls_on_armed_pages_succeed() {
    for setup in setups("system_calls_on_armed_pages_succeed") {
        let interval = Duration::from_millis(1);
        let builder = quiet(setup).scan_interval(interval);
        let arena = builder.cold_age(Duration::from_secs(500)).build().unwrap();
        let mut bytes = AVec::with_capacity_in(1 << 20, &arena);
        bytes.resize(1 << 20, 7u8);
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        for round in 0..300usize {
            use std::io::{Read, Write};
            let at = round * 4096 % (1 << 20);
            writer.write_all(&bytes[at..at + 100]).unwrap();
            reader.read_exact(&mut bytes[at..at + 100]).unwrap();
            std::thread::sleep(interval / 4);
        }
        assert!(bytes.iter().all(|byte| *byte == 7));
        assert_eq!(arena.stats().faults, 0, "{}", arena.stats());
    }
}

#[test]
fn without_userfaultfd_build_names_the_remedy_or_gives_plain_memory() {
    const TEST: &str = "without_userfaultfd_build_names_the_remedy_or_gives_plain_memory";
    if child_case().is_none() {
        let output = in_child(TEST, "forbidden");
        assert!(output.status.success(), "{}", text(&output));
        return;
    }
    forbid_userfaultfd();
    let probe = thermocline::probe();
    assert!(!probe.can_swap() && probe.route().is_none(), "{probe}");
    let error = Arena::builder().build().unwrap_err();
    let BuildError::NoUserfaultfd { device, system_call, remedy } = &error else {
        panic!("{error:?}")
    };
    assert!(matches!(device.errno(), libc::EACCES | libc::ENOENT), "{device}");
    assert_eq!(system_call.errno(), libc::EPERM);
    assert!(remedy.contains("seccomp") && remedy.contains("/dev/userfaultfd"), "{remedy}");
    assert!(error.to_string().contains(remedy));

    let arena = Arena::builder().plain_memory_fallback(true).reserve(64 << 20).build().unwrap();
    assert_eq!(arena.swapping(), Swapping::Off(error));
    assert_eq!(arena.evict_now(), Err(ArenaError::NotSwapping));
    let mut numbers = AVec::new_in(&arena);
    numbers.extend(0..1_000_000u64);
    assert!(numbers.iter().enumerate().all(|(n, number)| *number == n as u64));
    assert!(arena.stats().memory_bytes >= 8_000_000);
    drop(numbers);
    arena.trim();
    assert_eq!(arena.stats().memory_bytes, 0, "plain memory is released after a trim");
    arena.check().unwrap();
}

/// `plain_memory_fallback` is for missing features of the system only.
#[test]
fn plain_memory_fallback_does_not_hide_bad_options() {
    let error = Arena::builder().reserve(1).plain_memory_fallback(true).build().unwrap_err();
    assert!(matches!(error, BuildError::InvalidOption { option: "reserve", .. }), "{error}");
}

#[test]
fn a_missing_tracker_is_refused_with_the_remedy() {
    let probe = thermocline::probe();
    if probe.can_rwp() || !probe.can_zap() {
        let reason = "every tracker works here, or none";
        common::skip("a_missing_tracker_is_refused_with_the_remedy", "-rwp", reason);
        return;
    }
    let error = quiet(Setup::parse("rwp/handler")).build().unwrap_err();
    assert!(matches!(error, BuildError::TrackerUnavailable { tracker: Tracker::Rwp, .. }));
    assert!(error.to_string().contains("Linux 7.3"), "{error}");
    let arena = quiet(Setup::parse("rwp/handler")).plain_memory_fallback(true).build().unwrap();
    assert!(matches!(arena.swapping(), Swapping::Off(_)));
    assert_eq!(
        quiet(Setup::parse("zap/handler")).build().unwrap().swapping(),
        Swapping::On(Tracker::Zap)
    );
}

/// The rwp tracker needs locked memory.
#[test]
fn without_locked_memory_the_default_is_zap() {
    const TEST: &str = "without_locked_memory_the_default_is_zap";
    if child_case().is_none() {
        let output = in_child(TEST, "no locked memory");
        assert!(output.status.success(), "{}", text(&output));
        return;
    }
    if !thermocline::probe().can_rwp() {
        common::skip(TEST, "rwp", "this kernel has no read-write protection");
        return;
    }
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: changes a limit, and then the credentials, of this process alone.
    unsafe {
        assert_eq!(libc::setrlimit(libc::RLIMIT_MEMLOCK, &none), 0);
        if libc::getuid() == 0 {
            assert_eq!(libc::setgid(65534), 0);
            assert_eq!(libc::setuid(65534), 0);
        }
        // After a change of credentials the process may not open its own pagemap until it is dumpable.
        assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0), 0);
    }
    let error = quiet(Setup::parse("rwp/handler")).build().unwrap_err();
    assert!(error.to_string().contains("RLIMIT_MEMLOCK"), "{error}");
    let arena = Arena::builder().reserve(64 << 20).build().unwrap();
    assert_eq!(arena.swapping(), Swapping::On(Tracker::Zap));
}

/// The limit must not end the process by SIGXFSZ.
#[test]
fn too_small_a_file_size_limit_is_an_error() {
    const TEST: &str = "too_small_a_file_size_limit_is_an_error";
    if child_case().is_none() {
        let output = in_child(TEST, "small");
        assert!(output.status.success(), "{:?} {}", output.status, text(&output));
        return;
    }
    let small = libc::rlimit { rlim_cur: 1 << 30, rlim_max: 1 << 30 };
    // SAFETY: changes a limit of this process alone.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &small) }, 0);
    let error = Arena::builder().reserve(2 << 30).plain_memory_fallback(true).build().unwrap_err();
    assert!(error.to_string().contains("RLIMIT_FSIZE"), "{error}");
}

#[test]
fn signal_handlers_may_touch_evicted_memory() {
    use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
    static NUMBERS: AtomicPtr<u64> = AtomicPtr::new(core::ptr::null_mut());
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    static WRONG: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn handler(_: libc::c_int) {
        let numbers = NUMBERS.load(Ordering::Relaxed);
        if !numbers.is_null() {
            let at = SEEN.fetch_add(1, Ordering::Relaxed) * 7919 % (1 << 16);
            if number(numbers, at) != at as u64 {
                WRONG.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    const TEST: &str = "signal_handlers_may_touch_evicted_memory";
    if let Some(case) = child_case() {
        let setup = Setup::parse(&case);
        let (arena, numbers) = arena_with_numbers(setup);
        // SAFETY: the handler only reads memory and adds to atomics; the timer belongs to this process.
        unsafe {
            let mut action: libc::sigaction = core::mem::zeroed();
            action.sa_sigaction = handler as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            assert_eq!(libc::sigaction(libc::SIGALRM, &action, core::ptr::null_mut()), 0);
            let often = libc::timeval { tv_sec: 0, tv_usec: 200 };
            let timer = libc::itimerval { it_interval: often, it_value: often };
            NUMBERS.store(numbers.cast_mut(), Ordering::Relaxed);
            assert_eq!(libc::setitimer(libc::ITIMER_REAL, &timer, core::ptr::null_mut()), 0);
        }
        let all = core::ptr::slice_from_raw_parts(numbers, 1 << 16);
        for round in 0..common::scaled(300, 40) {
            arena.evict_now().unwrap();
            arena.prefetch(all).unwrap();
            let mut other = AVec::with_capacity_in(100_000 + round, &arena);
            other.resize(100_000, round as u8);
            drop(other);
        }
        NUMBERS.store(core::ptr::null_mut(), Ordering::Relaxed);
        assert!(SEEN.load(Ordering::Relaxed) > 10);
        assert_eq!(WRONG.load(Ordering::Relaxed), 0);
        return;
    }
    for setup in setups(TEST) {
        let output = in_child(TEST, &setup.to_string());
        assert!(output.status.success(), "{setup}: {:?} {}", output.status, text(&output));
    }
}

/// Runs `test` in a child for each tracker with inline faults, and returns the outputs.
fn inline_children(test: &str, case: &str) -> Vec<(Setup, Output)> {
    let inline = setups(test).into_iter().filter(|setup| setup.is_inline());
    inline.map(|setup| (setup, in_child(test, &format!("{setup} {case}")))).collect()
}

/// The setup and the case of this child of [`inline_children`].
fn inline_case() -> Option<(Setup, String)> {
    let case = child_case()?;
    let (setup, case) = case.split_once(' ').unwrap();
    Some((Setup::parse(setup), case.to_owned()))
}

/// Installs a handler and returns the previous action.
fn install(signal: libc::c_int, handler: usize, flags: libc::c_int) -> libc::sigaction {
    // SAFETY: both actions are whole; zero is an empty mask.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        let mut before: libc::sigaction = core::mem::zeroed();
        (action.sa_sigaction, action.sa_flags) = (handler, flags);
        assert_eq!(libc::sigaction(signal, &raw const action, &raw mut before), 0);
        before
    }
}

/// Touches a page beyond the end of a file: a SIGBUS that no arena causes.
fn touch_beyond_a_file() {
    // SAFETY: the mapping is this function's own.
    unsafe {
        let file = libc::memfd_create(c"empty".as_ptr(), 0);
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let page = libc::mmap(core::ptr::null_mut(), 4096, prot, libc::MAP_SHARED, file, 0);
        page.cast::<u8>().write_volatile(1);
    }
}

/// The later handler blocks no signals, and passes each SIGBUS on to the library's handler.
#[test]
fn a_later_sigbus_handler_with_a_mask_of_its_own_may_call_ours() {
    use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
    type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
    static BEFORE: AtomicUsize = AtomicUsize::new(0);
    static NUMBERS: AtomicPtr<u64> = AtomicPtr::new(core::ptr::null_mut());
    static SEEN: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn later(n: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the address of the previous handler, which takes three arguments.
        let before: Handler = unsafe { core::mem::transmute(BEFORE.load(Ordering::Relaxed)) };
        before(n, info, context);
    }
    extern "C" fn alarm(_: libc::c_int) {
        let numbers = NUMBERS.load(Ordering::Relaxed);
        if !numbers.is_null() {
            let at = SEEN.fetch_add(1, Ordering::Relaxed) * 7919 % (1 << 16);
            // SAFETY: ends the process at once.
            unsafe { (number(numbers, at) != at as u64).then(|| libc::_exit(3)) };
        }
    }
    const TEST: &str = "a_later_sigbus_handler_with_a_mask_of_its_own_may_call_ours";
    if let Some((setup, _)) = inline_case() {
        let (arena, numbers) = arena_with_numbers(setup);
        let flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        let before = install(libc::SIGBUS, later as Handler as usize, flags);
        std::thread::spawn(|| {
            // SAFETY: blocks all signals in this thread, whose handlers would touch pages.
            unsafe {
                let mut all = core::mem::zeroed();
                libc::sigfillset(&raw mut all);
                libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, core::ptr::null_mut());
            }
            std::thread::sleep(Duration::from_secs(60));
            // SAFETY: ends the process at once, because it hangs.
            unsafe { libc::_exit(4) }
        });
        BEFORE.store(before.sa_sigaction, Ordering::Relaxed);
        install(libc::SIGALRM, alarm as extern "C" fn(_) as usize, libc::SA_RESTART);
        NUMBERS.store(numbers.cast_mut(), Ordering::Relaxed);
        let often = libc::timeval { tv_sec: 0, tv_usec: 200 };
        let timer = libc::itimerval { it_interval: often, it_value: often };
        // SAFETY: the timer belongs to this process.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, core::ptr::null_mut()) };
        for _ in 0..common::scaled(300, 40) {
            arena.evict_now().unwrap();
            assert!((0..1 << 16).step_by(100).all(|at| number(numbers, at) == at as u64));
        }
        NUMBERS.store(core::ptr::null_mut(), Ordering::Relaxed);
        return;
    }
    for (setup, output) in inline_children(TEST, "") {
        assert!(output.status.success(), "{setup}: {:?} {}", output.status, text(&output));
    }
}

/// The library honours SA_RESETHAND, and a previous handler that resets itself.
#[test]
fn the_previous_sigbus_handler_is_called_as_the_kernel_would_call_it() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn once(_: libc::c_int) {
        if CALLS.fetch_add(1, Ordering::Relaxed) > 0 {
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(3) };
        }
    }
    const TEST: &str = "the_previous_sigbus_handler_is_called_as_the_kernel_would_call_it";
    if let Some((setup, case)) = inline_case() {
        if case == "reset" {
            install(libc::SIGBUS, once as extern "C" fn(_) as usize, libc::SA_RESETHAND);
            let _arena = arena_with_numbers(setup);
            touch_beyond_a_file();
            return;
        }
        // The handler of Rust's runtime replaces itself by the default action.
        let (arena, numbers) = arena_with_numbers(setup);
        // SAFETY: takes an integer.
        unsafe { libc::raise(libc::SIGBUS) };
        arena.evict_now().unwrap();
        assert_eq!(number(numbers, 5000), 5000);
        println!("still here");
        // SAFETY: as above.
        unsafe { libc::raise(libc::SIGBUS) };
        return;
    }
    for (setup, output) in inline_children(TEST, "reset") {
        assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{setup}: {}", text(&output));
    }
    for (setup, output) in inline_children(TEST, "raise") {
        assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{setup}: {}", text(&output));
        assert!(text(&output).contains("still here"), "{setup}: {}", text(&output));
    }
}

/// A thread with a pending cancellation touches pages. It must not end inside the library.
#[test]
fn a_thread_is_not_cancelled_during_a_fault() {
    use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
    static NUMBERS: AtomicPtr<u64> = AtomicPtr::new(core::ptr::null_mut());
    static CANCELLED: AtomicBool = AtomicBool::new(false);
    static DONE: AtomicBool = AtomicBool::new(false);
    unsafe extern "C" {
        fn pthread_cancel(thread: libc::pthread_t) -> libc::c_int;
    }
    extern "C" fn work(_: *mut libc::c_void) -> *mut libc::c_void {
        while !CANCELLED.load(Ordering::Acquire) {
            core::hint::spin_loop();
        }
        let numbers = NUMBERS.load(Ordering::Relaxed);
        let good = (0..1 << 16).step_by(512).all(|at| number(numbers, at) == at as u64);
        DONE.store(good, Ordering::Release);
        core::ptr::null_mut()
    }
    const TEST: &str = "a_thread_is_not_cancelled_during_a_fault";
    if let Some((setup, _)) = inline_case() {
        // A thread that restores a page notifies the evictor by write(2), which is a cancellation point.
        let arena = quiet(setup).resident_limit(1 << 18).build().unwrap();
        let mut numbers = AVec::with_capacity_in(1 << 16, arena.clone());
        numbers.extend(0..1u64 << 16);
        NUMBERS.store(numbers.as_mut_ptr(), Ordering::Relaxed);
        arena.evict_now().unwrap();
        // SAFETY: a thread that ends by itself, and is joined.
        unsafe {
            let mut thread = core::mem::zeroed();
            let null: *mut libc::c_void = core::ptr::null_mut();
            assert_eq!(libc::pthread_create(&raw mut thread, null.cast(), work, null), 0);
            assert_eq!(pthread_cancel(thread), 0);
            CANCELLED.store(true, Ordering::Release);
            assert_eq!(libc::pthread_join(thread, core::ptr::null_mut()), 0);
            if !DONE.load(Ordering::Acquire) {
                libc::_exit(3);
            }
        }
        return;
    }
    for (setup, output) in inline_children(TEST, "") {
        assert!(output.status.success(), "{setup}: {:?} {}", output.status, text(&output));
    }
}
