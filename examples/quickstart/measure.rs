//! Measurements: memory, as the arena and the kernel count it, and the time of touches.

use hdrhistogram::Histogram;
use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};
use thermocline::{Arena, LatencyHistogram, Stats};

const PAGE: usize = 4096;

/// The memory in use at one time.
#[derive(Debug)]
pub(crate) struct Usage {
    pub(crate) stats: Stats,
    /// Bytes of memory that only this process uses, if `/proc` has them.
    pub(crate) process: Option<u64>,
}

impl Usage {
    pub(crate) fn of(arena: &Arena) -> Self {
        let stats = arena.stats();
        Self {
            // The resident set (`VmRSS`) lacks pages of the arena that are in memory but not in the page
            // table, such as those that the zap tracker has armed.
            process: anonymous_bytes().map(|anonymous| anonymous + stats.memory_bytes),
            stats,
        }
    }
}

/// Bytes of the heap, the stacks, and the arena's compressed store.
fn anonymous_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// The times of the first read of each page, as the reading thread measures them.
#[derive(Debug)]
pub(crate) struct Touches(Histogram<u64>);

impl Touches {
    pub(crate) fn new() -> Self {
        Self(new_histogram())
    }

    /// Reads a byte of each page of `bytes`.
    pub(crate) fn touch(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let start = Instant::now();
            // The inner black_box keeps the compiler from reading the byte before the clock.
            black_box(*black_box(byte));
            self.0.saturating_record(nanos(start.elapsed()));
            at += PAGE - (byte as *const u8).addr() % PAGE;
        }
    }

    /// A quantile of the slowest `slowest` touches.
    ///
    /// A reader does not see which of its reads was a refault, but the arena counts refaults, and they
    /// take many times as long as other reads: they are the slowest ones.
    pub(crate) fn quantile_of_slowest(&self, slowest: u64, quantile: f64) -> Option<Duration> {
        let all = self.0.len();
        let slowest = slowest.min(all);
        if slowest == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a statistic")]
        let share = slowest as f64 / all as f64;
        let nanos = self.0.value_at_quantile(1.0 - share * (1.0 - quantile));
        Some(Duration::from_nanos(nanos))
    }
}

/// A quantile of the arena's histogram between two snapshots.
pub(crate) fn quantile_between(
    before: &LatencyHistogram,
    after: &LatencyHistogram,
    quantile: f64,
) -> Option<Duration> {
    let mut histogram = new_histogram();
    for ((time, was), (_, is)) in before.buckets().zip(after.buckets()) {
        histogram.saturating_record_n(nanos(time), is - was);
    }
    let time = Duration::from_nanos(histogram.value_at_quantile(quantile));
    (!histogram.is_empty()).then_some(time)
}

fn new_histogram() -> Histogram<u64> {
    // From a nanosecond to a minute, with three digits.
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("valid bounds")
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
