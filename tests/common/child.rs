//! Tests that change what belongs to the whole process run again in a process of their own.

#![allow(dead_code, unsafe_code, reason = "each test program uses a part of it")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Output};

/// Runs the named test again in a process of its own, where [`child_case`] is `case`.
pub fn in_child(test: &str, case: &str) -> Output {
    let exe = std::env::current_exe().unwrap();
    Command::new(exe)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("THERMOCLINE_TEST_CHILD", case)
        .output()
        .unwrap()
}

/// What this process is to do, if it is one that [`in_child`] has started.
pub fn child_case() -> Option<String> {
    std::env::var("THERMOCLINE_TEST_CHILD").ok()
}

/// Runs the named test again as `case`, which must end well.
pub fn passes_in_child(test: &str, case: &str) -> Output {
    let output = in_child(test, case);
    assert!(output.status.success(), "{case}: {:?} {}", output.status, text(&output));
    output
}

/// What a child has written.
pub fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}\n{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// Runs `child` in a fork of this process and says how it ended. The child ends without running
/// destructors, as `_exit` does.
pub fn fork(child: impl FnOnce() -> i32) -> ExitStatus {
    // SAFETY: the child calls only what it is given and `_exit`.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", std::io::Error::last_os_error()),
        0 => {
            let child = std::panic::AssertUnwindSafe(child);
            let code = std::panic::catch_unwind(child).unwrap_or(101);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(code) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: waits for the child and writes one integer.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            ExitStatus::from_raw(status)
        }
    }
}
