//! The contents of values: a function of key and version, so that any reply can be checked without a
//! copy of the values.
//!
//! A value begins with its key and its version, in digits. A reader can check it without knowing which
//! thread wrote it last. Values below [`NUMBERED`] bytes have no room for the numbers: they are the same
//! in every version.

mod fill;
mod sizes;

use crate::keys::mix;
pub(crate) use sizes::Sizes;
use std::io::Write as _;

/// The least size of values that contain their key and version.
pub(crate) const NUMBERED: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Records as services store them.
    Json,
    /// English-like words.
    Text,
    /// Incompressible bytes.
    Random,
    /// Zeros, after the key and version.
    Zero,
}

impl Kind {
    pub(crate) const ALL: [(&str, Self); 4] = [
        ("json", Self::Json),
        ("text", Self::Text),
        ("random", Self::Random),
        ("zero", Self::Zero),
    ];
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    kind: Kind,
    sizes: Sizes,
    /// Bytes of noise per thousand.
    noise: u64,
}

/// The conditions that a reply must meet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) key: u64,
    /// The oldest version that is right.
    pub(crate) oldest: u32,
    /// Whether to compare every byte, or only the beginning and the length.
    pub(crate) whole: bool,
}

impl Content {
    /// LZ4 compresses JSON and text to about `1 / ratio`, as far as the noise can achieve that.
    pub(crate) fn new(kind: Kind, sizes: Sizes, ratio: f64) -> Self {
        // LZ4's output per byte without noise, and the increase per byte of noise, as the tests measure.
        let (least, more) = match kind {
            Kind::Json => (0.30, 0.90),
            Kind::Text => (0.30, 0.70),
            Kind::Random | Kind::Zero => (1.0, 1.0),
        };
        let noise = ((1.0 / ratio - least) / more).clamp(0.0, 1.0);
        Self { kind, sizes, noise: (noise * 1000.0) as u64 }
    }

    /// The value's size, the same in all versions.
    pub(crate) fn size(&self, key: u64) -> usize {
        self.sizes.of(mix(mix(key)))
    }

    /// Appends the value, [`Content::size`] bytes.
    pub(crate) fn write(&self, key: u64, version: u32, out: &mut Vec<u8>) {
        let size = self.size(key);
        let end = out.len() + size;
        if size < NUMBERED {
            return match self.kind {
                Kind::Zero => out.resize(end, b'0'),
                _ => fill::noise(&mut fill::numbers(key, 0), end, out),
            };
        }
        let mut random = fill::numbers(key, version);
        let noise = size * self.noise as usize / 1000;
        // Writing to a vector cannot fail.
        let _ = match self.kind {
            Kind::Json => write!(out, "{{\"id\":{key},\"version\":{version},"),
            _ => write!(out, "{key} {version} "),
        };
        match self.kind {
            Kind::Json => fill::record(&mut random, noise, end, out),
            Kind::Text => fill::prose(&mut random, noise, end, out),
            Kind::Random => fill::bytes(&mut random, end, out),
            Kind::Zero => out.resize(end, 0),
        }
    }

    /// Whether the value meets the conditions. Overwrites `scratch`.
    pub(crate) fn check(&self, value: &[u8], expected: Expected, scratch: &mut Vec<u8>) -> bool {
        let Expected { key, oldest, whole } = expected;
        let version = if value.len() < NUMBERED {
            0
        } else {
            match numbers_of(value) {
                Some((found, version)) if found == key && version >= oldest => version,
                _ => return false,
            }
        };
        if !whole && value.len() >= NUMBERED {
            return value.len() == self.size(key);
        }
        scratch.clear();
        self.write(key, version, scratch);
        scratch == value
    }
}

