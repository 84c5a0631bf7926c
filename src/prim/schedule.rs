//! A scheduler that runs threads one at a time, in an order that a test decides.
//!
//! Each task is a thread of the system that runs only while it has the *baton*. It keeps the baton until
//! it blocks, yields ([`yield_now`]) or ends. Then the first runnable task gets it, in the order in which
//! tasks started; tasks that yielded come last. A [`Plan`] may hand the baton to another task
//! at every [`step`], that is at each lock, each call into the simulated kernel, and each access to a
//! shared word that is not relaxed. So the plan determines the run, and the same plan repeats it.
//!
//! There are no timeouts. A run ends as a deadlock when no task is runnable, and as endless after too many
//! steps. Then the remaining tasks unwind.

mod state;

use state::{State, Status, Task};
use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Determines the order of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Pairs of a step and the task that gets the baton there, by step.
    pub(crate) switches: Vec<(usize, usize)>,
    /// If set, one step in `odds` hands the baton to a random task too. The seed determines which.
    pub(crate) seed: Option<u64>,
    pub(crate) odds: u64,
    /// A run of more steps counts as endless.
    pub(crate) limit: usize,
    /// Whether to record each step.
    pub(crate) record: bool,
}

impl Plan {
    /// No task is preempted.
    pub(crate) const PLAIN: Self =
        Self { switches: Vec::new(), seed: None, odds: 8, limit: 100_000, record: false };
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No task is runnable. Names the blocked tasks.
    Deadlock(String),
    /// The run exceeded [`Plan::limit`].
    Endless,
    /// A task aborted the process, for this reason.
    Aborted(String),
    /// A task found an error, or panicked.
    Wrong(String),
}

/// A recorded step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// The task that took it.
    pub(crate) thread: usize,
    /// A bit for each other task that was runnable.
    pub(crate) others: u64,
}

/// The outcome of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) failure: Option<Failure>,
    pub(crate) steps: usize,
    pub(crate) noted: Vec<Step>,
}

#[derive(Debug)]
struct Schedule(Mutex<State>);

/// The panic payload with which tasks unwind after the end of the run.
struct RunOver;

thread_local! {
    static TASK: RefCell<Option<(Arc<Schedule>, usize)>> = const { RefCell::new(None) };
}

/// The run that this thread belongs to, and the number of its task.
fn task() -> Option<(Arc<Schedule>, usize)> {
    // `None` in a thread that is about to end.
    TASK.try_with(|task| task.borrow().clone()).ok().flatten()
}

/// Runs `main`, and the threads that it starts, according to `plan`.
pub(crate) fn run(plan: Plan, main: impl FnOnce()) -> Ran {
    let first = Task {
        name: "main".to_owned(),
        status: Status::Ready,
        token: false,
        thread: Some(std::thread::current()),
    };
    let schedule = Arc::new(Schedule(Mutex::new(State {
        tasks: vec![first],
        current: 0,
        plan,
        steps: 0,
        noted: Vec::new(),
        ended: false,
        failure: None,
        threads: Vec::new(),
    })));
    TASK.set(Some((Arc::clone(&schedule), 0)));
    let result = catch_unwind(AssertUnwindSafe(main));
    schedule.record_panic(result);
    TASK.set(None);
    let mut state = schedule.state();
    let left: Vec<_> =
        state.tasks[1..].iter().filter(|m| m.status != Status::Done).map(|m| &m.name).collect();
    if !left.is_empty() && !state.ended {
        let left = format!("main did not join {left:?}");
        state.end(Failure::Wrong(left));
    }
    let threads = std::mem::take(&mut state.threads);
    drop(state);
    for thread in threads {
        // The thread has caught and recorded its panics.
        let _ = thread.join();
    }
    let mut state = schedule.state();
    Ran {
        failure: state.failure.take(),
        steps: state.steps,
        noted: std::mem::take(&mut state.noted),
    }
}

/// Ends the run with an error.
pub(crate) fn fail(what: String) -> ! {
    end_run(Failure::Wrong(what))
}

/// Ends the run where the program would abort.
pub(crate) fn abort(why: String) -> ! {
    end_run(Failure::Aborted(why))
}

fn end_run(failure: Failure) -> ! {
    if let Some((schedule, _)) = task() {
        schedule.state().end(failure);
        resume_unwind(Box::new(RunOver));
    }
    panic!("{failure:?}")
}

/// A point at which another task may run.
pub(crate) fn step() {
    if let Some((schedule, me)) = task() {
        schedule.step(me);
    }
}

