//! The order for one process.

use super::common::{Setup, scaled};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A setup, a seed, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub setup: Setup,
    pub seed: u64,
    pub time: Duration,
}

impl Case {
    /// Parses the output of [`fmt::Display`].
    pub fn parse(text: &str) -> Self {
        let mut words = text.split(' ');
        let mut word = || words.next().unwrap();
        Self {
            setup: Setup::parse(word()),
            seed: word().parse().unwrap(),
            time: Duration::from_millis(word().parse().unwrap()),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.setup, self.seed, self.time.as_millis())
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

/// How long each setup gets if there are `setups` of them.
pub fn time(setups: usize) -> Duration {
    number("THERMOCLINE_CHAOS_SECONDS").map_or(Duration::from_secs(scaled(10, 12)), |seconds| {
        Duration::from_secs(seconds) / u32::try_from(setups.max(1)).unwrap()
    })
}

/// The seed that the environment names, or the time: each run tries other operations.
pub fn seed() -> u64 {
    number("THERMOCLINE_CHAOS_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64 % (1 << 32)
    })
}
