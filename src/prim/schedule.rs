//! Threads that go on one at a time, in an order that a test decides.
//!
//! Each is a thread of the system, and waits until it has the *baton*. Who has it keeps it until it
//! waits for something, gives way ([`yield_now`]) or ends; then the first thread that can go on gets
//! it, in the order in which they were started, those that have given way last. A [`Plan`] changes
//! that: at every [`step`] (each access to a shared word that is not relaxed, each lock, each call
//! into the simulated kernel) it may hand the baton to another thread. So a run is determined by its
//! plan, and repeats by it.
//!
//! Nothing ever times out. When nobody can go on the run ends as a deadlock, and after too many
//! steps as endless; what is left of its threads is unwound.

mod turns;

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use turns::{Member, State, Status};

/// How a run is to go.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// At these steps, in order, the baton goes to these threads.
    pub(crate) switches: Vec<(usize, usize)>,
    /// Besides, one step in so many hands it to somebody, chosen from this seed.
    pub(crate) seed: Option<u64>,
    pub(crate) odds: u64,
    /// More steps than this are taken for endless.
    pub(crate) limit: usize,
    /// Whether to note each step.
    pub(crate) record: bool,
}

impl Plan {
    /// Nobody is interrupted.
    pub(crate) const PLAIN: Self =
        Self { switches: Vec::new(), seed: None, odds: 8, limit: 100_000, record: false };
}

/// How a run ended, if not well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody can go on any more. Says who waits.
    Deadlock(String),
    /// It did not come to an end.
    Endless,
    /// Somebody gave the whole program up, for a reason.
    Aborted(String),
    /// Somebody found something wrong, or panicked.
    Wrong(String),
}

/// A step that was noted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// Who took it.
    pub(crate) thread: usize,
    /// A bit for each other thread that could have gone on instead.
    pub(crate) others: u64,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) failure: Option<Failure>,
    pub(crate) steps: usize,
    pub(crate) noted: Vec<Step>,
}

#[derive(Debug)]
struct Schedule(Mutex<State>);

/// What the threads of a run that has ended unwind with.
struct Ended;

thread_local! {
    static MEMBER: RefCell<Option<(Arc<Schedule>, usize)>> = const { RefCell::new(None) };
}

/// The run that this thread takes part in, and its number there.
fn member() -> Option<(Arc<Schedule>, usize)> {
    // None in a thread that is about to end.
    MEMBER.try_with(|member| member.borrow().clone()).ok().flatten()
}

/// Runs `main`, and the threads that it starts, by `plan`.
pub(crate) fn run(plan: Plan, main: impl FnOnce()) -> Ran {
    let first = Member {
        name: "main".to_owned(),
        status: Status::Ready,
        token: false,
        system: Some(std::thread::current()),
    };
    let schedule = Arc::new(Schedule(Mutex::new(State {
        members: vec![first],
        current: 0,
        plan,
        steps: 0,
        noted: Vec::new(),
        ended: false,
        failure: None,
        systems: Vec::new(),
    })));
    MEMBER.set(Some((Arc::clone(&schedule), 0)));
    let result = catch_unwind(AssertUnwindSafe(main));
    schedule.note_panic(result);
    MEMBER.set(None);
    let mut state = schedule.state();
    let left: Vec<_> =
        state.members[1..].iter().filter(|m| m.status != Status::Done).map(|m| &m.name).collect();
    if !left.is_empty() && !state.ended {
        let left = format!("nobody has waited for {left:?}");
        state.end(Failure::Wrong(left));
    }
    let systems = std::mem::take(&mut state.systems);
    drop(state);
    for system in systems {
        // Its panics are caught, and noted.
        let _ = system.join();
    }
    let mut state = schedule.state();
    Ran {
        failure: state.failure.take(),
        steps: state.steps,
        noted: std::mem::take(&mut state.noted),
    }
}

