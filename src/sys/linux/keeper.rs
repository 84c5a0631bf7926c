//! The thread that keeps an arena's descriptors where the program cannot close them.
//!
//! The registration of memory with a userfaultfd lives as long as the descriptor's file: when the last
//! descriptor is closed, evicted pages read as zeros (`userfaultfd_release` in `fs/userfaultfd.c`). So the
//! program must not be able to close the last one. The keeper gives itself a descriptor table of its own
//! (`CLOSE_RANGE_UNSHARE`, Linux 5.9), in which only the arena's descriptors are left, under the same
//! numbers as in the program's table. It starts the arena's other threads, which share its table. No
//! thread of the program can change that table, and it keeps none of the program's files open.
//!
//! A thread of the program uses the number in the program's table while that still means the arena's file.
//! If it does not, the thread has the keeper make the call ([`Keeper::call`]).
//!
//! # Standard streams
//!
//! In the keeper's table the numbers of the standard streams are a small file in memory. A panic message
//! of an arena's thread lands there, and [`stderr::forward_captured`] copies it to the program's
//! standard error.

#![allow(unsafe_code)]

use super::descriptor::{self, Descriptor};
use super::event::Event;
use super::futex;
use super::stderr;
use super::thread::JoinHandle;
use crate::prim::sync::{AtomicBool, AtomicU64, Ordering, thread};
use crate::sys::error::SysError;
use core::cell::UnsafeCell;
use core::ffi::{c_int, c_uint, c_void};
use core::fmt;
use crossbeam::utils::CachePadded;
use std::os::fd::RawFd;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Calls that can wait for the keeper at a time. A thread with a further call waits for a free desk.
const DESKS: usize = 16;

/// For how long a thread sleeps before it looks again, in case a wake-up is lost.
const LONG: Duration = Duration::from_secs(1);

/// A desk's states: free, being written by a caller, waiting for the keeper, answered.
const FREE: u64 = 0;
const TAKEN: u64 = 1;
const POSTED: u64 = 2;
/// The half of [`POSTED`] that the kernel compares.
const POSTED_HALF: u32 = 2;
const DONE: u64 = 3;

/// A function to call and its argument, both of which the caller keeps alive until it is done.
type Job = (unsafe fn(*mut c_void), *mut c_void);

struct Desk {
    state: AtomicU64,
    job: UnsafeCell<Option<Job>>,
}

struct Desks {
    desks: [CachePadded<Desk>; DESKS],
    /// Counts requests. The keeper sleeps on it.
    bell: AtomicU64,
    stop: AtomicBool,
}

// SAFETY: a desk's job is written by the thread that has taken the desk, and read by the keeper after that
// thread has posted it; the state orders both. What the job points to may go to another thread, see `call`.
unsafe impl Send for Desks {}
// SAFETY: as above.
unsafe impl Sync for Desks {}

/// The running keeper; dropping it ends it.
pub(crate) struct Keeper {
    desks: Arc<Desks>,
    thread: Option<JoinHandle>,
    has_own_table: bool,
    /// Raised for threads that wait for a userfaultfd. The keeper holds it too, and longest.
    interrupt: Option<Arc<Event>>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("has_own_table", &self.has_own_table).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Starts a keeper of these descriptors.
    ///
    /// Where the system does not let a thread have a table of its own (a sandbox that forbids
    /// `close_range(2)`), the keeper and the threads that it starts share the program's table, and
    /// [`has_own_table`](Self::has_own_table) is false.
    pub(crate) fn start(descriptors: &[&Descriptor]) -> Result<Self, SysError> {
        let failed = "the keeper of an arena's descriptors failed";
        let numbers: Vec<RawFd> = descriptors.iter().map(|kept| kept.number()).collect();
        let desks = Arc::new(Desks::new());
        let (ready, answer) = mpsc::channel();
        let served = Arc::clone(&desks);
        let thread = super::thread::spawn("thermocline-k", failed, move || {
            let has_own_table = make_own_table(&numbers);
            let interrupt = Event::new().map(Arc::new);
            let held = interrupt.clone();
            // The thread that starts the keeper waits for this.
            let _ = ready.send((has_own_table, interrupt));
            served.serve();
            drop(held);
        })
        .map_err(|e| SysError::from_io("pthread_create", &e))?;
        let (has_own_table, interrupt) =
            answer.recv().map_err(|_| SysError::new("pthread_create", libc::EIO))?;
        let mut this = Self { desks, thread: Some(thread), has_own_table, interrupt: None };
        this.interrupt = Some(interrupt?);
        // The program may have closed them before the keeper had copies.
        let all_ours = this.call(|| descriptors.iter().all(|kept| kept.is_ours()));
        if all_ours { Ok(this) } else { Err(SysError::new("fstat(userfaultfd)", libc::EBADF)) }
    }

    /// Whether the keeper, and the threads that it starts, have a table that the program cannot change.
    pub(crate) fn has_own_table(&self) -> bool {
        self.has_own_table
    }

