//! Stopping a single thread from another process, as a debugger does.

#![allow(dead_code, unsafe_code, reason = "each test program uses a part of it")]

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

/// The number of the thread of this process with that name. A thread names itself when it first runs, so this
/// waits for the name.
pub fn thread_named(name: &str) -> i32 {
    let named = |task: &std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let mut tasks = std::fs::read_dir("/proc/self/task").unwrap().map(Result::unwrap);
        if let Some(task) = tasks.find(named) {
            return task.file_name().to_str().unwrap().parse().unwrap();
        }
        assert!(Instant::now() < end, "no thread is called {name}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A thread of this process that is stopped until this is dropped.
pub struct Stopped {
    tracer: i32,
    release: Option<File>,
}

impl Stopped {
    /// Stops the thread. None if the system does not let a process trace its parent.
    pub fn new(thread: i32) -> Option<Self> {
        let (told, tell) = pipe();
        let (released, release) = pipe();
        // SAFETY: takes integers. Allows any process to trace this one, if the kernel asks for that.
        unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY, 0, 0, 0) };
        // SAFETY: the child makes only system calls, on integers and on its own stack.
        match unsafe { libc::fork() } {
            -1 => panic!("{}", std::io::Error::last_os_error()),
            0 => trace(thread, tell.as_raw_fd(), released.as_raw_fd(), release.as_raw_fd()),
            tracer => {
                drop(tell);
                let stopped = Self { tracer, release: Some(release) };
                // The read fails if the child has ended without stopping the thread.
                (&told).read_exact(&mut [0]).is_ok().then_some(stopped)
            }
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(self.release.take());
        // SAFETY: waits for a child that ends by itself.
        assert_eq!(unsafe { libc::waitpid(self.tracer, ptr::null_mut(), 0) }, self.tracer);
    }
}

/// The child: stops the thread, reports that, and continues the thread when the parent closes `release`.
fn trace(thread: i32, tell: i32, released: i32, release: i32) -> ! {
    let null = ptr::null_mut::<libc::c_void>();
    // SAFETY: integers, and bytes on the stack.
    unsafe {
        libc::close(release);
        let seized = libc::ptrace(libc::PTRACE_SEIZE, thread, null, null) == 0
            && libc::ptrace(libc::PTRACE_INTERRUPT, thread, null, null) == 0
            && libc::waitpid(thread, ptr::null_mut(), libc::__WALL) == thread;
        if seized {
            libc::write(tell, [0u8; 1].as_ptr().cast(), 1);
            libc::read(released, [0u8; 1].as_mut_ptr().cast(), 1);
            libc::ptrace(libc::PTRACE_DETACH, thread, null, null);
        }
        libc::_exit(0)
    }
}

/// A pipe's ends: for reading, for writing.
pub fn pipe() -> (File, File) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which are new.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1]))
    }
}
