//! Parsing of numbers with units.

use std::time::Duration;

/// Parses `512`, `100K`, `256M`, `2G`: powers of 1024.
pub(crate) fn bytes(given: &str) -> Result<u64, String> {
    let (digits, unit) = split(given);
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        _ => return Err(format!("'{given}' is no size: K, M and G are known units")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("'{given}' is no size"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("'{given}' is too much"))
}

/// Parses `1000000`, `500k`, `2m`: powers of 1000.
pub(crate) fn count(given: &str) -> Result<u64, String> {
    let (digits, unit) = split(given);
    let factor = match unit {
        "" => 1,
        "k" | "K" => 1000,
        "m" | "M" => 1_000_000,
        _ => return Err(format!("'{given}' is no number: k and m are known units")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("'{given}' is no number"))?;
    number.checked_mul(factor).ok_or_else(|| format!("'{given}' is too much"))
}

/// Parses `30`, `30s`, `1.5s`, `200ms`, `50us`, `10m`, `1h`: seconds without a unit.
pub(crate) fn time(given: &str) -> Result<Duration, String> {
    let (digits, unit) = split(given);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("'{given}' is no time: us, ms, s, m and h are known units")),
    };
    let number: f64 = digits.parse().map_err(|_| format!("'{given}' is no time"))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| format!("'{given}' is no time"))
}

/// Parses `0.95` or `95%`.
pub(crate) fn share(given: &str) -> Result<f64, String> {
    let number = match given.strip_suffix('%') {
        Some(percent) => percent.parse().map(|n: f64| n / 100.0),
        None => given.parse(),
    };
    let share = number.ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("'{given}' is no share from 0 to 1, or from 0% to 100%"))
}

fn split(given: &str) -> (&str, &str) {
    let end = given.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(given.len());
    given.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_parsed() {
        assert_eq!(bytes("500"), Ok(500));
        assert_eq!(bytes("256M"), Ok(256 << 20));
        assert_eq!(bytes("1kib"), Ok(1024));
        assert_eq!(count("2m"), Ok(2_000_000));
        assert_eq!(time("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(time("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(time("7"), Ok(Duration::from_secs(7)));
        assert_eq!(share("95%"), Ok(0.95));
        assert_eq!(share("0.5"), Ok(0.5));
    }

    #[test]
    fn invalid_quantities_are_refused() {
        for given in ["", "M", "-1", "1.5M", "3 apples", "99999999999999G"] {
            assert!(bytes(given).is_err(), "{given}");
        }
        for given in ["", "fast", "1.2.3", "-4s", "5 days"] {
            assert!(time(given).is_err(), "{given}");
        }
        for given in ["", "1.01", "-1", "101%", "NaN"] {
            assert!(share(given).is_err(), "{given}");
        }
        assert!(count("1G").is_err());
    }
}
