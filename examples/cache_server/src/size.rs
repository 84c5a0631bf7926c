//! Parsing and display of sizes and times.

use std::time::Duration;

/// Parses bytes with an optional unit: `k` is a thousand and `kb` 1024, as in Redis.
pub fn parse(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Parses the value of an option.
pub fn option(text: &str) -> Result<u64, &'static str> {
    parse(text).ok_or("give bytes, or a number with k, kb, m, mb, g or gb, such as 512mb")
}

/// Parses a time with its unit, or seconds.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().map(Duration::from_secs).ok();
    let time = seconds.or_else(|| humantime::parse_duration(text).ok());
    time.ok_or("give a time with its unit, such as 500ms, 60s or 10min, or whole seconds")
}

/// Displays bytes with a unit and two decimals: `1.50G`.
pub fn human(bytes: u64) -> String {
    const UNITS: [(u64, char); 3] = [(1 << 30, 'G'), (1 << 20, 'M'), (1 << 10, 'K')];
    match UNITS.into_iter().find(|&(unit, _)| bytes >= unit) {
        Some((unit, letter)) => format!("{:.2}{letter}", bytes as f64 / unit as f64),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_redis() {
        let cases =
            [("0", 0), ("12", 12), ("12b", 12), ("3k", 3000), ("3KB", 3072), ("2Gb", 2 << 30)];
        for (text, bytes) in cases {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in ["", "k", "-1", "1.5g", "1 k", "1tb", "k1", "+1", "99999999999999g"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_without_unit_is_in_seconds() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("10min"), Ok(Duration::from_secs(600)));
        assert!(duration("soon").is_err() && duration("-1").is_err() && duration("").is_err());
    }

    #[test]
    fn sizes_are_shown_with_units() {
        assert_eq!([human(10), human(1536), human(3 << 30)], ["10B", "1.50K", "3.00G"]);
    }
}
