//! Running programs, also with path and arguments in an arena.

use super::common::child::{fork, in_child, text};
use super::common::pages::{Pages, evict};
use super::common::{quiet, scaled, setups};
use super::{PAGES, busy, in_each_setup, setup_of_child};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

const TRUE: &CStr = c"/bin/true";

/// A way to run a program. Returns zero, or the error number if no program runs.
type Run = unsafe fn(path: *const c_char, argv: *const *const c_char) -> i32;

/// The child's exit status if no program runs, less the error number.
const NO_PROGRAM: i32 = 100;

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

/// The child has a copy of the memory, without the arena.
unsafe fn by_fork(path: *const c_char, argv: *const *const c_char) -> i32 {
    // SAFETY: a system call on the caller's strings.
    let status = fork(|| unsafe {
        libc::execve(path, argv, ptr::null());
        NO_PROGRAM + errno()
    });
    status.code().map_or(-1, |code| (code - NO_PROGRAM).max(0))
}

/// The child shares the memory, and the calling thread waits until the child runs a program, as after
/// `vfork(2)`.
unsafe fn by_vfork(path: *const c_char, argv: *const *const c_char) -> i32 {
    struct Call {
        path: *const c_char,
        argv: *const *const c_char,
    }
    extern "C" fn child(call: *mut c_void) -> c_int {
        // SAFETY: the parent waits meanwhile, and keeps the value.
        let call = unsafe { &*call.cast::<Call>() };
        // SAFETY: the caller's strings.
        unsafe { libc::execve(call.path, call.argv, ptr::null()) };
        NO_PROGRAM + errno()
    }
    let mut call = Call { path, argv };
    let mut stack = vec![0u128; 1 << 12];
    let mut status = 0;
    // SAFETY: when the call returns, the child has ended or has memory of its own, so the stack outlives it.
    unsafe {
        let top = stack.as_mut_ptr().add(stack.len()).cast();
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let pid = libc::clone(child, top, flags, (&raw mut call).cast());
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
    }
    assert!(libc::WIFEXITED(status), "{status:#x}");
    (libc::WEXITSTATUS(status) - NO_PROGRAM).max(0)
}

unsafe fn by_posix_spawn(path: *const c_char, argv: *const *const c_char) -> i32 {
    let (mut pid, mut status) = (0, 0);
    // SAFETY: the caller's strings; no actions, no attributes, no environment.
    unsafe {
        let none = ptr::null();
        let empty = [ptr::null_mut()];
        let argv = argv.cast::<*mut c_char>();
        let failed = libc::posix_spawn(&raw mut pid, path, none, none.cast(), argv, empty.as_ptr());
        if failed != 0 {
            return failed;
        }
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
    }
    assert_eq!(status, 0);
    0
}

#[test]
fn programs_can_be_run_in_every_way_while_pages_are_evicted() {
    const TEST: &str = "exec::programs_can_be_run_in_every_way_while_pages_are_evicted";
    if let Some(setup) = setup_of_child() {
        let (_, pages) = busy(setup);
        let argv = [TRUE.as_ptr(), ptr::null()];
        for _ in 0..scaled(20, 1) {
            for run in [by_fork, by_vfork, by_posix_spawn] {
                let run: Run = run;
                // SAFETY: static strings.
                assert_eq!(unsafe { run(TRUE.as_ptr(), argv.as_ptr()) }, 0);
            }
            assert!(Command::new("/bin/true").status().unwrap().success());
            let mut forked = Command::new("/bin/true");
            // SAFETY: the closure does nothing, which is allowed after a fork.
            unsafe { forked.pre_exec(|| Ok(())) };
            assert!(forked.status().unwrap().success());
        }
        pages.verify();
        return;
    }
    in_each_setup(TEST);
}

#[test]
fn strings_for_a_program_may_lie_in_an_arena_where_system_calls_are_served() {
    for setup in setups("strings_for_a_program") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, PAGES);
        let (path, argv) = (pages.word(0, 0).cast::<c_char>(), pages.word(1, 0));
        let write = || {
            let bytes = TRUE.to_bytes_with_nul();
            // SAFETY: within the pages, which no other thread uses.
            unsafe {
                path.copy_from_nonoverlapping(bytes.as_ptr().cast(), bytes.len());
                argv.cast::<*const c_char>().write(path);
                argv.cast::<*const c_char>().add(1).write(ptr::null());
            }
        };
        write();
        let program = |run: Run| {
            // SAFETY: strings that outlive the call, in resident or stored pages.
            unsafe { run(path, argv.cast()) }
        };
        for evicted in [true, false] {
            for run in [by_vfork, by_posix_spawn] {
                if evicted {
                    evict(&arena, PAGES);
                } else {
                    arena.ensure(pages.range()).unwrap();
                }
                let works = !evicted || arena.serves_system_calls();
                let expected = if works { 0 } else { libc::EFAULT };
                assert_eq!(program(run), expected, "{setup} {evicted}");
            }
            // The forked child has no mapping of the pages.
            assert_eq!(program(by_fork), libc::EFAULT, "{setup} {evicted}");
        }
        pages.free();
    }
}

#[test]
fn exec_works_while_other_threads_fault() {
    const TEST: &str = "exec::exec_works_while_other_threads_fault";
    if let Some(setup) = setup_of_child() {
        busy(setup);
        panic!("{}", Command::new("/bin/echo").arg("another program").exec());
    }
    for setup in setups(TEST) {
        for _ in 0..scaled(20, 1) {
            let output = in_child(TEST, &setup.to_string());
            assert!(output.status.success(), "{setup}: {:?} {}", output.status, text(&output));
            assert!(text(&output).contains("another program"), "{setup}: {}", text(&output));
        }
    }
}