/// Ends the run: something is wrong.
pub(crate) fn fail(what: String) -> ! {
    give_up(Failure::Wrong(what))
}

/// Ends the run as the process would end.
pub(crate) fn abort(why: String) -> ! {
    give_up(Failure::Aborted(why))
}

fn give_up(failure: Failure) -> ! {
    if let Some((schedule, _)) = member() {
        schedule.state().end(failure);
        resume_unwind(Box::new(Ended));
    }
    panic!("{failure:?}")
}

/// A point at which another thread may go on.
pub(crate) fn step() {
    if let Some((schedule, me)) = member() {
        schedule.step(me);
    }
}

/// Steps that the run has taken so far.
pub(crate) fn steps() -> usize {
    member().map_or(0, |(schedule, _)| schedule.state().steps)
}

/// Gives way to all others.
pub(crate) fn yield_now() {
    match member() {
        Some((schedule, me)) => schedule.pause(me, Status::Yielded),
        None => std::thread::yield_now(),
    }
}

/// Waits to be unparked.
pub(crate) fn park() {
    match member() {
        Some((schedule, me)) => schedule.pause(me, Status::Parked),
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
    member().map_or_else(|| Thread::System(std::thread::current()), |(_, me)| Thread::Scheduled(me))
}

impl Thread {
    pub(crate) fn unpark(&self) {
        match (self, member()) {
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
    /// Waits for its end. An error means that the run is over.
    pub(crate) fn join(self) -> Result<T, Box<dyn Any + Send>> {
        let (number, result) = match self {
            Self::System(handle) => return handle.join(),
            Self::Scheduled(number, result) => (number, result),
        };
        if let Some((schedule, me)) = member() {
            schedule.pause(me, Status::Joining(number));
        }
        let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
        result.take().ok_or_else(|| Box::new(Ended) as _)
    }
}

/// Starts a thread, which does not go on at once.
pub(crate) fn spawn<T: Send + 'static>(
    name: String,
    body: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let Some((schedule, _)) = member() else {
        return JoinHandle::System(std::thread::spawn(body));
    };
    let result = Arc::new(Mutex::new(None));
    let mut state = schedule.state();
    let number = state.members.len();
    let member = Member { name, status: Status::Ready, token: false, system: None };
    state.members.push(member);
    let handle = {
        let (schedule, result) = (Arc::clone(&schedule), Arc::clone(&result));
        std::thread::spawn(move || {
            MEMBER.set(Some((Arc::clone(&schedule), number)));
            let ran = catch_unwind(AssertUnwindSafe(|| {
                schedule.wait_for_baton(number);
                let value = body();
                *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            }));
            schedule.note_panic(ran);
            MEMBER.set(None);
            schedule.state().finish(number);
        })
    };
    state.members[number].system = Some(handle.thread().clone());
    state.systems.push(handle);
    drop(state);
    JoinHandle::Scheduled(number, result)
}

impl Schedule {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_panic<T>(&self, result: Result<T, Box<dyn Any + Send>>) {
        let Err(payload) = result else { return };
        if payload.is::<Ended>() {
            return;
        }
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        let failure = Failure::Wrong(format!("panic: {}", text.unwrap_or_default()));
        let mut state = self.state();
        state.end(failure.clone());
        // What was noted while it unwound says less.
        state.failure = Some(failure);
    }

    /// Whether the run is over; its threads unwind then, once.
    fn is_over(&self) -> bool {
        let mut state = self.state();
        if std::thread::panicking() {
            state.end(Failure::Wrong("a panic".to_owned()));
            return true;
        }
        if state.ended {
            drop(state);
            resume_unwind(Box::new(Ended));
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

    fn pause(&self, me: usize, status: Status) {
        if self.is_over() {
            return;
        }
        let mut state = self.state();
        if state.put_aside(me, status) {
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

/// The next of numbers that look random (xorshift64*).
pub(crate) fn number_after(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
}
