//! How much tracking may cost.

use std::time::Duration;

/// Bounds what tracking costs the program and the evictor together, as a share of one processor.
///
/// * A quarter is for the evictor's time to look at accessed bits.
/// * A quarter is for clearing them: the program's processors set them again.
/// * Half is for arming and scanning. Time that was not spent accumulates for [`SAVED`](Self::SAVED). An expense may
///   exceed what is left; then nothing more is spent until the debt is paid. The debt is as small as the
///   savings, so that the scans of an arena above its limit, which do not ask for the budget, do not stop tracking
///   for long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrackingBudget {
    share: f64,
    /// Nanoseconds for arming and scanning. Negative while there is a debt.
    left: f64,
    /// The time at which `left` was last raised, since the start.
    raised: Duration,
    /// What the program loses by each fault on a page that the evictor has armed.
    fault_nanos: u64,
    /// What the program loses by each accessed bit that its processors set again.
    bit_nanos: u64,
}

impl TrackingBudget {
    /// The time for which an unspent share accumulates.
    const SAVED: Duration = Duration::from_secs(10);

    /// A budget of `share` of a processor, which must be above zero. Faults cost a microsecond until
    /// [`set_costs`](Self::set_costs) knows better.
    pub(crate) fn new(share: f64) -> Self {
        debug_assert!(share > 0.0);
        Self { share, left: 0.0, raised: Duration::ZERO, fault_nanos: 1000, bit_nanos: 500 }
    }

    /// Changes the share. Savings and debts stay.
    pub(crate) fn set_share(&mut self, share: f64) {
        debug_assert!(share > 0.0);
        self.share = share;
    }

    pub(crate) fn set_costs(&mut self, fault_nanos: u64, bit_nanos: u64) {
        (self.fault_nanos, self.bit_nanos) = (fault_nanos, bit_nanos);
    }

    /// What the program loses by `faults` faults.
    pub(crate) fn lost_by_faults(&self, faults: u64) -> u64 {
        faults * self.fault_nanos
    }

    /// What the program loses when its processors set `bits` accessed bits again.
    pub(crate) fn lost_by_bits(&self, bits: u64) -> u64 {
        bits * self.bit_nanos
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
        let spent = (nanos + self.lost_by_faults(faults)) as f64;
        self.left = (self.left - spent).max(-self.most());
    }

    /// The time from a look of `nanos` to the next, but at least `shortest`.
    pub(crate) fn look_interval(&self, nanos: u64, shortest: Duration) -> Duration {
        shortest.max(self.paid_by_a_quarter(nanos))
    }

    /// The time from one clear of the accessed bits to the next, if the processors have to set `bits` of them in
    /// between.
    pub(crate) fn clear_interval(&self, bits: u64) -> Duration {
        self.paid_by_a_quarter(self.lost_by_bits(bits))
    }

    fn paid_by_a_quarter(&self, nanos: u64) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let seconds = nanos as f64 / (self.share / 4.0) / 1e9;
        // An hour at most: memory that goes cold should be noticed some day.
        Duration::from_secs_f64(seconds.min(3600.0))
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
    fn a_larger_share_pays_a_debt_sooner() {
        let mut budget = TrackingBudget::new(0.01);
        budget.spend(50_000_000, 0);
        budget.set_share(0.1);
        budget.accrue(Duration::from_millis(900));
        assert!(!budget.allows_scan());
        budget.accrue(Duration::from_millis(1100));
        assert!(budget.allows_scan());
    }

    #[test]
    fn looks_and_clears_become_rarer_when_they_cost_more() {
        let mut budget = TrackingBudget::new(0.01);
        let shortest = Duration::from_secs(3);
        assert_eq!(budget.look_interval(1_000_000, shortest), shortest);
        assert_eq!(budget.look_interval(10_000_000, shortest), Duration::from_secs(4));
        assert_eq!(budget.look_interval(u64::MAX, shortest), Duration::from_secs(3600));
        assert_eq!(budget.clear_interval(0), Duration::ZERO);
        budget.set_costs(2000, 100);
        assert_eq!(budget.clear_interval(250_000), Duration::from_secs(10));
        assert_eq!((budget.lost_by_faults(3), budget.lost_by_bits(3)), (6000, 300));
    }
}
