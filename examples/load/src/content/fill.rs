//! The contents of a value after its key and version.

use crate::keys::mix;
use std::io::Write as _;

/// Names, common ones first.
const NAMES: [&str; 32] = [
    "anna", "smith", "miller", "london", "jones", "garcia", "berlin", "maria", "brown", "paris",
    "tanaka", "singh", "madrid", "nguyen", "ahmed", "kim", "vienna", "olga", "silva", "lagos",
    "ivan", "rossi", "mumbai", "chen", "peter", "osaka", "lima", "cairo", "nora", "toronto",
    "jakarta", "emeka",
];

/// Phrases about orders, common ones first.
const PHRASES: [&str; 32] = [
    "the order was ",
    "sent to the customer ",
    "and paid by card ",
    "with express delivery ",
    "is waiting for an answer ",
    "has been returned ",
    "because the item ",
    "was not in stock ",
    "at the given address ",
    "before monday morning ",
    "as the service ",
    "asked for it again ",
    "on the last day ",
    "of this month ",
    "from the warehouse ",
    "in the north region ",
    "after the second call ",
    "by a new account ",
    "that is closed now ",
    "with a different price ",
    "and a refund ",
    "to the same address ",
    "without a reason ",
    "during the session ",
    "for the garden ",
    "of the parcel ",
    "until friday evening ",
    "when the window ",
    "in yellow and green ",
    "near the river ",
    "over the mountain ",
    "in another language ",
];

const EVENTS: [&str; 8] =
    ["created", "paid", "packed", "sent", "opened", "returned", "viewed", "closed"];

/// The random numbers that determine a value.
pub(crate) fn numbers(key: u64, version: u32) -> impl FnMut() -> u64 {
    let mut state = mix(mix(key) ^ (u64::from(version) << 32));
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(state)
    }
}

/// The rest of a record up to `end`, with its closing brace. A part of it is noise.
pub(crate) fn record(
    random: &mut impl FnMut() -> u64,
    noise: usize,
    end: usize,
    out: &mut Vec<u8>,
) {
    // The bytes of the last field, which is as long as the record's rest.
    const LAST: usize = r#""note":""}"#.len();
    let noise = noise.min(end.saturating_sub(out.len() + LAST));
    let n = random();
    if out.len() + 190 + noise + LAST <= end {
        let (user, city) = (of(&NAMES, n), of(&NAMES, n >> 10));
        let _ = write!(
            out,
            r#""user":"{user}.{city}{}","email":"{user}@example.org","city":"{city}","#,
            n >> 20 & 0x3f,
        );
        let _ = write!(
            out,
            r#""active":{},"visits":{},"balance":{}.{:02},"created":"2024-{:02}-{:02}T{:02}:00:00Z","#,
            n >> 26 & 1 == 0,
            n >> 27 & 0x1ff,
            n >> 36 & 0xfff,
            (n >> 48) % 100,
            1 + (n >> 50) % 12,
            1 + (n >> 54) % 28,
            (n >> 59) % 24,
        );
    }
    if noise > 16 {
        out.extend_from_slice(br#""token":""#);
        // The field's quotes and comma count as noise.
        let token = out.len() + noise - 11;
        self::noise(random, token, out);
        out.extend_from_slice(br#"","#);
    }
    if out.len() + 120 + LAST <= end {
        out.extend_from_slice(br#""history":["#);
        while out.len() + 70 + LAST <= end {
            let n = random();
            let event = EVENTS[(n & n >> 3 & 7) as usize];
            let day = 1 + (n >> 8) % 28;
            let _ = write!(
                out,
                r#"{{"event":"{event}","at":"2024-03-{day:02}T12:00:00Z","ok":true}},"#
            );
        }
        // Replaces the last comma.
        out.pop();
        out.extend_from_slice(b"],");
    }
    out.extend_from_slice(br#""note":""#);
    prose(random, 0, end - 2, out);
    out.extend_from_slice(br#""}"#);
}

/// Phrases up to `end`, after `noise` bytes of noise.
pub(crate) fn prose(random: &mut impl FnMut() -> u64, noise: usize, end: usize, out: &mut Vec<u8>) {
    let noise_end = (out.len() + noise).min(end);
    self::noise(random, noise_end, out);
    while out.len() < end {
        let mut n = random();
        for _ in 0..4 {
            out.extend_from_slice(of(&PHRASES, n).as_bytes());
            n >>= 16;
        }
    }
    out.truncate(end);
}

/// Letters, digits, `-` and `_` up to `end`, which LZ4 cannot compress.
pub(crate) fn noise(random: &mut impl FnMut() -> u64, end: usize, out: &mut Vec<u8>) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    while out.len() < end {
        let n = random();
        let ten: [u8; 10] = std::array::from_fn(|i| LETTERS[(n >> (6 * i) & 63) as usize]);
        out.extend_from_slice(&ten);
    }
    out.truncate(end);
}

pub(crate) fn bytes(random: &mut impl FnMut() -> u64, end: usize, out: &mut Vec<u8>) {
    while out.len() < end {
        out.extend_from_slice(&random().to_le_bytes());
    }
    out.truncate(end);
}

/// A product of two random numbers makes low indices common and high ones rare.
fn of(list: &[&'static str; 32], n: u64) -> &'static str {
    list[((n & 31) * (n >> 5 & 31) / 32) as usize]
}
