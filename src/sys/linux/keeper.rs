//! The thread that holds an arena's descriptors where the program cannot close them.
//!
//! The registration of memory with a userfaultfd lives as long as the descriptor's file: when the last
//! descriptor is closed, evicted pages read as zeros (`userfaultfd_release` in `fs/userfaultfd.c`). So the
//! program must not be able to close the last one. The keeper gives itself a descriptor table of its own
//! (`CLOSE_RANGE_UNSHARE`, Linux 5.9), in which only the arena's descriptors remain, under the same
//! numbers as in the program's table. It starts the arena's other threads, which share its table. No
//! thread of the program can change that table, and the table keeps none of the program's files open.
//!
//! A thread of the program uses the number in the program's table while that number refers to the arena's
//! file. If it no longer does, the thread delegates the call to the keeper ([`Keeper::call`]).
//!
//! # Standard streams
//!
//! In the keeper's table the numbers of the standard streams refer to a small memfd. A thread of the arena
//! that panics writes its message there, and [`stderr::forward_captured`] copies it to the program's
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

/// The most calls that can wait for the keeper at a time. A thread with a further call waits for a free slot.
const SLOTS: usize = 16;

/// A sleeping thread checks its word again after this time, in case a wake-up is lost.
const RECHECK: Duration = Duration::from_secs(1);

/// A slot's states: free; taken by a caller that writes the job; posted to the keeper; done.
const FREE: u64 = 0;
const TAKEN: u64 = 1;
const POSTED: u64 = 2;
/// The low 32 bits of [`POSTED`], which the kernel compares.
const POSTED_HALF: u32 = 2;
const DONE: u64 = 3;

/// A function and its argument. The caller keeps both alive until the keeper has called the function.
type Job = (unsafe fn(*mut c_void), *mut c_void);

struct Slot {
    state: AtomicU64,
    job: UnsafeCell<Option<Job>>,
}

struct Requests {
    slots: [CachePadded<Slot>; SLOTS],
    /// Counts the keeper's wake-ups. The keeper sleeps on this word.
    wakeups: AtomicU64,
    stop: AtomicBool,
}

// SAFETY: the thread that has taken a slot writes its job, and the keeper reads the job after that thread
// has posted it; the state orders both. The job's argument may be used by another thread, see `call`.
unsafe impl Send for Requests {}
// SAFETY: as above.
unsafe impl Sync for Requests {}

