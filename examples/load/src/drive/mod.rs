//! Sends a phase's requests over its connections and checks the replies.
//!
//! Each thread has a share of the connections and one poll. A connection has an output buffer for
//! requests, a queue of unanswered requests, and an input buffer, in which replies are checked in place.

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

use crate::BoxError;
use crate::content::Content;
use crate::options::Options;
use crate::versions::Versions;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use worker::Worker;

/// State that all threads of a phase share.
#[derive(Debug)]
pub(crate) struct Drive<'a> {
    pub(crate) options: &'a Options,
    pub(crate) content: Content,
    pub(crate) versions: &'a Versions,
    pub(crate) plan: Plan<'a>,
    pub(crate) pipeline: usize,
    /// The time before the measurement.
    pub(crate) warm_up: Duration,
    /// The number of requests or positions that were handed out.
    taken: AtomicU64,
    /// The number of replies, for the progress bar.
    done: AtomicU64,
    /// A thread has failed, so that all threads end.
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

    /// Runs the phase. Calls `watch` repeatedly with the number of replies and the elapsed time.
    pub(crate) fn run(&self, mut watch: impl FnMut(u64, Duration)) -> Result<Tally, BoxError> {
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
