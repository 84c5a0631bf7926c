//! Time as ages count it.

use crate::prim::Tick;
use std::time::Duration;

/// Turns time into ticks of one fixed length, the quantum.
///
/// The quantum is the shortest scan interval, and never changes. So the evictor may scan less often, or some
/// regions less often than other ones, and an age still says how long ago the last noticed touch was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AgeClock {
    quantum: Duration,
}

impl AgeClock {
    /// A clock whose ticks take `quantum`, which must not be zero.
    pub(crate) const fn new(quantum: Duration) -> Self {
        debug_assert!(!quantum.is_zero());
        Self { quantum }
    }

    /// The tick in which `elapsed` ends, counted from the arena's start.
    pub(crate) fn tick_at(self, elapsed: Duration) -> Tick {
        #[expect(clippy::cast_possible_truncation, reason = "ticks turn over, at 2^20 already")]
        Tick::new((elapsed.as_nanos() / self.quantum.as_nanos()) as u64)
    }

    /// The ticks that `time` takes, rounded up. None if an age cannot be so large.
    pub(crate) fn ticks(self, time: Duration) -> Option<u32> {
        let ticks = u32::try_from(time.as_nanos().div_ceil(self.quantum.as_nanos())).ok();
        ticks.filter(|ticks| *ticks <= Tick::MAX_AGE / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_whole_quanta() {
        let clock = AgeClock::new(Duration::from_millis(300));
        let tick = |millis| clock.tick_at(Duration::from_millis(millis)).raw();
        assert_eq!([0, 299, 300, 899].map(tick), [0, 0, 1, 2]);
        let ticks = |millis| clock.ticks(Duration::from_millis(millis));
        assert_eq!([0, 1, 300, 1000].map(ticks), [Some(0), Some(1), Some(1), Some(4)]);
        assert_eq!(clock.ticks(Duration::MAX), None);
        assert_eq!(clock.ticks(Duration::from_millis(300) * (Tick::MAX_AGE / 2 + 1)), None);
    }
}
