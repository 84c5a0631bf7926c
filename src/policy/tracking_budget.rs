//! How much tracking may cost.

use std::time::Duration;

/// Nanoseconds that the program loses by each fault on a page that the evictor has armed, on the processors of
/// this decade. Emptied page-table entries: a minor fault on a shared page. Read-write protection costs less.
pub(crate) const FAULT_NANOS: u64 = 1000;
/// Nanoseconds that the program loses by each accessed bit that the processor sets again. Measured in a virtual
/// machine whose page tables the hypervisor shadows; elsewhere it is less.
const BIT_NANOS: u64 = 500;

/// Bounds what tracking costs the program and the evictor together, as a share of one processor.
///
/// Half of the share is for looks at the accessed bits, the other half for arming and scanning. Time that was
/// not spent accumulates for [`SAVED`](Self::SAVED). An expense may exceed what is left; then nothing more is
/// spent until the debt is paid. The debt is as small as the savings, so that the scans of an arena above its limit,
/// which do not ask for the budget, do not stop tracking for long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrackingBudget {
    share: f64,
    /// Nanoseconds for arming and scanning. Negative while there is a debt.
    left: f64,
    /// The time at which `left` was last raised, since the start.
    raised: Duration,
    look_nanos: u64,
}

impl TrackingBudget {
    /// The time for which an unspent share accumulates.
    const SAVED: Duration = Duration::from_secs(10);

    /// A budget of `share` of a processor, which must be above zero.
    pub(crate) fn new(share: f64) -> Self {
        debug_assert!(share > 0.0);
        Self { share, left: 0.0, raised: Duration::ZERO, look_nanos: 0 }
    }

    /// Adds the share of the time up to `now`, which is counted from the start.
    pub(crate) fn accrue(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.raised).as_secs_f64();
        self.left = (self.left + passed * self.share / 2.0 * 1e9).min(self.most());
        self.raised = now;
    }

    /// The largest sum of savings, and of debts.
    fn most(&self) -> f64 {
        Self::SAVED.as_secs_f64() * self.share / 2.0 * 1e9
    }

    /// Whether there is something left for arming and scanning.
    pub(crate) fn allows_scan(&self) -> bool {
        self.left > 0.0
    }

    /// The evictor has used `nanos` to arm and to scan, and the program will have lost or has lost `faults`
    /// faults by it.
    pub(crate) fn spend(&mut self, nanos: u64, faults: u64) {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let spent = (nanos + faults * FAULT_NANOS) as f64;
        self.left = (self.left - spent).max(-self.most());
    }

    /// A look at the accessed bits has taken `nanos`, and `pages` pages had been referenced. Gives the
    /// nanoseconds that this costs the program.
    pub(crate) fn looked(&mut self, nanos: u64, pages: u64) -> u64 {
        let lost = pages * BIT_NANOS;
        self.look_nanos = nanos + lost;
        lost
    }

    /// The time from one look to the next, by the cost of the last one, but at least `shortest`.
    pub(crate) fn look_interval(&self, shortest: Duration) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let seconds = self.look_nanos as f64 / (self.share / 2.0) / 1e9;
        // An hour at most: memory that goes cold should be noticed some day.
        shortest.max(Duration::from_secs_f64(seconds.min(3600.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debt_is_paid_before_the_next_expense() {
        let second = Duration::from_secs(1);
        let mut budget = TrackingBudget::new(0.01);
        assert!(!budget.allows_scan());
        budget.accrue(second);
        assert!(budget.allows_scan());
        // Five milliseconds a second are for scans. Three seconds' worth is spent.
        budget.spend(10_000_000, 5_000);
        assert!(!budget.allows_scan());
        budget.accrue(2 * second);
        assert!(!budget.allows_scan());
        budget.accrue(4 * second);
        assert!(budget.allows_scan());
        // No more than ten seconds' worth accumulates.
        budget.accrue(4000 * second);
        budget.spend(50_000_000, 0);
        assert!(!budget.allows_scan());
    }

    #[test]
    fn a_debt_is_paid_in_ten_seconds() {
        let mut budget = TrackingBudget::new(0.01);
        budget.spend(3_600_000_000_000, 1 << 40);
        budget.accrue(Duration::from_secs(9));
        assert!(!budget.allows_scan());
        budget.accrue(Duration::from_secs(11));
        assert!(budget.allows_scan());
    }

    #[test]
    fn looks_become_rarer_when_they_cost_more() {
        let mut budget = TrackingBudget::new(0.01);
        let shortest = Duration::from_secs(10);
        assert_eq!(budget.look_interval(shortest), shortest);
        assert_eq!(budget.looked(13_000_000, 262_144), 131_072_000);
        let interval = budget.look_interval(shortest).as_secs_f64();
        assert!((28.8..28.9).contains(&interval), "{interval}");
        budget.looked(u64::MAX / 2, 0);
        assert_eq!(budget.look_interval(shortest), Duration::from_secs(3600));
    }
}
