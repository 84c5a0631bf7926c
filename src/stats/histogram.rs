//! A histogram that the fault path can record into: a fixed array of atomics.
//!
//! Log-linear: each power of two is cut into [`STEPS`] equal buckets, so that a bucket's bounds are
//! at most an eighth apart.

use crate::prim::sync::plain::{AtomicU64, Ordering};
use crate::prim::units::index;
use std::fmt;
use std::time::Duration;

const STEP_BITS: u32 = 3;
const STEPS: u64 = 1 << STEP_BITS;

/// Buckets of a histogram. The last one counts all values from 2^40 on: 18 minutes in nanoseconds.
pub const BUCKETS: usize = bucket_of(1 << 40) + 1;

/// The bucket that counts `value`.
pub(crate) const fn bucket_of(value: u64) -> usize {
    let value = if value > 1 << 40 { 1 << 40 } else { value };
    if value < STEPS {
        return index(value);
    }
    let power = value.ilog2() - STEP_BITS;
    let step = (value >> power) - STEPS;
    index(STEPS + power as u64 * STEPS + step)
}

/// The largest value that `bucket` counts.
pub(crate) const fn bucket_ceiling(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let power = (bucket - STEPS) / STEPS;
    let step = (bucket - STEPS) % STEPS;
    ((STEPS + step + 1) << power) - 1
}

/// The counts, as the fault path updates them.
pub(crate) struct Histogram([AtomicU64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl Histogram {
    pub(crate) fn record(&self, value: u64) {
        self.0[bucket_of(value)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> LatencyHistogram {
        LatencyHistogram(std::array::from_fn(|i| self.0[i].load(Ordering::Relaxed)))
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.snapshot(), f)
    }
}

/// A histogram of durations.
#[derive(Clone, PartialEq, Eq)]
pub struct LatencyHistogram([u64; BUCKETS]);

impl LatencyHistogram {
    /// The number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// A duration that at least the share `quantile` (from 0 to 1) of all durations did not exceed.
    ///
    /// It is the upper bound of a bucket, at most an eighth above the exact quantile. None if the
    /// histogram is empty.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        // At least one, at most all; the product is far below 2^53 in any real run.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        #[expect(clippy::cast_precision_loss, reason = "a statistic")]
        let rank = ((count as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        let bucket = self.0.iter().position(|&n| {
            seen += n;
            seen >= rank
        })?;
        Some(Duration::from_nanos(bucket_ceiling(bucket)))
    }

    /// Each bucket's inclusive upper bound and its count, the shortest durations first.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let bound = |i| Duration::from_nanos(bucket_ceiling(i));
        self.0.iter().enumerate().map(move |(i, &n)| (bound(i), n))
    }
}

/// The quantiles of a histogram, and each bucket's upper bound and count, except the empty ones.
#[cfg(feature = "serde")]
impl serde::Serialize for LatencyHistogram {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let counts = self.0.iter().enumerate().filter(|(_, count)| **count > 0);
        let buckets: Vec<(u64, u64)> = counts.map(|(i, n)| (bucket_ceiling(i), *n)).collect();
        let mut fields = to.serialize_struct("LatencyHistogram", 5)?;
        fields.serialize_field("count", &self.count())?;
        for (name, quantile) in [("p50_nanos", 0.5), ("p99_nanos", 0.99), ("p999_nanos", 0.999)] {
            let bound = self.quantile(quantile).and_then(|t| u64::try_from(t.as_nanos()).ok());
            fields.serialize_field(name, &bound)?;
        }
        fields.serialize_field("buckets", &buckets)?;
        fields.end()
    }
}

impl fmt::Debug for LatencyHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatencyHistogram")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_bucket_begins_where_the_one_before_ends() {
        for bucket in 0..BUCKETS - 1 {
            let top = bucket_ceiling(bucket);
            assert_eq!((bucket_of(top), bucket_of(top + 1)), (bucket, bucket + 1));
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_quantile_is_the_upper_bound_of_its_bucket() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot().quantile(0.5), None);
        for value in [1, 2, 3, 1000] {
            histogram.record(value);
        }
        let seen = histogram.snapshot();
        assert_eq!(seen.quantile(0.0), Some(Duration::from_nanos(1)));
        assert_eq!(seen.quantile(0.5), Some(Duration::from_nanos(2)));
        assert!(seen.quantile(1.0).unwrap() >= Duration::from_nanos(1000));
    }

    proptest! {
        #[test]
        fn a_bucket_is_at_most_an_eighth_wide(value in 1u64..1 << 40) {
            let top = bucket_ceiling(bucket_of(value));
            prop_assert!(top >= value && (top - value) * 8 <= value);
        }
    }
}
