//! The watchdog reports stuck threads, and no healthy ones.
//!
//! A test makes a thread stuck by stopping it alone, as a debugger does.

#![allow(missing_docs, unsafe_code)]

mod common;

use common::child::{child_case, in_child, text};
use common::pages::{Pages, eventually, evict};
use common::tracer::{Stopped, thread_named};
use common::{SetOnDrop, Setup, quiet, scaled, setups, skip};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use thermocline::{Arena, Builder};

const PAGES: usize = 500;

/// The stall limit: short, but longer under emulation, where woken threads run late.
fn limit() -> Duration {
    Duration::from_millis(scaled(100, 500))
}

fn quick(setup: Setup) -> Builder {
    quiet(setup).handler_threads(1).stall_limit(limit())
}

/// Evicts every untouched page, repeatedly.
fn zeal(builder: Builder) -> Builder {
    let interval = Duration::from_millis(1);
    builder.scan_interval(interval).cold_age(interval).zeal(true)
}

/// The exit status of a child that may not trace.
const MAY_NOT: i32 = 43;

fn stop(thread: i32) -> Stopped {
    Stopped::new(thread).unwrap_or_else(|| std::process::exit(MAY_NOT))
}

static ALONE: Mutex<()> = Mutex::new(());

/// Runs `test` in a child for each setup that `which` picks. Returns the outputs of those that may trace.
fn children(test: &str, which: impl Fn(Setup) -> bool) -> Vec<(Setup, Output)> {
    // One test at a time: two of them would starve each other.
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut outputs = Vec::new();
    // Under emulation it runs only the last setup, which has the newest tracker.
    let setups = setups(test).into_iter().rev().filter(|setup| which(*setup));
    for setup in setups.take(scaled(usize::MAX, 1)) {
        let output = in_child(test, &setup.to_string());
        if output.status.code() == Some(MAY_NOT) {
            skip(test, "ptrace", "a process may not trace its parent here");
            break;
        }
        outputs.push((setup, output));
    }
    outputs
}

fn contains_all(output: &Output, words: &[&str]) -> bool {
    words.iter().all(|words| text(output).contains(words))
}

#[test]
fn a_stuck_handler_is_reported_each_time() {
    const TEST: &str = "a_stuck_handler_is_reported_each_time";
    if let Some(case) = child_case() {
        let arena = quick(Setup::parse(&case)).build().unwrap();
        let pages = Pages::filled(&arena, PAGES);
        evict(&arena, PAGES);
        let handler = thread_named("thermo-fault0");
        for round in 1..=2 {
            let stopped = stop(handler);
            thread::scope(|scope| {
                scope.spawn(|| assert!(pages.is_right(round * 100)));
                eventually(&arena, "a stall", |stats| stats.stalls == round as u64);
                drop(stopped);
            });
            pages.verify();
            evict(&arena, PAGES);
        }
        return;
    }
    for (setup, output) in children(TEST, |setup| !setup.is_inline()) {
        assert!(output.status.success(), "{setup}: {:?} {}", output.status, text(&output));
        let words = [
            "handler thermo-fault0 (thread ",
            "leaving messages unread",
            "makes progress again after",
            "wchan",
        ];
        assert!(contains_all(&output, &words), "{setup}: {}", text(&output));
    }
}

#[test]
fn abort_on_stall_ends_the_process_of_a_stuck_handler() {
    const TEST: &str = "abort_on_stall_ends_the_process_of_a_stuck_handler";
    if let Some(case) = child_case() {
        let arena = quick(Setup::parse(&case)).abort_on_stall(true).build().unwrap();
        let pages = Pages::filled(&arena, PAGES);
        evict(&arena, PAGES);
        let _stopped = stop(thread_named("thermo-fault0"));
        pages.verify();
        unreachable!("a stopped handler thread has served the faults");
    }
    for (setup, output) in children(TEST, |setup| !setup.is_inline()) {
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{setup}: {}", text(&output));
        let words = ["abort_on_stall", "thermo-fault0", "threads may be waiting", "abort\n"];
        assert!(contains_all(&output, &words), "{setup}: {}", text(&output));
    }
}

/// Captures the standard error of this process until it is dropped. It then writes the text to the real one.
struct Captured {
    lines: File,
    stderr: OwnedFd,
}

impl Captured {
    fn new() -> Self {
        let stderr = std::io::stderr().as_fd().try_clone_to_owned().unwrap();
        // SAFETY: a new file, with one descriptor in this value and the other as standard error.
        let lines = unsafe { File::from_raw_fd(libc::memfd_create(c"stderr".as_ptr(), 0)) };
        // SAFETY: both are open.
        unsafe { libc::dup2(lines.as_raw_fd(), libc::STDERR_FILENO) };
        Self { lines, stderr }
    }

    fn text(&self) -> String {
        let mut bytes = vec![0; 1 << 16];
        let len = self.lines.read_at(&mut bytes, 0).unwrap();
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        // SAFETY: both are open.
        unsafe { libc::dup2(self.stderr.as_raw_fd(), libc::STDERR_FILENO) };
        std::io::stderr().write_all(self.text().as_bytes()).unwrap();
    }
}

