//! Patterns of allocation and freeing, as in programs, and their times.

mod growth;
mod handoff;
mod larson;
mod mixed;
mod single;

pub(crate) use growth::Factor;
pub(crate) use single::Order;

use crate::sides::Side;
use std::fmt;
use std::iter::Sum;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// Operations between two readings of the clock, if each takes a fraction of a microsecond.
const CHUNK: u32 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// Allocates a block and frees it, again and again.
    Pairs { size: usize },
    /// Allocates many blocks, then frees them.
    Batches { size: usize, order: Order },
    /// Frees a random block of many and allocates another.
    Mixed { mib: usize, threads: usize },
    /// Threads allocate blocks, and as many other threads free them.
    Handoff { pairs: usize },
    /// As [`Mixed`](Self::Mixed), with threads that end and hand their blocks to new threads.
    Larson { threads: usize },
    /// Vectors grow and are freed.
    Growth { factor: Factor, size: usize, vectors: usize },
}

impl Case {
    /// Runs for about as long as the budget, and returns the nanoseconds per operation.
    pub(crate) fn run<S: Side>(self, side: &S, seed: u64, budget: Duration) -> f64 {
        let done = match self {
            Self::Pairs { size } => single::pairs(side, size, budget),
            Self::Batches { size, order } => single::batches(side, size, order, seed, budget),
            Self::Mixed { mib, threads } => mixed::mixed(side, mib << 20, threads, seed, budget),
            Self::Handoff { pairs } => handoff::handoff(side, pairs, seed, budget),
            Self::Larson { threads } => larson::larson(side, threads, seed, budget),
            Self::Growth { factor, size, vectors } => {
                growth::growth(side, factor, size, vectors, budget)
            }
        };
        done.time.as_secs_f64() * 1e9 / f64::from(done.operations)
    }

    /// The operation, in words.
    pub(crate) fn operation(self) -> &'static str {
        match self {
            Self::Pairs { .. } | Self::Batches { .. } => "allocate + free",
            Self::Mixed { .. } | Self::Larson { .. } => "free + allocate",
            Self::Handoff { .. } => "allocate + free elsewhere",
            Self::Growth { .. } => "vector grown and freed",
        }
    }
}

/// The name of the figure.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Pairs { size } => write!(f, "pairs_{}", bytes(size)),
            Self::Batches { size, order } => write!(f, "batches_{}_{order}", bytes(size)),
            Self::Mixed { threads, .. } => write!(f, "mixed_{threads}t"),
            Self::Handoff { pairs } => write!(f, "handoff_{pairs}_{pairs}"),
            Self::Larson { threads } => write!(f, "larson_{threads}t"),
            Self::Growth { factor, size, vectors } => {
                write!(f, "growth_{factor}_{}_{vectors}v", bytes(size))
            }
        }
    }
}

/// A whole number of bytes, KiB or MiB.
fn bytes(size: usize) -> String {
    match size {
        0..1024 => format!("{size}b"),
        1024..0x10_0000 => format!("{}k", size >> 10),
        _ => format!("{}m", size >> 20),
    }
}

/// A number of operations, and their time.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    time: Duration,
    operations: u32,
}

impl Sum for Done {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, done| Self {
            time: sum.time + done.time,
            operations: sum.operations + done.operations,
        })
    }
}

/// Calls `act` until the budget is spent. `act` returns how many operations it did.
fn repeat(budget: Duration, mut act: impl FnMut() -> u32) -> Done {
    let start = Instant::now();
    let mut operations = 0;
    loop {
        operations += act();
        let time = start.elapsed();
        if time >= budget {
            return Done { time, operations };
        }
    }
}

/// Runs `work` on `threads` threads, this one included, and adds up the results. `work` waits at the
/// barrier before it measures.
fn on_threads(threads: usize, work: impl Fn(usize, &Barrier) -> Done + Sync) -> Done {
    let barrier = &Barrier::new(threads);
    let work = &work;
    thread::scope(|scope| {
        let spawn = |n| scope.spawn(move || work(n, barrier));
        let others: Vec<_> = (1..threads).map(spawn).collect();
        let own = work(0, barrier);
        let join = |thread: thread::ScopedJoinHandle<'_, Done>| thread.join().expect("it counts");
        others.into_iter().map(join).chain([own]).sum()
    })
}
