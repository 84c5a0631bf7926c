//! The numbers of `INCRBYFLOAT`.
//!
//! Redis computes in C's `long double`, which on x86-64 has a significand of 64 bits. It parses numbers
//! as `strtold` does, and prints them with `%.17Lf` without trailing zeros. All of these round to
//! nearest, half to even, and so does this file. Where `long double` is another type, as on Arm,
//! Redis' own results differ.

use num_bigint::BigUint;
use rustc_apfloat::ieee::X87DoubleExtended;
use rustc_apfloat::{Float, Round};
use std::fmt;

/// Longer texts are not numbers.
const MAX_TEXT: usize = 5 * 1024 - 1;

/// Digits after the decimal point.
const PLACES: u32 = 17;

/// A number, or an infinity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decimal(X87DoubleExtended);

impl Decimal {
    pub const ZERO: Self = Self(X87DoubleExtended::ZERO);

    /// Parses decimal numbers and, after `0x`, hexadecimal ones, each with an optional exponent, and
    /// `inf`. `None` if the number overflows, or underflows to zero.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let text = std::str::from_utf8(text).ok()?;
        let value = if text.eq_ignore_ascii_case("inf") || text.eq_ignore_ascii_case("infinity") {
            X87DoubleExtended::INFINITY
        } else {
            finite(text)?
        };
        Some(Self(if negative { -value } else { value }))
    }

    /// `None` if the sum is infinite or not a number.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let sum = (self.0 + other.0).value;
        sum.is_finite().then_some(Self(sum))
    }
}

/// Parses a number without a sign.
fn finite(text: &str) -> Option<X87DoubleExtended> {
    let hexadecimal = text.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("0x"));
    let (digits, is_digit, mark): (&str, fn(&u8) -> bool, [char; 2]) = if hexadecimal {
        (&text[2..], u8::is_ascii_hexdigit, ['p', 'P'])
    } else {
        (text, u8::is_ascii_digit, ['e', 'E'])
    };
    let (digits, exponent) = digits.split_once(mark).unwrap_or((digits, "0"));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = whole.bytes().chain(part.bytes()).all(|byte| is_digit(&byte));
    if !all_digits || (whole.is_empty() && part.is_empty()) {
        return None;
    }
    if whole.bytes().chain(part.bytes()).all(|digit| digit == b'0') {
        return exponent_of(exponent).map(|_| X87DoubleExtended::ZERO);
    }
    let (prefix, mark) = if hexadecimal { ("0x", 'p') } else { ("", 'e') };
    let exponent = exponent_of(exponent)?;
    let plain = format!("{prefix}{whole}.{part}{mark}{exponent}");
    let value = X87DoubleExtended::from_str_r(&plain, Round::NearestTiesToEven).ok()?.value;
    (value.is_finite() && !value.is_zero()).then_some(value)
}

/// Clamps the exponent: beyond a bound, a number of at most [`MAX_TEXT`] digits overflows or underflows
/// in any case.
fn exponent_of(text: &str) -> Option<i32> {
    const BEYOND: i32 = 100_000;
    let (negative, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let more = |sum: i32, digit: &u8| (sum * 10 + i32::from(digit - b'0')).min(BEYOND);
    let exponent = digits.iter().fold(0, more);
    Some(if negative { -exponent } else { exponent })
}

impl fmt::Display for Decimal {
    /// The number must be finite.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0.to_bits();
        let significand = bits as u64;
        // The value is the significand times two to the power of `exponent`.
        let exponent = ((bits >> 64) as i32 & 0x7fff).max(1) - 16_383 - 63;
        let (whole, part) = if exponent >= 0 {
            ((BigUint::from(significand) << exponent).to_string(), 0)
        } else {
            let units = 10_u128.pow(PLACES);
            let rounded = round_shift(u128::from(significand) * units, exponent.unsigned_abs());
            ((rounded / units).to_string(), rounded % units)
        };
        let text = format!("{whole}.{part:017}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        let sign = if self.0.is_negative() && text != "0" { "-" } else { "" };
        write!(f, "{sign}{text}")
    }
}

/// Shifts right and rounds to nearest, half to even.
fn round_shift(number: u128, bits: u32) -> u128 {
    // The number is less than half of the unit.
    if bits >= 127 {
        return 0;
    }
    let quotient = number >> bits;
    let rest = number & ((1 << bits) - 1);
    let half = 1 << (bits - 1);
    let up = rest > half || (rest == half && quotient % 2 == 1);
    quotient + u128::from(up)
}
