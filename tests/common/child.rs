//! Child processes: a test that changes state of the whole process runs itself again in a child.

#![allow(dead_code, unsafe_code, reason = "each test program uses a part of it")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Output};

/// The command that runs the named test again in a child, where [`child_case`] is `case`.
pub fn child_command(test: &str, case: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("THERMOCLINE_TEST_CHILD", case);
    command
}

/// Runs the named test again in a child.
pub fn in_child(test: &str, case: &str) -> Output {
    child_command(test, case).output().unwrap()
}

/// The case of this process, if it is a child.
pub fn child_case() -> Option<String> {
    std::env::var("THERMOCLINE_TEST_CHILD").ok()
}

/// Runs the named test again as `case`, which must succeed.
pub fn passes_in_child(test: &str, case: &str) -> Output {
    let output = in_child(test, case);
    assert!(output.status.success(), "{case}: {:?} {}", output.status, text(&output));
    output
}

/// The output of a child.
pub fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}\n{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// Runs `child` in a fork of this process and returns its status. The child ends by `_exit`, without
/// running destructors.
pub fn fork(child: impl FnOnce() -> i32) -> ExitStatus {
    // SAFETY: the child calls only `child` and `_exit`.
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

/// Forbids `userfaultfd(2)` to this process, as a container's seccomp profile does, and drops root's
/// rights, among them access to `/dev/userfaultfd`.
pub fn forbid_userfaultfd() {
    // SAFETY: these calls change the credentials of this process alone.
    unsafe {
        if libc::getuid() == 0 {
            assert_eq!(libc::setgroups(0, core::ptr::null()), 0);
            assert_eq!(libc::setgid(65534), 0);
            assert_eq!(libc::setuid(65534), 0);
        }
    }
    forbid(libc::SYS_userfaultfd);
}

/// Makes a system call fail with EPERM in this process, as a container's seccomp profile does.
pub fn forbid(call: libc::c_long) {
    // SAFETY: takes integers, and changes only this process.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let number = u32::try_from(call).unwrap();
    let mut filter = [
        // The number of the system call is the first word of seccomp_data.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: number,
        },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program outlives the call, which copies it.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}