/// The number of steps so far.
pub(crate) fn steps() -> usize {
    task().map_or(0, |(schedule, _)| schedule.state().steps)
}

/// Lets all other tasks run first.
pub(crate) fn yield_now() {
    match task() {
        Some((schedule, me)) => schedule.block(me, Status::Yielded),
        None => std::thread::yield_now(),
    }
}

/// Blocks until [`Thread::unpark`].
pub(crate) fn park() {
    match task() {
        Some((schedule, me)) => schedule.block(me, Status::Parked),
        None => std::thread::park(),
    }
}

/// A thread that can be unparked.
#[derive(Clone, Debug)]
pub(crate) enum Thread {
    Scheduled(usize),
    System(std::thread::Thread),
}

/// This thread.
pub(crate) fn current() -> Thread {
    task().map_or_else(|| Thread::System(std::thread::current()), |(_, me)| Thread::Scheduled(me))
}

impl Thread {
    pub(crate) fn unpark(&self) {
        match (self, task()) {
            (Self::Scheduled(number), Some((schedule, _))) => schedule.state().unpark(*number),
            (Self::System(thread), _) => thread.unpark(),
            // The run is over.
            (Self::Scheduled(_), None) => {}
        }
    }
}

/// A thread that was started.
#[derive(Debug)]
pub(crate) enum JoinHandle<T> {
    Scheduled(usize, Arc<Mutex<Option<T>>>),
    System(std::thread::JoinHandle<T>),
}

impl<T> JoinHandle<T> {
    /// Waits for the thread's end. An error means that the run is over.
    pub(crate) fn join(self) -> Result<T, Box<dyn Any + Send>> {
        let (number, result) = match self {
            Self::System(handle) => return handle.join(),
            Self::Scheduled(number, result) => (number, result),
        };
        if let Some((schedule, me)) = task() {
            schedule.block(me, Status::Joining(number));
        }
        let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
        result.take().ok_or_else(|| Box::new(RunOver) as _)
    }
}

/// Starts a thread. It does not run before it gets the baton.
pub(crate) fn spawn<T: Send + 'static>(
    name: String,
    body: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let Some((schedule, _)) = task() else {
        return JoinHandle::System(std::thread::spawn(body));
    };
    let result = Arc::new(Mutex::new(None));
    let mut state = schedule.state();
    let number = state.tasks.len();
    state.tasks.push(Task { name, status: Status::Ready, token: false, thread: None });
    let handle = {
        let (schedule, result) = (Arc::clone(&schedule), Arc::clone(&result));
        std::thread::spawn(move || {
            TASK.set(Some((Arc::clone(&schedule), number)));
            let ran = catch_unwind(AssertUnwindSafe(|| {
                schedule.wait_for_baton(number);
                let value = body();
                *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            }));
            schedule.record_panic(ran);
            TASK.set(None);
            schedule.state().finish(number);
        })
    };
    state.tasks[number].thread = Some(handle.thread().clone());
    state.threads.push(handle);
    drop(state);
    JoinHandle::Scheduled(number, result)
}

impl Schedule {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record_panic<T>(&self, result: Result<T, Box<dyn Any + Send>>) {
        let Err(payload) = result else { return };
        if payload.is::<RunOver>() {
            return;
        }
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        let failure = Failure::Wrong(format!("panic: {}", text.unwrap_or_default()));
        let mut state = self.state();
        state.end(failure.clone());
        // This panic says more than a failure recorded while it unwound.
        state.failure = Some(failure);
    }

    /// Whether the run is over. Unwinds the task then, unless it is unwinding already.
    fn is_over(&self) -> bool {
        let mut state = self.state();
        if std::thread::panicking() {
            state.end(Failure::Wrong("a panic".to_owned()));
            return true;
        }
        if state.ended {
            drop(state);
            resume_unwind(Box::new(RunOver));
        }
        false
    }

    fn step(&self, me: usize) {
        if self.is_over() {
            return;
        }
        let mut state = self.state();
        if state.take_step(me) {
            drop(state);
            self.wait_for_baton(me);
        }
    }

    fn block(&self, me: usize, status: Status) {
        if self.is_over() {
            return;
        }
        let mut state = self.state();
        if state.block(me, status) {
            drop(state);
            self.wait_for_baton(me);
        }
    }

    fn wait_for_baton(&self, me: usize) {
        loop {
            let state = self.state();
            if state.ended || state.current == me {
                break;
            }
            drop(state);
            std::thread::park();
        }
        self.is_over();
    }
}

/// The next pseudorandom number (xorshift64*).
pub(crate) fn number_after(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
}
