//! The results of a phase.

use crate::BoxError;
use hdrhistogram::Histogram;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// The histogram keeps nanoseconds with three digits, and clamps to this.
const LONGEST: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(crate) struct Tally {
    latency: Histogram<u64>,
    /// The start of the measurement.
    pub(crate) since: Instant,
    /// The last measured reply.
    until: Instant,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// `errors` and `wrong` also count before `since`.
    pub(crate) errors: u64,
    pub(crate) wrong: u64,
    /// Requests that were due at a fixed time but not sent before the phase's end.
    pub(crate) unsent: u64,
    /// Descriptions of the first error and the first wrong reply.
    pub(crate) remarks: Vec<String>,
}

impl Tally {
    pub(crate) fn new(since: Instant) -> Self {
        // These constant bounds are valid.
        let latency = Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3);
        Self {
            latency: latency.unwrap_or_else(|_| unreachable!()),
            since,
            until: since,
            hits: 0,
            misses: 0,
            errors: 0,
            wrong: 0,
            unsent: 0,
            remarks: Vec::new(),
        }
    }

    pub(crate) fn record(&mut self, latency: Duration, now: Instant) {
        self.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        self.until = now;
    }

    pub(crate) fn add(&mut self, other: Self) {
        // Both histograms have the same bounds.
        let _ = self.latency.add(&other.latency);
        self.until = self.until.max(other.until);
        self.hits += other.hits;
        self.misses += other.misses;
        self.errors += other.errors;
        self.wrong += other.wrong;
        self.unsent += other.unsent;
        self.remarks.extend(other.remarks);
    }

    pub(crate) fn is_good(&self) -> bool {
        self.errors == 0 && self.wrong == 0
    }

    pub(crate) fn requests(&self) -> u64 {
        self.latency.len()
    }

    /// The names and values of the result line.
    pub(crate) fn figures(&self) -> Vec<(&'static str, f64)> {
        let seconds = (self.until - self.since).as_secs_f64();
        let rate = if seconds > 0.0 { self.requests() as f64 / seconds } else { 0.0 };
        let us = |nanos: u64| nanos as f64 / 1000.0;
        let quantile = |q| us(self.latency.value_at_quantile(q));
        vec![
            ("ops_per_second", rate.round()),
            ("p50_us", quantile(0.5)),
            ("p90_us", quantile(0.9)),
            ("p99_us", quantile(0.99)),
            ("p999_us", quantile(0.999)),
            ("max_us", us(self.latency.max())),
            ("mean_us", self.latency.mean() / 1000.0),
            ("seconds", seconds),
            ("requests", self.requests() as f64),
            ("hits", self.hits as f64),
            ("misses", self.misses as f64),
            ("errors", self.errors as f64),
            ("wrong", self.wrong as f64),
            ("unsent", self.unsent as f64),
        ]
    }

    /// The result line without its line end.
    pub(crate) fn line(&self, phase: &str) -> String {
        let mut line = format!("load phase={phase}");
        for (name, value) in self.figures() {
            let digits = if value.fract() == 0.0 { 0 } else { 1 };
            // Writing to a string cannot fail.
            let _ = write!(line, " {name}={value:.digits$}");
        }
        line
    }

    /// The results as a JSON object, in a line with its end.
    pub(crate) fn json(&self, phase: &str) -> Result<String, BoxError> {
        let mut object = serde_json::Map::new();
        object.insert("phase".to_owned(), phase.into());
        for (name, value) in self.figures() {
            // Values without a fraction are counts.
            let value = if value.fract() == 0.0 { (value as u64).into() } else { value.into() };
            object.insert(name.to_owned(), value);
        }
        Ok(serde_json::to_string(&object)? + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        let since = Instant::now();
        let mut tally = Tally::new(since);
        for n in 1..=1000 {
            tally.record(Duration::from_micros(n), since + Duration::from_millis(n));
        }
        tally.hits = 990;
        tally.misses = 10;
        tally
    }

    #[test]
    fn the_result_line_contains_the_figures() {
        let line = tally().line("run");
        assert!(line.starts_with("load phase=run ops_per_second=1000 p50_us=500."), "{line}");
        assert!(
            line.ends_with("requests=1000 hits=990 misses=10 errors=0 wrong=0 unsent=0"),
            "{line}"
        );
        let figure = |name| {
            let all = tally().figures();
            all.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value).unwrap()
        };
        // Exact to three digits.
        for (name, expected) in [("p90_us", 900.0), ("p99_us", 990.0), ("p999_us", 999.0)] {
            assert!((figure(name) / expected - 1.0_f64).abs() < 0.002, "{name}");
        }
        assert!((figure("max_us") / 1000.0 - 1.0).abs() < 0.002);
    }

    #[test]
    fn json_contains_the_same_figures() {
        let object: serde_json::Value =
            serde_json::from_str(&tally().json("fill").unwrap()).unwrap();
        assert_eq!(object["phase"], "fill");
        assert_eq!(object["requests"], 1000);
        assert_eq!(object["hits"], 990);
    }

    #[test]
    fn tallies_add_up() {
        let mut whole = tally();
        let mut other = Tally::new(whole.since);
        other.record(Duration::from_secs(5), whole.since + Duration::from_secs(4));
        other.wrong = 1;
        whole.add(other);
        assert_eq!((whole.requests(), whole.wrong), (1001, 1));
        assert!(!whole.is_good());
        assert!(whole.line("run").contains(" ops_per_second=250 "));
    }

    #[test]
    fn an_empty_tally_has_a_line_too() {
        let line = Tally::new(Instant::now()).line("run");
        assert!(line.contains(" ops_per_second=0 ") && line.contains(" max_us=0 "), "{line}");
    }
}