    /// The event that ends the waits of threads for a userfaultfd. Only the arena's own threads may use it.
    pub(crate) fn interrupt(&self) -> Arc<Event> {
        Arc::clone(self.interrupt.as_ref().expect("set by `start`"))
    }

    /// Raises the [event](Self::interrupt).
    pub(crate) fn raise_interrupt(&self) {
        if let Some(interrupt) = &self.interrupt {
            self.call(|| interrupt.raise());
        }
    }

    /// Has the keeper's thread do something, and waits until it is done. It must not panic, and must not
    /// wait for the calling thread.
    ///
    /// Neither allocates nor locks, so a signal handler may call it if all signals are blocked.
    pub(crate) fn call<R: Send>(&self, what: impl FnOnce() -> R + Send) -> R {
        struct Frame<F, R> {
            what: Option<F>,
            result: Option<R>,
        }
        unsafe fn run<F: FnOnce() -> R, R>(frame: *mut c_void) {
            // SAFETY: the pointer is the one that `call` has posted with this function, and its thread
            // does not look at the frame before the desk says that this is done.
            let frame = unsafe { &mut *frame.cast::<Frame<F, R>>() };
            frame.result = frame.what.take().map(|what| what());
        }
        fn runner<F: FnOnce() -> R, R>(_: &Frame<F, R>) -> unsafe fn(*mut c_void) {
            run::<F, R>
        }
        let mut frame = Frame { what: Some(what), result: None };
        let run = runner(&frame);
        self.desks.post((run, (&raw mut frame).cast()));
        frame.result.expect("the keeper answers every call, or the process ends")
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Closed by the keeper, in whose table it is.
        self.interrupt = None;
        self.desks.stop.store(true, Ordering::Release);
        self.desks.ring();
        if let Some(thread) = self.thread.take() {
            // A keeper that panics aborts the process.
            let _ = thread.join();
        }
    }
}

impl Desks {
    fn new() -> Self {
        let desk = |_| Desk { state: AtomicU64::new(FREE), job: UnsafeCell::new(None) };
        Self {
            desks: core::array::from_fn(|n| CachePadded::new(desk(n))),
            bell: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    fn ring(&self) {
        self.bell.fetch_add(1, Ordering::Release);
        futex::wake_all(&self.bell);
    }

    /// Posts a job and waits until the keeper has done it.
    fn post(&self, job: Job) {
        let desk = loop {
            let take = |desk: &&CachePadded<Desk>| {
                let state = &desk.state;
                state.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
            };
            match self.desks.iter().find(take) {
                Some(desk) => break desk,
                // The keeper makes each call in turn, and none of them waits for this thread.
                None => thread::yield_now(),
            }
        };
        // SAFETY: this thread has taken the desk.
        unsafe { *desk.job.get() = Some(job) };
        desk.state.store(POSTED, Ordering::Release);
        self.ring();
        while desk.state.load(Ordering::Acquire) == POSTED {
            futex::wait(&desk.state, POSTED_HALF, LONG);
        }
        desk.state.store(FREE, Ordering::Release);
    }

    /// The keeper's work, until it is stopped.
    fn serve(&self) {
        loop {
            let seen = self.bell.load(Ordering::Acquire);
            let mut served = false;
            for desk in &self.desks {
                if desk.state.load(Ordering::Acquire) == POSTED {
                    // SAFETY: posted, so its caller waits and does not touch it.
                    let job = unsafe { (*desk.job.get()).take() };
                    if let Some((run, frame)) = job {
                        // SAFETY: the caller keeps both alive until the desk says that it is done.
                        unsafe { run(frame) };
                    }
                    desk.state.store(DONE, Ordering::Release);
                    futex::wake_all(&desk.state);
                    served = true;
                }
            }
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            if !served {
                #[expect(clippy::cast_possible_truncation, reason = "the half that is slept on")]
                futex::wait(&self.bell, seen as u32, LONG);
            }
        }
    }
}

/// Gives the calling thread a table that holds the files of `numbers`, and no other. False where the system
/// forbids it; then nothing has changed.
fn make_own_table(numbers: &[RawFd]) -> bool {
    // Thread sanitizer takes a number for the same file in each thread, and reads the answers of its
    // symbolizer by a number of the program's table.
    if cfg!(thermocline_tsan) {
        return false;
    }
    let mut kept: Vec<c_uint> = numbers.iter().map(|number| number.unsigned_abs()).collect();
    kept.sort_unstable();
    let above = kept.last().map_or(0, |last| last + 1);
    // The kernel does not even copy what lies above.
    if !close_range(above, c_uint::MAX, libc::CLOSE_RANGE_UNSHARE as c_int) {
        return false;
    }
    descriptor::enter_own_table();
    let mut next = 0;
    for number in kept {
        // An empty range is an error.
        let _ = number > next && close_range(next, number - 1, 0);
        next = number + 1;
    }
    // Without it a panic message is lost, and nothing else.
    let _ = stderr::take_standard_streams();
    true
}

fn close_range(first: c_uint, last: c_uint, flags: c_int) -> bool {
    // SAFETY: takes and returns integers. Closing concerns the calling thread's own table: it is either
    // unshared by the very call, or was by the one before.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) == 0 }
}
