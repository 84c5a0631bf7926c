//! Timed touches of pages.

use crate::common::CLUSTER;
use crate::data::WORDS;
use crate::kernel::cpu_time;
use crate::{Trouble, common};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The time of a touch, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touches {
    pub(crate) median: f64,
    pub(crate) mean: f64,
    pub(crate) p99: f64,
    /// Processor time of all threads, per touch.
    pub(crate) cpu: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    Random,
    /// Clusters in random order, the pages of a cluster in ascending order.
    Clustered,
    Sequential,
}

/// The words to read: one in each page, at an index that differs from page to page.
pub(crate) fn visits(pattern: Pattern, pages: usize, seed: u64) -> Vec<usize> {
    let order = match pattern {
        Pattern::Random => common::shuffled(pages, seed),
        Pattern::Clustered => common::clustered(pages, seed),
        Pattern::Sequential => (0..pages).collect(),
    };
    debug_assert_eq!(pages % CLUSTER, 0);
    // An odd step visits all words of a page before it repeats one.
    order.into_iter().map(|page| page * WORDS + (page * 73 + 5) % WORDS).collect()
}

/// Reads every word of `visits`. The time of each read includes one reading of the clock.
pub(crate) fn touch_each(words: &[AtomicU64], visits: &[usize]) -> Touches {
    timed(visits, |visit| {
        black_box(words[visit].load(Ordering::Relaxed));
        Ok(())
    })
    .expect("reading does not fail")
}

/// The same with any action for a visit.
pub(crate) fn timed(
    visits: &[usize],
    mut act: impl FnMut(usize) -> Result<(), Trouble>,
) -> Result<Touches, Trouble> {
    // Not zeros: a vector of zeros would be memory that the program has not touched yet.
    let mut times = vec![u32::MAX; visits.len()];
    let cpu = cpu_time();
    let start = Instant::now();
    let mut last = start;
    for (visit, time) in visits.iter().zip(&mut times) {
        act(*visit)?;
        let now = Instant::now();
        *time = nanos(now - last);
        last = now;
    }
    let total = last - start;
    Ok(summary(times, total, cpu_time() - cpu))
}

/// Reads words with a pause before each, in which the thread that serves the fault falls asleep.
pub(crate) fn touch_after_pauses(words: &[AtomicU64], visits: &[usize]) -> Touches {
    let cpu = cpu_time();
    let touch = |visit: &usize| {
        thread::sleep(Duration::from_millis(1));
        let start = Instant::now();
        black_box(words[*visit].load(Ordering::Relaxed));
        start.elapsed()
    };
    let times: Vec<Duration> = visits.iter().map(touch).collect();
    let total = times.iter().sum();
    summary(times.into_iter().map(nanos).collect(), total, cpu_time() - cpu)
}

/// Pages per second that `threads` threads together bring back, each its own.
pub(crate) fn throughput(words: &[AtomicU64], visits: &[usize], threads: usize) -> f64 {
    let time = common::together(visits, threads, |visit| {
        black_box(words[visit].load(Ordering::Relaxed));
    });
    number(visits.len()) / time.as_secs_f64().max(1e-9)
}

/// The time of one reading of the clock.
pub(crate) fn clock_overhead() -> f64 {
    let looks = [0; 10_000];
    timed(&looks, |_| Ok(())).expect("nothing is done").mean
}

fn summary(mut times: Vec<u32>, total: Duration, cpu: Duration) -> Touches {
    times.sort_unstable();
    let count = number(times.len());
    let quantile =
        |percent: usize| f64::from(times[(times.len() * percent / 100).min(times.len() - 1)]);
    Touches {
        median: quantile(50),
        mean: total.as_secs_f64() * 1e9 / count,
        p99: quantile(99),
        cpu: cpu.as_secs_f64() * 1e9 / count,
    }
}

fn nanos(time: Duration) -> u32 {
    u32::try_from(time.as_nanos()).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
pub(crate) fn number(count: usize) -> f64 {
    count as f64
}
