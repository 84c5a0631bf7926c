//! Random arguments: colliding keys, values of all kinds, numbers at limits.

/// A random generator, and the few keys that a program uses.
#[derive(Debug)]
pub struct Words {
    pub rng: fastrand::Rng,
    keys: Vec<Vec<u8>>,
}

/// Keys that look like other things.
const STRANGE_KEYS: [&[u8]; 10] = [
    b"",
    b"\0",
    b"\r\n",
    b"a b\"c'd\\",
    b"\xff\xfe\x80",
    b"h[a-c]?llo*",
    b"hello",
    b"hallo",
    b"12345678901234567890",
    b"EX",
];

/// A time in the year 2128, in seconds.
const FAR_AWAY: i64 = 5_000_000_000;

/// Numbers at limits, and near misses.
const NUMBERS: [&str; 40] = [
    "0",
    "1",
    "-1",
    "2",
    "10",
    "99",
    "-10",
    "255",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775806",
    "-9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "99999999999999999999999",
    "-0",
    "+1",
    "00",
    "01",
    " 1",
    "1 ",
    "1.0",
    "0x10",
    "1e3",
    "",
    "-",
    "abc",
    "1\0",
    "nan",
    "inf",
    "-inf",
    "3.0e-7",
    "1e400",
    "1e308",
    "0.1",
    "-2.5",
    "100000000000000000000000000000000000.5",
    ".5",
];

const PATTERNS: [&str; 24] = [
    "*",
    "*",
    "key:*",
    "key:?",
    "key:[0-4]",
    "key:[^0-4]",
    "h?llo",
    "h*llo",
    "h[ae]llo",
    "h[^e]llo",
    "h[b-a]llo",
    "h\\[a-c]\\?llo\\*",
    "",
    "?",
    "[",
    "[a",
    "\\",
    "*\\",
    "**",
    "*:*[1-9]",
    "*[^]*",
    "HELLO",
    "nothing",
    "???",
];

impl Words {
    pub fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut keys: Vec<Vec<u8>> =
            (0..rng.u32(2..12)).map(|n| format!("key:{n}").into_bytes()).collect();
        for _ in 0..rng.usize(0..6) {
            keys.push(STRANGE_KEYS[rng.usize(..STRANGE_KEYS.len())].to_vec());
        }
        if rng.u8(..4) == 0 {
            keys.push(vec![b'k'; rng.usize(100..2000)]);
        }
        keys.sort();
        keys.dedup();
        Self { rng, keys }
    }

    pub fn one_in(&mut self, count: u32) -> bool {
        self.rng.u32(..count) == 0
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.rng.usize(..choices.len())]
    }

    /// All keys of this program.
    pub fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }

    pub fn key(&mut self) -> Vec<u8> {
        self.keys[self.rng.usize(..self.keys.len())].clone()
    }

    pub fn number(&mut self) -> String {
        match self.rng.u8(..4) {
            0 => self.one_of(&NUMBERS).to_owned(),
            1 => self.rng.i64(..).to_string(),
            _ => self.rng.i32(-1000..1000).to_string(),
        }
    }

    pub fn float(&mut self) -> String {
        match self.rng.u8(..6) {
            0 => self.one_of(&NUMBERS).to_owned(),
            1 => format!("{:e}", self.rng.f64() * 1e6),
            2 => format!("{}", self.rng.i32(-10_000..10_000)),
            3 => format!("{:.2}", self.rng.f64() * 2000.0 - 1000.0),
            4 => format!("{:.1}", self.rng.f64() * 20.0 - 10.0),
            _ => format!("{}", self.rng.f64() * 2.0 - 1.0),
        }
    }

    /// A random value, mostly small. One in some hundred is large enough to fill the sockets' buffers.
    pub fn value(&mut self) -> Vec<u8> {
        let len = match self.rng.u16(..1000) {
            0..100 => return self.number().into_bytes(),
            100..150 => return self.float().into_bytes(),
            150..200 => 0,
            200..300 => self.one_of(&[43, 44, 45, 63, 64]),
            300..950 => self.rng.usize(1..40),
            950..992 => self.rng.usize(100..5000),
            992..998 => self.rng.usize(5000..40_000),
            _ => self.rng.usize(40_000..300_000),
        };
        match self.rng.u8(..4) {
            0 => std::iter::repeat_with(|| self.rng.u8(..)).take(len).collect(),
            1 => vec![self.rng.u8(..); len],
            _ => {
                let text =
                    format!("{{\"id\":{},\"name\":\"{}\"}},", self.rng.u16(..), self.rng.u8(..));
                text.bytes().cycle().take(len).collect()
            }
        }
    }

    /// A random offset: in or near small values, far enough to extend them, or out of range. None needs
    /// hundreds of megabytes.
    pub fn offset(&mut self) -> String {
        match self.rng.u8(..20) {
            0 => self.rng.u32(1000..100_000).to_string(),
            1 => self.one_of(&["536870912", "4294967296", "2000000000"]).to_owned(),
            2 => self.one_of(&["-1", "abc", "", "1.5", "9223372036854775807"]).to_owned(),
            3 => self.one_of(&["9223372036854775808", "-9223372036854775808"]).to_owned(),
            _ => self.rng.u8(..80).to_string(),
        }
    }

    /// A random start or end of a range, from either end of the value.
    pub fn index(&mut self) -> String {
        if self.one_in(5) { self.number() } else { self.rng.i32(-60..60).to_string() }
    }

    /// A relative time in this unit: long enough and distinct enough that the time between the two
    /// servers' clocks has no effect; or invalid; or already over.
    pub fn relative(&mut self, per_second: i64) -> String {
        match self.rng.u8(..10) {
            0 => self.one_of(&["0", "-1", "-100", "abc", "", "1.5", " 1"]).to_owned(),
            1 => self
                .one_of(&["9223372036854775807", "-9223372036854775808", "9223372036854775808"])
                .to_owned(),
            _ => self.rng.i64(100_000 * per_second..1_000_000_000 * per_second).to_string(),
        }
    }

    /// An absolute time in this unit, far in the future or past at any time of the test.
    pub fn absolute(&mut self, per_second: i64) -> String {
        match self.rng.u8(..12) {
            0 => self.one_of(&["0", "-1", "abc", "", "9223372036854775807"]).to_owned(),
            1 => self.rng.i64(1..1_500_000_000 * per_second).to_string(),
            2 => self.one_of(&["9223372036854775", "-9223372036854775808"]).to_owned(),
            3 => (FAR_AWAY * per_second).to_string(),
            _ => self.rng.i64(FAR_AWAY * per_second..2 * FAR_AWAY * per_second).to_string(),
        }
    }

    pub fn pattern(&mut self) -> String {
        self.one_of(&PATTERNS).to_owned()
    }

    /// The word as it is, or in another case.
    pub fn spelled(&mut self, word: &str) -> String {
        match self.rng.u8(..8) {
            0 => word.to_ascii_lowercase(),
            1 => word
                .chars()
                .map(|c| if self.rng.bool() { c.to_ascii_lowercase() } else { c })
                .collect(),
            _ => word.to_owned(),
        }
    }
}
