//! Other processes that read a process's memory, by system calls and by a debugger.

use super::common::child::{child_case, fork, text};
use super::common::pages::{PAGE, Pages, evict};
use super::common::tracer::pipe;
use super::common::{Setup, quiet, setups, skip};
use super::{PAGES, in_each_setup, setup_of_child, way_of_child};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::ptr;
use std::time::{Duration, Instant};
use thermocline::Arena;

/// The result of reading eight bytes of another process.
type Got = Result<u64, i32>;

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

fn by_process_vm_readv(pid: i32, address: usize) -> Got {
    let mut bytes = [0u8; 8];
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: 8 };
    let remote = libc::iovec { iov_base: ptr::without_provenance_mut(address), iov_len: 8 };
    // SAFETY: room for eight bytes; this process does not use the other address.
    match unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) } {
        8 => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(errno()),
    }
}

fn by_proc_mem(pid: i32, address: usize) -> Got {
    let mut bytes = [0u8; 8];
    let file = File::open(format!("/proc/{pid}/mem"));
    let read = file.and_then(|file| file.read_exact_at(&mut bytes, address as u64));
    read.map(|()| u64::from_ne_bytes(bytes)).map_err(|e| e.raw_os_error().unwrap_or(0))
}

/// The caller has to stop and trace the main thread.
fn by_peek(pid: i32, address: usize) -> Got {
    let address = ptr::without_provenance_mut::<libc::c_void>(address);
    // SAFETY: this thread's own errno.
    unsafe { *libc::__errno_location() = 0 };
    // SAFETY: reads a word of the other process.
    let word = unsafe { libc::ptrace(libc::PTRACE_PEEKDATA, pid, address, ptr::null_mut::<u8>()) };
    match errno() {
        0 => Ok(word.cast_unsigned()),
        errno => Err(errno),
    }
}

/// Allows this process's children to read it, if the kernel asks for that.
fn allow_tracing() {
    // SAFETY: takes integers.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY, 0, 0, 0) };
}

/// Whether a child may read this process at all.
fn may_trace(test: &str) -> bool {
    allow_tracing();
    let (value, pid) = (7u64, std::process::id().cast_signed());
    let address = ptr::from_ref(&value).addr();
    let may = fork(|| i32::from(by_process_vm_readv(pid, address) != Ok(7))).success();
    if !may {
        skip(test, "ptrace", "a process may not read its parent here");
    }
    may
}

/// An arena with most of its pages stored, and the address of the first one, which is resident.
fn mostly_evicted(setup: Setup) -> (Arena, usize) {
    let arena = quiet(setup).build().unwrap();
    let pages = Pages::filled(&arena, PAGES);
    evict(&arena, PAGES);
    assert!(pages.is_right(0));
    // Readahead may have restored its neighbours. `check` waits for that.
    let _ = arena.check();
    let address = pages.address + 3 * 8;
    (arena, address)
}

/// In a running process no read returns wrong bytes, and none waits for ever.
#[test]
fn other_processes_read_evicted_pages_or_get_an_error() {
    const TEST: &str = "debugger::other_processes_read_evicted_pages_or_get_an_error";
    if child_case().is_none() {
        in_each_setup(TEST);
        return;
    }
    if !may_trace(TEST) {
        return;
    }
    let (arena, address) = mostly_evicted(setup_of_child().unwrap());
    let (pid, serves) = (std::process::id().cast_signed(), arena.serves_system_calls());
    let looked = fork(|| {
        assert_eq!(by_process_vm_readv(pid, address), Ok(1), "in memory");
        assert_eq!(by_proc_mem(pid, address), Ok(1), "in memory");
        let refused = if serves { Ok(200) } else { Err(libc::EFAULT) };
        assert_eq!(by_process_vm_readv(pid, address + 199 * PAGE), refused);
        // Kernels that do not wait for a userfaultfd here return EIO.
        let got = by_proc_mem(pid, address + 250 * PAGE);
        assert!(got == Err(libc::EIO) || (serves && got == Ok(251)), "{got:?}");
        0
    });
    assert!(looked.success(), "{looked:?}");
    arena.check().unwrap();
}

