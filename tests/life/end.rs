//! How a process ends while pages come and go.

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

/// Ways for a process to end, each with how it then has ended.
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

/// Ends this process in that way; returns for `return`.
fn end(way: &str) {
    // SAFETY: changes a limit of this process alone.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 }) };
    match way {
        "exit" => std::process::exit(7),
        // SAFETY: nothing has to be done any more.
        "_exit" => unsafe { libc::_exit(9) },
        "abort" => std::process::abort(),
        _ => {}
    }
}

fn assert_ended(way: &str, expected: End, output: &Output) {
    assert_eq!(End::from(output.status), expected, "{way}: {:?} {}", output.status, text(output));
    assert!(!text(output).contains("thermocline: "), "{way}: {}", text(output));
}

/// The harness returns from `main` when its tests have passed, whatever other threads do.
#[test]
fn a_process_ends_while_threads_fault_and_pages_go() {
    const TEST: &str = "end::a_process_ends_while_threads_fault_and_pages_go";
    if let Some(setup) = setup_of_child() {
        busy(setup);
        end(&way_of_child());
        return;
    }
    for (n, setup) in setups(TEST).into_iter().enumerate() {
        for (m, (way, expected)) in WAYS.into_iter().enumerate() {
            // Where a processor is emulated, one way for each setup.
            for _ in 0..scaled(15, usize::from(m == n % WAYS.len())) {
                assert_ended(way, expected, &in_child(TEST, &format!("{setup} {way}")));
            }
        }
    }
}

/// With the only handler stopped they would wait for ever.
#[test]
fn threads_that_are_parked_in_faults_keep_no_process_alive() {
    const TEST: &str = "end::threads_that_are_parked_in_faults_keep_no_process_alive";
    const MAY_NOT: i32 = 43;
    if let Some(setup) = setup_of_child() {
        let arena = Box::leak(Box::new(quiet(setup).handler_threads(1).build().unwrap()));
        let pages = Pages::filled(arena, PAGES);
        evict(arena, PAGES);
        let Some(stopped) = Stopped::new(thread_named("thermocline-f0")) else {
            std::process::exit(MAY_NOT)
        };
        // Whoever drops it would wait, and so would the end of the harness's thread.
        std::mem::forget(stopped);
        for thread in 0..3 {
            thread::spawn(move || assert!(pages.is_right(thread * 10)));
        }
        // They are about to be parked, if they are not.
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

/// Blocks that a panicking thread holds are freed, evicted or not, while others wait for pages.
#[test]
fn a_panic_frees_what_the_thread_holds() {
    const TEST: &str = "end::a_panic_frees_what_the_thread_holds";
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
