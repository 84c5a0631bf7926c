//! The end of a process while pages are evicted and restored.

use super::common::child::{child_case, in_child, text};
use super::common::pages::{Pages, eventually, evict};
use super::common::tracer::{Stopped, thread_named};
use super::common::{quiet, scaled, setups, skip};
use super::{PAGES, busy, in_each_setup, setup_of_child, way_of_child};
use allocator_api2::vec::Vec as AVec;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Output};
use std::sync::Barrier;
use std::thread;

/// Ways for a process to end, each with its exit status.
const WAYS: [(&str, End); 4] = [
    ("exit", End::Code(7)),
    ("return", End::Code(0)),
    ("_exit", End::Code(9)),
    ("abort", End::Abort),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Code(i32),
    Abort,
    Other,
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (_, Some(libc::SIGABRT)) => Self::Abort,
            _ => Self::Other,
        }
    }
}

/// Ends this process in that way, or returns if the way is `return`.
fn end(way: &str) {
    // SAFETY: changes a limit of this process alone.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 }) };
    match way {
        "exit" => std::process::exit(7),
        // SAFETY: ends the process; no exit handler is needed.
        "_exit" => unsafe { libc::_exit(9) },
        "abort" => std::process::abort(),
        _ => {}
    }
}

fn assert_ended(way: &str, expected: End, output: &Output) {
    assert_eq!(End::from(output.status), expected, "{way}: {:?} {}", output.status, text(output));
    assert!(!text(output).contains("thermocline: "), "{way}: {}", text(output));
}

/// For the way `return` the test harness returns from `main` while other threads still run.
#[test]
fn a_process_ends_while_threads_fault_and_pages_are_evicted() {
    const TEST: &str = "end::a_process_ends_while_threads_fault_and_pages_are_evicted";
    if let Some(setup) = setup_of_child() {
        busy(setup);
        end(&way_of_child());
        return;
    }
    for (n, setup) in setups(TEST).into_iter().enumerate() {
        for (m, (way, expected)) in WAYS.into_iter().enumerate() {
            // Under emulation one way for each setup.
            for _ in 0..scaled(15, usize::from(m == n % WAYS.len())) {
                assert_ended(way, expected, &in_child(TEST, &format!("{setup} {way}")));
            }
        }
    }
}

/// The only handler thread is stopped, so the faulting threads would wait for ever.
#[test]
fn threads_that_wait_in_faults_do_not_delay_the_end_of_the_process() {
    const TEST: &str = "end::threads_that_wait_in_faults_do_not_delay_the_end_of_the_process";
    const MAY_NOT: i32 = 43;
    if let Some(setup) = setup_of_child() {
        let arena = Box::leak(Box::new(quiet(setup).handler_threads(1).build().unwrap()));
        let pages = Pages::filled(arena, PAGES);
        evict(arena, PAGES);
        let Some(stopped) = Stopped::new(thread_named("thermo-fault0")) else {
            std::process::exit(MAY_NOT)
        };
        // Not dropped: the drop would wait, and with it the end of the harness's thread.
        std::mem::forget(stopped);
        for thread in 0..3 {
            thread::spawn(move || assert!(pages.is_right(thread * 10)));
        }
        // By now the threads wait in their faults, or are about to.
        thread::sleep(std::time::Duration::from_millis(20));
        end(&way_of_child());
        return;
    }
    for setup in setups(TEST).into_iter().filter(|setup| !setup.is_inline()) {
        for (way, expected) in WAYS {
            let output = in_child(TEST, &format!("{setup} {way}"));
            if output.status.code() == Some(MAY_NOT) {
                skip(TEST, "ptrace", "a process may not trace its parent here");
                return;
            }
            assert_ended(way, expected, &output);
        }
    }
}

/// Unwinding frees blocks, evicted or not, while other threads wait for pages.
#[test]
fn a_panicking_thread_frees_its_blocks() {
    const TEST: &str = "end::a_panicking_thread_frees_its_blocks";
    if child_case().is_none() {
        in_each_setup(TEST);
        return;
    }
    let (arena, pages) = busy(setup_of_child().unwrap());
    let before = arena.stats().allocated_bytes;
    for round in 0..scaled(20, 1) {
        let at_once = Barrier::new(3);
        thread::scope(|scope| {
            let panicking = || {
                let mut blocks: Vec<AVec<u64, _>> = Vec::new();
                for n in 0..100 {
                    blocks.push(AVec::new_in(arena));
                    blocks[n].extend(0..(n * 50) as u64);
                }
                let evicted = arena.stats().evicted_pages;
                eventually(arena, "some eviction", |stats| stats.evicted_pages > evicted + 10);
                at_once.wait();
                assert!(
                    blocks.iter().map(|block| block.len()).sum::<usize>() == round,
                    "on purpose"
                );
            };
            for thread in [(); 3].map(|()| scope.spawn(panicking)) {
                assert!(thread.join().is_err());
            }
        });
        assert_eq!(arena.stats().allocated_bytes, before);
    }
    pages.verify();
}