/// Waits until every thread of the process is stopped.
fn wait_until_stopped(pid: i32) {
    let end = Instant::now() + Duration::from_secs(60);
    let is_stopped = |task: std::io::Result<std::fs::DirEntry>| {
        // A thread that has ended in between has no file any more.
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().unwrap().starts_with(['T', 't'])
    };
    while !std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(is_stopped) {
        assert!(Instant::now() < end, "the process does not stop");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Continues the process on drop.
struct GoOn(i32);

impl Drop for GoOn {
    fn drop(&mut self) {
        // SAFETY: takes integers.
        unsafe { libc::kill(self.0, libc::SIGCONT) };
    }
}

/// A debugger's calls never wait. `process_vm_readv(2)` waits if a handler thread has to serve it.
#[test]
fn a_stopped_process_can_be_read() {
    const TEST: &str = "debugger::a_stopped_process_can_be_read";
    if child_case().is_none() {
        in_each_setup(TEST);
        return;
    }
    if !may_trace(TEST) {
        return;
    }
    let (arena, address) = mostly_evicted(setup_of_child().unwrap());
    let (pid, serves) = (std::process::id().cast_signed(), arena.serves_system_calls());
    let looked = fork(|| {
        let _go_on = GoOn(pid);
        // SAFETY: takes integers.
        unsafe { libc::kill(pid, libc::SIGSTOP) };
        wait_until_stopped(pid);
        assert_eq!(by_proc_mem(pid, address), Ok(1), "in memory");
        assert_eq!(by_proc_mem(pid, address + 250 * PAGE), Err(libc::EIO));
        assert_eq!(by_process_vm_readv(pid, address), Ok(1), "in memory");
        let (mut told, mut tell) = pipe();
        // SAFETY: the child reads, writes its result and ends.
        let reader = unsafe { libc::fork() };
        if reader == 0 {
            let got = by_process_vm_readv(pid, address + 199 * PAGE);
            let byte = match got {
                Ok(200) => 0,
                Ok(_) => 1,
                Err(errno) => errno as u8,
            };
            let _ = tell.write_all(&[byte]);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) };
        }
        drop(tell);
        let mut byte = [0];
        if serves {
            let mut ready = libc::pollfd {
                fd: std::os::fd::AsRawFd::as_raw_fd(&told),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one pollfd.
            let answers = unsafe { libc::poll(&raw mut ready, 1, 300) };
            assert_eq!(answers, 0, "a stopped process has served it");
            drop(_go_on);
            told.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [0]);
        } else {
            told.read_exact(&mut byte).unwrap();
            assert_eq!(i32::from(byte[0]), libc::EFAULT);
        }
        0
    });
    assert!(looked.success(), "{looked:?}");
    // The same by ptrace.
    let looked = fork(|| {
        let null = ptr::null_mut::<libc::c_void>();
        // SAFETY: integers; this thread traces the parent's main thread until it ends itself.
        unsafe {
            assert_eq!(libc::ptrace(libc::PTRACE_SEIZE, pid, null, null), 0);
            assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, pid, null, null), 0);
            assert_eq!(libc::waitpid(pid, ptr::null_mut(), libc::__WALL), pid);
        }
        assert_eq!(by_peek(pid, address), Ok(1), "in memory");
        let got = by_peek(pid, address + 280 * PAGE);
        assert!(got == Err(libc::EIO) || (serves && got == Ok(281)), "{got:?}");
        0
    });
    assert!(looked.success(), "{looked:?}");
    arena.check().unwrap();
}

fn gdb(arguments: &[&str]) -> Option<String> {
    let mut gdb = Command::new("gdb");
    let output = gdb.args(["-nx", "-batch", "-iex", "set debuginfod enabled off"]).args(arguments);
    let output = output.stdin(Stdio::null()).output().ok()?;
    Some(text(&output))
}

/// Whether gdb is here and may run a program.
fn has_gdb(test: &str) -> bool {
    let may =
        gdb(&["-ex", "run", "/bin/true"]).is_some_and(|text| text.contains("exited normally"));
    if !may {
        skip(test, "gdb", "there is no gdb here, or it may not run programs");
    }
    may
}

#[test]
fn gdb_attaches_and_cannot_read_evicted_pages() {
    const TEST: &str = "debugger::gdb_attaches_and_cannot_read_evicted_pages";
    if let Some(setup) = setup_of_child() {
        let (arena, address) = mostly_evicted(setup);
        allow_tracing();
        let pid = std::process::id();
        let words = |address: usize| format!("x/gd {address:#x}");
        let text = gdb(&[
            "-p",
            &pid.to_string(),
            "-ex",
            &words(address),
            "-ex",
            &words(address + 199 * PAGE),
            "-ex",
            "detach",
        ]);
        let text = text.unwrap();
        assert!(text.contains(&format!("{address:#x}:\t1\n")), "{text}");
        let evicted = address + 199 * PAGE;
        assert!(text.contains(&format!("Cannot access memory at address {evicted:#x}")), "{text}");
        // The program continues, and its touch restores the page.
        // SAFETY: a word of a page that is never freed.
        let word = unsafe { ptr::with_exposed_provenance::<u64>(evicted).read_volatile() };
        assert_eq!(word, 200);
        arena.check().unwrap();
        return;
    }
    if !has_gdb(TEST) {
        return;
    }
    in_each_setup(TEST);
}

/// To gdb an inline fault is a signal, which gdb has to pass on.
#[test]
fn a_program_runs_under_gdb_while_its_pages_are_evicted() {
    const TEST: &str = "debugger::a_program_runs_under_gdb_while_its_pages_are_evicted";
    if let Some(setup) = setup_of_child() {
        assert_eq!(way_of_child(), "debugged");
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, PAGES);
        evict(&arena, PAGES);
        pages.verify();
        println!("all is right");
        return;
    }
    if !has_gdb(TEST) {
        return;
    }
    for setup in setups(TEST) {
        let exe = std::env::current_exe().unwrap();
        let case = format!("set environment THERMOCLINE_TEST_CHILD {setup} debugged");
        let pass = "handle SIGBUS nostop noprint pass";
        let start = ["-iex", "set startup-with-shell off", "-ex", &case, "-ex", pass, "-ex", "run"];
        let program = ["--args", exe.to_str().unwrap(), "--exact", TEST, "--nocapture"];
        let text = gdb(&[&start[..], &program[..]].concat()).unwrap();
        let ended_well = text.contains("all is right") && text.contains("exited normally");
        assert!(ended_well, "{setup}: {text}");
    }
}