/// The key and version at the beginning of a value.
fn numbers_of(value: &[u8]) -> Option<(u64, u32)> {
    let mut rest = value.iter().take(NUMBERED).copied();
    let mut number = || {
        let first = rest.by_ref().find(u8::is_ascii_digit)?;
        let mut number = u64::from(first - b'0');
        for byte in rest.by_ref().take_while(u8::is_ascii_digit) {
            number = number.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
        }
        Some(number)
    };
    Some((number()?, number()?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(kind: Kind, size: &str, ratio: f64) -> Content {
        Content::new(kind, size.parse().unwrap(), ratio)
    }

    fn value(content: &Content, key: u64, version: u32) -> Vec<u8> {
        let mut value = Vec::new();
        content.write(key, version, &mut value);
        value
    }

    /// The compression ratio of LZ4 for pages of consecutive values.
    fn ratio(content: &Content) -> f64 {
        let values: Vec<u8> = (0..2000).flat_map(|key| value(content, key * 7919, 3)).collect();
        let pages = values.chunks_exact(4096);
        let compressed: usize = pages.clone().map(|page| lz4_flex::compress(page).len()).sum();
        (pages.len() * 4096) as f64 / compressed as f64
    }

    #[test]
    fn values_have_their_size_and_differ() {
        for (_, kind) in Kind::ALL {
            for size in
                ["1", "3", "63", "64", "65", "100", "500", "5000", "20-2000", "lognormal:400:1"]
            {
                let content = content(kind, size, 3.0);
                for key in 0..50 {
                    let bytes = value(&content, key, 7);
                    assert_eq!(bytes.len(), content.size(key), "{kind:?} {size}");
                    let expected = Expected { key, oldest: 7, whole: true };
                    assert!(content.check(&bytes, expected, &mut Vec::new()), "{kind:?} {size}");
                }
            }
        }
    }

    #[test]
    fn wrong_bytes_wrong_keys_and_older_versions_are_refused() {
        for (_, kind) in Kind::ALL {
            let content = content(kind, "500", 3.0);
            let good = value(&content, 12, 7);
            let check = |value: &[u8], key, oldest| {
                content.check(value, Expected { key, oldest, whole: true }, &mut Vec::new())
            };
            assert!(check(&good, 12, 7) && check(&good, 12, 1));
            assert!(!check(&good, 12, 8), "an old version");
            assert!(!check(&good, 13, 7), "another key");
            assert!(!check(&good[..499], 12, 7), "the end is missing");
            for at in [0, 100, 250, 499] {
                let mut bad = good.clone();
                bad[at] ^= 1;
                assert!(!check(&bad, 12, 7), "{kind:?}, byte {at}");
            }
            let hasty = Expected { key: 12, oldest: 7, whole: false };
            assert!(content.check(&good, hasty, &mut Vec::new()));
            assert!(!content.check(&good[..400], hasty, &mut Vec::new()));
        }
    }

    #[test]
    fn small_values_are_checked_too() {
        let content = content(Kind::Json, "3", 3.0);
        let mut bad = value(&content, 1, 1);
        assert_eq!(bad, value(&content, 1, 2));
        bad[2] ^= 1;
        let expected = Expected { key: 1, oldest: 0, whole: false };
        assert!(!content.check(&bad, expected, &mut Vec::new()));
    }

    #[test]
    fn records_are_valid_json() {
        for size in ["64", "100", "137", "500", "4000"] {
            let content = content(Kind::Json, size, 3.0);
            for key in [0, 1, 999_999_999_999] {
                let bytes = value(&content, key, u32::MAX);
                let parsed: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                assert_eq!(parsed["id"], key, "{size}");
            }
        }
    }

    #[test]
    fn content_compresses_by_the_given_ratio() {
        for (kind, asked) in
            [(Kind::Json, 3.0), (Kind::Json, 2.0), (Kind::Text, 2.0), (Kind::Json, 1.0)]
        {
            let found = ratio(&content(kind, "500", asked));
            assert!((found / asked - 1.0).abs() < 0.15, "{kind:?}: {found}, not {asked}");
        }
        assert!(ratio(&content(Kind::Random, "500", 3.0)) < 1.05);
        assert!(ratio(&content(Kind::Zero, "500", 3.0)) > 15.0);
    }
}
