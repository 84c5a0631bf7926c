//! The parent process: it starts the children, stops and continues them, and notices if one hangs.

use super::TEST;
use super::case::Case;
use super::common::blocks::Random;
use super::common::child::child_command;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// The longest time between two signs of life, with room for a busy machine.
const SILENCE: Duration = Duration::from_secs(200);

/// The line that a child prints as a sign of life.
pub const ALIVE: &str = "alive";

/// Runs `case` in a process of its own and returns its line of results.
///
/// # Panics
///
/// Panics if the process fails or hangs.
pub fn watch(case: &Case) -> String {
    let mut command = child_command(TEST, &case.to_string());
    // SAFETY: a call that is allowed after a fork. It ends a stopped child if this process is killed.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let heard = Mutex::new(Instant::now());
    let repeat = format!("{case}: THERMOCLINE_CHAOS_SEED={} repeats it", case.seed);
    thread::scope(|scope| {
        let reader = scope.spawn(|| read(output, &heard));
        let stops = stop_and_continue(&mut child, case.seed, &heard, &repeat);
        let (line, all) = reader.join().unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{repeat}: {status:?}\n{all}");
        format!("{},stops:{stops}", line.unwrap_or_else(|| panic!("no result of {repeat}: {all}")))
    })
}

/// Reads the child's output and notes the time of each line. Returns the line of results and the rest.
fn read(output: impl BufRead, heard: &Mutex<Instant>) -> (Option<String>, String) {
    let (mut result, mut all) = (None, String::new());
    for line in output.lines() {
        let line = line.unwrap();
        *heard.lock().unwrap() = Instant::now();
        if line.starts_with("chaos ") {
            result = Some(line.clone());
        }
        if line != ALIVE {
            writeln!(all, "{line}").unwrap();
        }
    }
    (result, all)
}

/// Stops and continues the process at random moments until it ends. Returns how often.
fn stop_and_continue(child: &mut Child, seed: u64, heard: &Mutex<Instant>, repeat: &str) -> u64 {
    let mut random = Random::new(seed);
    let mut pause = |most| thread::sleep(Duration::from_micros(random.below(most) as u64));
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    let mut stops = 0;
    while child.try_wait().unwrap().is_none() {
        // SAFETY: sends signals to a child that was not waited for, so the number is still its own.
        unsafe {
            libc::kill(pid, libc::SIGSTOP);
            pause(20_000);
            libc::kill(pid, libc::SIGCONT);
        }
        stops += 1;
        pause(150_000);
        if heard.lock().unwrap().elapsed() > SILENCE {
            let threads = threads_of(pid);
            // SAFETY: as above.
            unsafe { libc::kill(pid, libc::SIGABRT) };
            let _ = child.wait();
            std::io::stderr().write_all(threads.as_bytes()).unwrap();
            panic!("no sign of life for {SILENCE:?} of {repeat}");
        }
    }
    stops
}

/// The state and the kernel stack of each thread of a process, as far as the kernel shows them.
fn threads_of(pid: libc::pid_t) -> String {
    let mut text = String::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let state = read("stat").split(") ").nth(1).and_then(|rest| rest.chars().next());
        let (name, stack) = (read("comm"), read("stack"));
        writeln!(text, "{:?} {} {state:?}\n{stack}", task.file_name(), name.trim()).unwrap();
    }
    text
}
