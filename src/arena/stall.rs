//! When a thread or a page that makes no progress counts as stalled.

use std::time::{Duration, Instant};

/// Checks in a row that must find no progress before that counts as a stall.
const CHECKS: u32 = 5;

/// The time between checks that finds a stall of length `limit`.
pub(super) fn period(limit: Duration) -> Duration {
    limit / CHECKS
}

/// Whether a check came in time. If it is late, the watchdog could not run, and the other threads may not
/// have run either: the process or its machine was stopped, or had too little processor time. So a late
/// check proves no stall.
pub(super) fn is_on_time(slept: Duration, period: Duration) -> bool {
    slept < period * 2
}

/// Finds the stalls of one thread or page. `T` is its work and how far it has come.
#[derive(Debug)]
pub(super) struct StallDetector<T> {
    seen: Option<T>,
    since: Instant,
    /// Checks that found the same as the one before. Late checks do not count.
    unchanged: u32,
    stalled: bool,
}

/// What a check has found. A stall begins once and ends once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StallEvent {
    /// There has been no progress for this long.
    Began(Duration),
    /// There is progress, or no work left, after this long.
    Ended(Duration),
}

impl<T: PartialEq> StallDetector<T> {
    pub(super) fn new(now: Instant) -> Self {
        Self { seen: None, since: now, unchanged: 0, stalled: false }
    }

    /// Takes note of what a check has `seen`. None means that there is no work.
    pub(super) fn check(
        &mut self,
        seen: Option<T>,
        now: Instant,
        on_time: bool,
    ) -> Option<StallEvent> {
        let unchanged_for = now.duration_since(self.since);
        if seen.is_none() || seen != self.seen {
            let stalled = self.stalled;
            *self = Self { seen, ..Self::new(now) };
            return stalled.then_some(StallEvent::Ended(unchanged_for));
        }
        self.unchanged += u32::from(on_time);
        if self.unchanged < CHECKS || self.stalled {
            return None;
        }
        self.stalled = true;
        Some(StallEvent::Began(unchanged_for))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The events of one check per second. A check is what it sees, and whether it is on time.
    fn events(checks: &[(Option<u32>, bool)]) -> Vec<(usize, StallEvent)> {
        let start = Instant::now();
        let mut detector = StallDetector::new(start);
        let check = |(n, (seen, on_time)): (usize, &(Option<u32>, bool))| {
            let now = start + SECOND * u32::try_from(n).unwrap();
            detector.check(*seen, now, *on_time).map(|event| (n, event))
        };
        checks.iter().enumerate().filter_map(check).collect()
    }

    #[test]
    fn a_stall_and_its_end_are_each_found_once() {
        let mut checks = vec![(Some(7), true); 20];
        checks.push((Some(8), true));
        let began = (5, StallEvent::Began(SECOND * 5));
        assert_eq!(events(&checks), [began, (20, StallEvent::Ended(SECOND * 20))]);
        checks[20] = (None, true);
        assert_eq!(events(&checks), [began, (20, StallEvent::Ended(SECOND * 20))]);
        checks.extend([(Some(9), true); 6]);
        assert_eq!(events(&checks)[2], (26, StallEvent::Began(SECOND * 5)));
    }

    #[test]
    fn neither_progress_nor_lack_of_work_is_a_stall() {
        assert_eq!(events(&[(None, true); 50]), []);
        let progress: Vec<_> = (0..50).map(|n| (Some(n / 5), true)).collect();
        assert_eq!(events(&progress), [], "five checks see the same, four of them no progress");
    }

    #[test]
    fn late_checks_prove_no_stall() {
        assert_eq!(events(&[(Some(7), false); 50]), []);
        let mut checks = vec![(Some(7), true); 5];
        checks.extend([(Some(7), false); 10]);
        assert_eq!(events(&checks), [], "four checks on time find no progress, then late ones");
        assert!(is_on_time(SECOND, period(SECOND * 5)));
        assert!(!is_on_time(SECOND * 2, period(SECOND * 5)));
    }
}
