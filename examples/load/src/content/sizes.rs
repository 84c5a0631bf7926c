//! The distribution of values' sizes.

use crate::quantity;
use std::f64::consts::TAU;
use std::str::FromStr;

/// The largest value that Redis accepts by default.
const LARGEST: u64 = 512 << 20;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sizes {
    Fixed(usize),
    /// All sizes in the range with the same probability.
    Range(usize, usize),
    /// The median, the standard deviation of the logarithm, and the largest size.
    Lognormal {
        median: f64,
        sigma: f64,
        largest: usize,
    },
}

impl Sizes {
    /// The size for a random number.
    pub(crate) fn of(&self, random: u64) -> usize {
        match *self {
            Self::Fixed(size) => size,
            Self::Range(first, last) => first + (random % (last - first + 1) as u64) as usize,
            Self::Lognormal { median, sigma, largest } => {
                // A normally distributed number from two uniform ones (Box and Muller).
                let flat = |bits: u64| (bits as f64 + 0.5) / (1_u64 << 32) as f64;
                let (u, v) = (flat(random >> 32), flat(random & 0xffff_ffff));
                let normal = (-2.0 * u.ln()).sqrt() * (TAU * v).cos();
                ((median * (sigma * normal).exp()) as usize).clamp(1, largest)
            }
        }
    }
}

impl FromStr for Sizes {
    type Err = String;

    /// Parses `500`, `100-1K`, `lognormal:400:0.8`.
    fn from_str(given: &str) -> Result<Self, String> {
        let size = |given: &str| match quantity::bytes(given)? {
            0 => Err("a value has a byte or more".to_owned()),
            size if size > LARGEST => Err(format!("'{given}' is more than 512M")),
            size => Ok(size as usize),
        };
        if let Some(parameters) = given.strip_prefix("lognormal:") {
            let (median, sigma) = parameters.split_once(':').unwrap_or((parameters, "1"));
            let median = size(median)?;
            let sigma: f64 = sigma.parse().map_err(|_| format!("'{sigma}' is no deviation"))?;
            if !(0.0..=4.0).contains(&sigma) {
                return Err(format!("a deviation is from 0 to 4, not {sigma}"));
            }
            // One value in 30,000 would be larger.
            let largest = (median as f64 * (4.0 * sigma).exp()).min(LARGEST as f64) as usize;
            return Ok(Self::Lognormal { median: median as f64, sigma, largest });
        }
        match given.split_once('-') {
            None => Ok(Self::Fixed(size(given)?)),
            Some((first, last)) => match (size(first)?, size(last)?) {
                (first, last) if first <= last => Ok(Self::Range(first, last)),
                _ => Err(format!("'{given}' ends before it begins")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::mix;

    fn drawn(given: &str) -> Vec<usize> {
        let sizes: Sizes = given.parse().unwrap();
        let mut drawn: Vec<usize> = (0..20_000).map(|n| sizes.of(mix(n))).collect();
        drawn.sort_unstable();
        drawn
    }

    #[test]
    fn sizes_have_the_given_distribution() {
        assert_eq!(drawn("500")[19_999], 500);
        let range = drawn("100-199");
        assert_eq!((range[0], range[19_999]), (100, 199));
        assert!(range[10_000].abs_diff(150) < 5);
        let lognormal = drawn("lognormal:400:0.8");
        assert!(lognormal[10_000].abs_diff(400) < 20, "{}", lognormal[10_000]);
        // One standard deviation above the median: 400 e^0.8.
        assert!(lognormal[16_827].abs_diff(890) < 60, "{}", lognormal[16_827]);
    }

    #[test]
    fn invalid_sizes_are_refused() {
        for given in [
            "",
            "0",
            "10-5",
            "-",
            "1G",
            "lognormal",
            "lognormal:0",
            "lognormal:5:x",
            "lognormal:5:9",
        ] {
            assert!(given.parse::<Sizes>().is_err(), "{given}");
        }
    }
}
