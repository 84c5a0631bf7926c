//! Counters and histograms that the fault path may update, and the snapshot that a program reads.

mod figure;
mod histogram;
mod progress;
mod snapshot;

pub use figure::{Figure, FigureKind, Unit};
pub use histogram::LatencyHistogram;
pub(crate) use histogram::{Histogram, bucket_ceiling, bucket_of};
pub(crate) use progress::{Progress, Seen};
pub use snapshot::Stats;

use crate::prim::sync::plain::{AtomicU64, Ordering};
use crossbeam::utils::CachePadded;

/// A count of events since the arena was built.
///
/// Each has a cache line of its own, so that a handler thread that counts does not slow the evictor.
#[derive(Debug, Default)]
pub(crate) struct Counter(CachePadded<AtomicU64>);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        // A statistic: no code relies on its order with other accesses.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn raise_to(&self, n: u64) {
        self.0.fetch_max(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All counters of an arena. The field of [`Stats`] with the same name says what each counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) faults: Counter,
    pub(crate) refaults: Counter,
    pub(crate) zero_filled_pages: Counter,
    pub(crate) protection_faults: Counter,
    pub(crate) evictions_cancelled: Counter,
    pub(crate) readahead_pages: Counter,
    pub(crate) readahead_sampled_hits: Counter,
    pub(crate) readahead_sampled_misses: Counter,
    pub(crate) prefetched_pages: Counter,
    pub(crate) peeks: Counter,
    pub(crate) fill_retries: Counter,
    pub(crate) dropped_pages: Counter,
    pub(crate) scans: Counter,
    pub(crate) scanned_pages: Counter,
    pub(crate) armed_pages: Counter,
    pub(crate) collapsed_pages: Counter,
    pub(crate) accessed_scans: Counter,
    pub(crate) accessed_interruptions: Counter,
    pub(crate) accessed_errors: Counter,
    pub(crate) tracking_nanos: Counter,
    pub(crate) tracking_fault_nanos: Counter,
    pub(crate) evicted_pages: Counter,
    pub(crate) same_filled_pages: Counter,
    pub(crate) touched_during_eviction: Counter,
    pub(crate) incompressible_pages: Counter,
    pub(crate) store_full_pages: Counter,
    pub(crate) kernel_errors: Counter,
    pub(crate) freezes: Counter,
    pub(crate) freeze_nanos: Counter,
    pub(crate) longest_freeze_nanos: Counter,
    pub(crate) limit_waits: Counter,
    pub(crate) limit_wait_nanos: Counter,
    pub(crate) delegated_calls: Counter,
    pub(crate) stalls: Counter,
    pub(crate) refault_time: Histogram,
}