/// The running keeper. Dropping this ends it.
pub(crate) struct Keeper {
    requests: Arc<Requests>,
    thread: Option<JoinHandle>,
    has_own_table: bool,
    /// Ends the waits of threads for a userfaultfd. The keeper's thread holds a reference, and drops it last.
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
    /// If the system does not give a thread a table of its own (a sandbox that forbids
    /// `close_range(2)`), the keeper and the threads that it starts share the program's table, and
    /// [`has_own_table`](Self::has_own_table) is false.
    pub(crate) fn start(descriptors: &[&Descriptor]) -> Result<Self, SysError> {
        let failed = "the keeper of an arena's descriptors failed";
        let numbers: Vec<RawFd> = descriptors.iter().map(|kept| kept.number()).collect();
        let requests = Arc::new(Requests::new());
        let (ready, answer) = mpsc::channel();
        let served = Arc::clone(&requests);
        let thread = super::thread::spawn("thermo-keeper", failed, move || {
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
        let mut this = Self { requests, thread: Some(thread), has_own_table, interrupt: None };
        this.interrupt = Some(interrupt?);
        // The program may have closed the descriptors before the keeper had copied its table.
        let all_original = this.call(|| descriptors.iter().all(|kept| kept.is_original()));
        if all_original { Ok(this) } else { Err(SysError::new("fstat(userfaultfd)", libc::EBADF)) }
    }

    /// Whether the keeper and the threads that it starts have a table that the program cannot change.
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

    /// Delegates `work` to the keeper's thread and waits for its result. `work` must not panic, and must
    /// not wait for the calling thread.
    ///
    /// Neither allocates nor locks. A signal handler may call it if all signals are blocked.
    pub(crate) fn call<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        struct Frame<F, R> {
            work: Option<F>,
            result: Option<R>,
        }
        unsafe fn run<F: FnOnce() -> R, R>(frame: *mut c_void) {
            // SAFETY: `call` has posted this pointer with this function, and its thread does not
            // access the frame before the slot's state is `DONE`.
            let frame = unsafe { &mut *frame.cast::<Frame<F, R>>() };
            frame.result = frame.work.take().map(|work| work());
        }
        fn runner<F: FnOnce() -> R, R>(_: &Frame<F, R>) -> unsafe fn(*mut c_void) {
            run::<F, R>
        }
        let mut frame = Frame { work: Some(work), result: None };
        let run = runner(&frame);
        self.requests.post((run, (&raw mut frame).cast()));
        frame.result.expect("the keeper finishes every call, or the process ends")
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // The keeper drops the last reference, and so closes the event's descriptor in the right table.
        self.interrupt = None;
        self.requests.stop.store(true, Ordering::Release);
        self.requests.wake_keeper();
        if let Some(thread) = self.thread.take() {
            // A keeper that panics aborts the process.
            let _ = thread.join();
        }
    }
}

impl Requests {
    fn new() -> Self {
        let slot = |_| Slot { state: AtomicU64::new(FREE), job: UnsafeCell::new(None) };
        Self {
            slots: core::array::from_fn(|n| CachePadded::new(slot(n))),
            wakeups: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    fn wake_keeper(&self) {
        self.wakeups.fetch_add(1, Ordering::Release);
        futex::wake_all(&self.wakeups);
    }

    /// Posts a job and waits until the keeper has done it.
    fn post(&self, job: Job) {
        let slot = loop {
            let take = |slot: &&CachePadded<Slot>| {
                let state = &slot.state;
                state.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
            };
            match self.slots.iter().find(take) {
                Some(slot) => break slot,
                // The keeper makes one call after the other, and no call waits for this thread.
                None => thread::yield_now(),
            }
        };
        // SAFETY: this thread has taken the slot.
        unsafe { *slot.job.get() = Some(job) };
        slot.state.store(POSTED, Ordering::Release);
        self.wake_keeper();
        while slot.state.load(Ordering::Acquire) == POSTED {
            futex::wait(&slot.state, POSTED_HALF, RECHECK);
        }
        slot.state.store(FREE, Ordering::Release);
    }

    /// Serves requests until the keeper is stopped.
    fn serve(&self) {
        loop {
            let seen = self.wakeups.load(Ordering::Acquire);
            let mut served = false;
            for slot in &self.slots {
                if slot.state.load(Ordering::Acquire) == POSTED {
                    // SAFETY: the job is posted, so its caller waits and does not access it.
                    let job = unsafe { (*slot.job.get()).take() };
                    if let Some((run, frame)) = job {
                        // SAFETY: the caller keeps both alive until the slot's state is `DONE`.
                        unsafe { run(frame) };
                    }
                    slot.state.store(DONE, Ordering::Release);
                    futex::wake_all(&slot.state);
                    served = true;
                }
            }
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            if !served {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "the kernel compares this half"
                )]
                futex::wait(&self.wakeups, seen as u32, RECHECK);
            }
        }
    }
}

/// Gives the calling thread a table that holds only the files of `numbers`. False if the system forbids
/// it; then the table is unchanged.
fn make_own_table(numbers: &[RawFd]) -> bool {
    // Thread sanitizer assumes that a number refers to the same file in each thread, and reads its
    // symbolizer's answers through a number of the program's table.
    if cfg!(thermocline_tsan) {
        return false;
    }
    let mut kept: Vec<c_uint> = numbers.iter().map(|number| number.unsigned_abs()).collect();
    kept.sort_unstable();
    let above = kept.last().map_or(0, |last| last + 1);
    // The kernel does not copy the descriptors above.
    if !close_range(above, c_uint::MAX, libc::CLOSE_RANGE_UNSHARE as c_int) {
        return false;
    }
    descriptor::enter_own_table();
    let mut next = 0;
    for number in kept {
        // close_range(2) refuses an empty range.
        let _ = number > next && close_range(next, number - 1, 0);
        next = number + 1;
    }
    // A failure loses only the messages of panics.
    let _ = stderr::take_standard_streams();
    true
}

fn close_range(first: c_uint, last: c_uint, flags: c_int) -> bool {
    // SAFETY: takes and returns integers. It closes descriptors only in the calling thread's own table:
    // this call or the one before has unshared it.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) == 0 }
}