/// Stops a thread at random moments, until it holds a page for which another thread waits, and the watchdog
/// reports it with these words. The watchdog may report starved threads before.
///
/// `passes`, if given, counts how often another thread has touched all pages. If it does so after the stop, the
/// stopped thread holds none. The evictor may hold pages that can be touched: a touch takes them back.
fn stop_until_reported(arena: &Arena, thread: i32, words: &str, passes: Option<&AtomicU64>) {
    let passes = || passes.map_or(0, |passes| passes.load(Ordering::Relaxed));
    let captured = Captured::new();
    let give_up = Instant::now() + limit() * 2000;
    while Instant::now() < give_up {
        let _stopped = stop(thread);
        let end = Instant::now() + limit() * 4;
        let before = passes();
        while Instant::now() < end && passes() < before + 2 {
            if captured.text().contains(words) {
                assert!(arena.stats().stalls > 0);
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
    panic!("the watchdog did not report it: {}", arena.stats());
}

#[test]
fn a_stuck_evictor_is_reported() {
    const TEST: &str = "a_stuck_evictor_is_reported";
    if let Some(case) = child_case() {
        let arena = zeal(quick(Setup::parse(&case))).build().unwrap();
        let pages = Pages::filled(&arena, PAGES);
        let end = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    pages.verify();
                }
            });
            let _end = SetOnDrop(&end);
            eventually(&arena, "some eviction", |stats| stats.evicted_pages > 100);
            let words = "the evictor thermo-evict (thread ";
            stop_until_reported(&arena, thread_named("thermo-evict"), words, None);
        });
        pages.verify();
        return;
    }
    for (setup, output) in children(TEST, |_| true) {
        assert!(output.status.success(), "{setup}: {:?} {}", output.status, text(&output));
        let words = ["the evictor thermo-evict (thread ", " s; touches of evicted pages wait"];
        assert!(contains_all(&output, &words), "{setup}: {}", text(&output));
    }
}

/// The owner is a thread of the program that restores pages which another thread touches.
#[test]
fn a_stuck_owner_of_a_page_is_reported() {
    const TEST: &str = "a_stuck_owner_of_a_page_is_reported";
    if let Some(case) = child_case() {
        let arena = quick(Setup::parse(&case)).build().unwrap();
        let pages = Pages::filled(&arena, PAGES);
        let (end, owner) = (AtomicBool::new(false), AtomicI32::new(0));
        let passes = AtomicU64::new(0);
        let is_over = || end.load(Ordering::Relaxed);
        thread::scope(|scope| {
            scope.spawn(|| {
                // SAFETY: takes nothing and returns an integer.
                owner.store(unsafe { libc::gettid() }, Ordering::Release);
                while !is_over() {
                    arena.prefetch(pages.range()).unwrap();
                }
            });
            scope.spawn(|| {
                while !is_over() {
                    arena.evict_now().unwrap();
                }
            });
            scope.spawn(|| {
                while !is_over() {
                    pages.verify();
                    passes.fetch_add(1, Ordering::Relaxed);
                }
            });
            let _end = SetOnDrop(&end);
            eventually(&arena, "some prefetching", |stats| stats.prefetched_pages > 100);
            let words = " has been keeping page ";
            stop_until_reported(&arena, owner.load(Ordering::Acquire), words, Some(&passes));
        });
        pages.verify();
        return;
    }
    if scaled(false, true) {
        skip(TEST, "speed", "it takes too many attempts under emulation");
        return;
    }
    for (setup, output) in children(TEST, |_| true) {
        assert!(output.status.success(), "{setup}: {:?} {}", output.status, text(&output));
        let words = ["the owner of a page ", " has been keeping page ", "Filling for"];
        assert!(contains_all(&output, &words), "{setup}: {}", text(&output));
    }
}

/// The watchdog must not report a process that gets too little processor time, or that a debugger stops as a
/// whole.
#[test]
fn a_starved_and_stopped_process_reports_no_stall() {
    const TEST: &str = "a_starved_and_stopped_process_reports_no_stall";
    if let Some(case) = child_case() {
        let limit = Duration::from_secs(scaled(2, 4));
        let builder = zeal(quick(Setup::parse(&case)).stall_limit(limit).abort_on_stall(true));
        let arena = builder.build().unwrap();
        let pages = Pages::filled(&arena, PAGES);
        let end = AtomicBool::new(false);
        thread::scope(|scope| {
            for thread in 0..6 {
                let end = &end;
                scope.spawn(move || {
                    // Each reader stays with some pages for a while, so that the evictor finds other pages untouched
                    // however seldom it runs.
                    for turn in (0..).take_while(|_| !end.load(Ordering::Relaxed)) {
                        let first = (turn * 3 + thread) % 10 * (PAGES / 10);
                        let (start, stay) = (Instant::now(), Duration::from_millis(50));
                        // The other threads only spin.
                        while thread < 3 && start.elapsed() < stay {
                            (first..first + PAGES / 10)
                                .for_each(|page| assert!(pages.is_right(page)));
                        }
                    }
                });
            }
            let _end = SetOnDrop(&end);
            eventually(&arena, "some eviction", |stats| stats.evicted_pages > 100);
            let stopped = common::child::fork(|| {
                // SAFETY: integers; the last call continues the parent.
                unsafe {
                    let parent = libc::getppid();
                    libc::kill(parent, libc::SIGSTOP);
                    libc::usleep(2_500_000);
                    libc::kill(parent, libc::SIGCONT)
                }
            });
            assert!(stopped.success());
            let before = arena.stats().refaults;
            eventually(&arena, "refaults after the stop", |stats| stats.refaults > before + 10);
        });
        assert_eq!(arena.stats().stalls, 0);
        return;
    }
    for (setup, output) in children(TEST, |_| true) {
        assert!(output.status.success(), "{setup}: {:?} {}", output.status, text(&output));
        assert!(!text(&output).contains("thermocline: "), "{setup}: {}", text(&output));
    }
}
