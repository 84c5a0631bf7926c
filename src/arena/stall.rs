//! When something that has to go on counts as stuck.

use std::time::{Duration, Instant};

/// Looks, each of which has to find the same, before it counts as a stall.
const LOOKS: u32 = 5;

/// How often to look for something that has stood still for `limit` to be found.
pub(super) fn period(limit: Duration) -> Duration {
    limit / LOOKS
}

/// Whether a look came when it was due. One that is late says that this thread was kept from
/// running, and so were others: the process was stopped, or its machine, or starved as a whole. What
/// stood still meanwhile proves nothing by it.
pub(super) fn is_punctual(slept: Duration, period: Duration) -> bool {
    slept < period * 2
}

/// What has been seen of one thing: `T` says what it has to do and how far it has come.
#[derive(Debug)]
pub(super) struct StallDetector<T> {
    seen: Option<T>,
    since: Instant,
    looks: u32,
    stalled: bool,
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has nothing to do, or goes on, or there is no telling yet.
    Nothing,
    /// It has been at the same for so long. This is found once a stall.
    Stalled(Duration),
    /// It goes on after a stall of so long.
    GoesOn(Duration),
}

impl<T: PartialEq> StallDetector<T> {
    pub(super) fn new(now: Instant) -> Self {
        Self { seen: None, since: now, looks: 0, stalled: false }
    }

    /// Takes a look into account: `seen` is none where there is nothing to do.
    pub(super) fn look(&mut self, seen: Option<T>, now: Instant, punctual: bool) -> Verdict {
        let stood = now.duration_since(self.since);
        if seen.is_none() || seen != self.seen {
            let stalled = self.stalled;
            *self = Self { seen, ..Self::new(now) };
            return if stalled { Verdict::GoesOn(stood) } else { Verdict::Nothing };
        }
        self.looks += u32::from(punctual);
        if self.looks < LOOKS || self.stalled {
            return Verdict::Nothing;
        }
        self.stalled = true;
        Verdict::Stalled(stood)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What is found by a look a second, each with what it sees and whether it is punctual.
    fn found(looks: &[(Option<u32>, bool)]) -> Vec<(usize, Verdict)> {
        let start = Instant::now();
        let mut suspicion = StallDetector::new(start);
        let look = |(n, (seen, punctual)): (usize, &(Option<u32>, bool))| {
            (n, suspicion.look(*seen, start + SECOND * u32::try_from(n).unwrap(), *punctual))
        };
        let found = looks.iter().enumerate().map(look);
        found.filter(|(_, found)| *found != Verdict::Nothing).collect()
    }

    #[test]
    fn what_stands_still_is_found_once_and_so_is_its_end() {
        let mut looks = vec![(Some(7), true); 20];
        looks.push((Some(8), true));
        let stalled = (5, Verdict::Stalled(SECOND * 5));
        assert_eq!(found(&looks), [stalled, (20, Verdict::GoesOn(SECOND * 20))]);
        looks[20] = (None, true);
        assert_eq!(found(&looks), [stalled, (20, Verdict::GoesOn(SECOND * 20))]);
        looks.extend([(Some(9), true); 6]);
        assert_eq!(found(&looks)[2], (26, Verdict::Stalled(SECOND * 5)));
    }

    #[test]
    fn what_goes_on_or_has_nothing_to_do_is_no_stall() {
        assert_eq!(found(&[(None, true); 50]), []);
        let goes_on: Vec<_> = (0..50).map(|n| (Some(n / 5), true)).collect();
        assert_eq!(found(&goes_on), [], "five looks at the same, four of them after the first");
    }

    #[test]
    fn late_looks_prove_nothing() {
        assert_eq!(found(&[(Some(7), false); 50]), []);
        let mut looks = vec![(Some(7), true); 5];
        looks.extend([(Some(7), false); 10]);
        assert_eq!(found(&looks), [], "all but one of the looks that it takes, and a stop");
        assert!(is_punctual(SECOND, period(SECOND * 5)));
        assert!(!is_punctual(SECOND * 2, period(SECOND * 5)));
    }
}
