//! Touching pages and taking the time.

use crate::common::CLUSTER;
use crate::data::WORDS;
use crate::kernel::cpu_time;
use crate::{Trouble, common};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What a touch takes, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touches {
    pub(crate) median: f64,
    pub(crate) mean: f64,
    pub(crate) p99: f64,
    /// Time of all processors, per touch.
    pub(crate) cpu: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    Random,
    /// Clusters in random order, the pages of a cluster from first to last.
    Clustered,
    Sequential,
}

/// The words to read: one in each page, at a place that differs from page to page.
pub(crate) fn visits(pattern: Pattern, pages: usize, seed: u64) -> Vec<usize> {
    let order = match pattern {
        Pattern::Random => common::shuffled(pages, seed),
        Pattern::Clustered => common::clustered(pages, seed),
        Pattern::Sequential => (0..pages).collect(),
    };
    debug_assert_eq!(pages % CLUSTER, 0);
    // An odd step visits all words of a page before one comes again.
    order.into_iter().map(|page| page * WORDS + (page * 73 + 5) % WORDS).collect()
}

/// Reads every word of `visits` and takes the time of each, which includes that of one look at the
/// clock.
pub(crate) fn touch_each(words: &[AtomicU64], visits: &[usize]) -> Touches {
    timed(visits, |visit| {
        black_box(words[visit].load(Ordering::Relaxed));
        Ok(())
    })
    .expect("reading does not fail")
}

/// The same for anything that is done for a visit.
pub(crate) fn timed(
    visits: &[usize],
    mut act: impl FnMut(usize) -> Result<(), Trouble>,
) -> Result<Touches, Trouble> {
    // Not zeros, which would be memory that is yet to be touched.
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

/// Reads words with a pause before each, in which whoever would serve the touch falls asleep.
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

/// Pages per second that `threads` threads bring back together, each of them its own.
pub(crate) fn throughput(words: &[AtomicU64], visits: &[usize], threads: usize) -> f64 {
    let time = common::together(visits, threads, |visit| {
        black_box(words[visit].load(Ordering::Relaxed));
    });
    number(visits.len()) / time.as_secs_f64().max(1e-9)
}

/// What one look at the clock takes.
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
