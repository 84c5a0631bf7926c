//! Sends a phase's requests over its connections and looks at what comes back.
//!
//! Each thread has its share of the connections and one poll. A connection has its requests in its
//! output, what is awaited in a queue and replies in its input, where they are looked at in place.

mod address;
mod connection;
mod judge;
mod pace;
mod requests;
mod tally;
mod worker;

pub(crate) use address::Address;
pub(crate) use requests::Plan;
pub(crate) use tally::Tally;

use crate::Trouble;
use crate::content::Content;
use crate::options::Options;
use crate::versions::Versions;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use worker::Worker;

/// What the threads of a phase share.
#[derive(Debug)]
pub(crate) struct Drive<'a> {
    pub(crate) options: &'a Options,
    pub(crate) content: Content,
    pub(crate) versions: &'a Versions,
    pub(crate) plan: Plan<'a>,
    pub(crate) pipeline: usize,
    /// Unmeasured time before anything is counted.
    pub(crate) warm_up: Duration,
    /// Requests or places of the plan that are given out.
    taken: AtomicU64,
    /// Answers so far, for who watches.
    done: AtomicU64,
    /// One has failed: the others end as well.
    failed: AtomicBool,
}

impl<'a> Drive<'a> {
    pub(crate) fn new(
        options: &'a Options,
        content: Content,
        versions: &'a Versions,
        plan: Plan<'a>,
        pipeline: usize,
        warm_up: Duration,
    ) -> Self {
        let (taken, done, failed) = Default::default();
        Self { options, content, versions, plan, pipeline, warm_up, taken, done, failed }
    }

    /// Does it all. `watch` is called now and then with the number of answers and the time since the
    /// beginning.
    pub(crate) fn run(&self, mut watch: impl FnMut(u64, Duration)) -> Result<Tally, Trouble> {
        let threads = self.options.threads;
        let workers: Vec<Worker<'_>> =
            (0..threads).map(|n| Worker::new(self, n)).collect::<Result<_, _>>()?;
        let start = Instant::now();
        thread::scope(|scope| {
            let running: Vec<_> = workers
                .into_iter()
                .map(|worker| {
                    scope.spawn(move || {
                        let result = worker.run(start);
                        self.failed.fetch_or(result.is_err(), Ordering::Relaxed);
                        result
                    })
                })
                .collect();
            while !running.iter().all(|thread| thread.is_finished()) {
                watch(self.done.load(Ordering::Relaxed), start.elapsed());
                thread::park_timeout(Duration::from_millis(20));
            }
            let mut whole = Tally::new(start + self.warm_up);
            for thread in running {
                let tally = thread.join().map_err(|_| "a thread has panicked")??;
                whole.add(tally);
            }
            Ok(whole)
        })
    }
}
