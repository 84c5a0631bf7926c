//! The recent rates of counters.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time over which a rate is measured, and the time between samples.
const WINDOW: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_secs(1);

/// Counts of refaults, of the pages that they restored (with readahead), and of commands.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counters {
    pub refaults: f64,
    pub pages: f64,
    pub commands: f64,
}

/// The samples of the last minute.
#[derive(Debug, Default)]
pub struct Rates(Mutex<VecDeque<(Instant, Counters)>>);

impl Rates {
    /// Takes a sample, unless the last one is more recent than [`STEP`].
    pub fn sample(&self, now: Instant, counters: impl FnOnce() -> Counters) {
        let mut samples = self.0.lock();
        if samples.back().is_some_and(|(at, _)| now < *at + STEP) {
            return;
        }
        samples.push_back((now, counters()));
        while samples.front().is_some_and(|(at, _)| *at + WINDOW < now) {
            samples.pop_front();
        }
    }

    /// The rate per second over the last minute, or over the time since the start if that is shorter.
    pub fn per_second(&self) -> Counters {
        let samples = self.0.lock();
        let (Some((begun, first)), Some((ended, last))) = (samples.front(), samples.back()) else {
            return Counters::default();
        };
        rate(*first, *last, ended.duration_since(*begun))
    }

    /// The rate per second over the last step.
    pub fn instantaneous(&self) -> Counters {
        let samples = self.0.lock();
        let mut latest = samples.iter().rev();
        let (Some((ended, last)), Some((begun, first))) = (latest.next(), latest.next()) else {
            return Counters::default();
        };
        rate(*first, *last, ended.duration_since(*begun))
    }
}

fn rate(first: Counters, last: Counters, time: Duration) -> Counters {
    let seconds = time.as_secs_f64();
    if seconds == 0.0 {
        return Counters::default();
    }
    Counters {
        refaults: (last.refaults - first.refaults) / seconds,
        pages: (last.pages - first.pages) / seconds,
        commands: (last.commands - first.commands) / seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_cover_the_last_minute() {
        let rates = Rates::default();
        assert_eq!(rates.per_second(), Counters::default());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let refaults = |refaults| Counters { refaults, ..Counters::default() };
        rates.sample(at(0), || refaults(0.0));
        rates.sample(at(10), || refaults(50.0));
        assert_eq!(rates.per_second(), refaults(5.0));
        // This sample comes too early and is dropped.
        rates.sample(at(10), || refaults(1e9));
        rates.sample(at(20), || refaults(50.0));
        assert_eq!((rates.per_second(), rates.instantaneous()), (refaults(2.5), refaults(0.0)));
        rates.sample(at(80), || refaults(170.0));
        assert_eq!(rates.per_second(), refaults(2.0));
    }
}
