//! A test corpus: pages like those of programs, made from a seed. The tests and the benchmark use it.

use super::lz4::PAGE;

/// One page.
pub(super) type Page = [u8; PAGE];

/// A corpus: its name, and the function that makes its bytes.
pub(super) type Corpus = (&'static str, fn(&mut Numbers, usize) -> Vec<u8>);

pub(super) const CORPORA: [Corpus; 10] = [
    ("records", records),
    ("json", json),
    ("text", text),
    ("floats", floats),
    ("pointers", pointers),
    ("random", random),
    ("mostly zero", mostly_zero),
    ("zero tail", zero_tail),
    ("periods", periods),
    ("source", source),
];

/// At least `pages` pages of a corpus, cut from one run of its bytes.
pub(super) fn pages((_, make): Corpus, seed: u64, pages: usize) -> Vec<Page> {
    make(&mut Numbers::new(seed), pages * PAGE).as_chunks().0.to_vec()
}

/// Pseudo-random numbers (xorshift64*).
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }

    /// An index below `end`; small ones are far more frequent than large ones.
    fn skewed(&mut self, end: usize) -> usize {
        let bits = usize::BITS - end.leading_zeros();
        let wide = 1 << (1 + self.below(u64::from(bits)));
        usize::try_from(self.below(wide)).unwrap_or(0) % end
    }
}

const WORDS: [&str; 96] = [
    "the",
    "of",
    "and",
    "to",
    "a",
    "in",
    "that",
    "is",
    "was",
    "he",
    "for",
    "it",
    "with",
    "as",
    "his",
    "on",
    "be",
    "at",
    "by",
    "had",
    "not",
    "are",
    "but",
    "from",
    "or",
    "have",
    "an",
    "they",
    "which",
    "one",
    "you",
    "were",
    "her",
    "all",
    "she",
    "there",
    "would",
    "their",
    "we",
    "him",
    "been",
    "has",
    "when",
    "who",
    "will",
    "more",
    "no",
    "if",
    "out",
    "so",
    "said",
    "what",
    "up",
    "its",
    "about",
    "into",
    "than",
    "them",
    "can",
    "only",
    "other",
    "new",
    "some",
    "could",
    "time",
    "these",
    "two",
    "may",
    "then",
    "do",
    "first",
    "any",
    "my",
    "now",
    "such",
    "like",
    "our",
    "over",
    "man",
    "me",
    "even",
    "most",
    "made",
    "after",
    "also",
    "did",
    "many",
    "before",
    "must",
    "through",
    "years",
    "where",
    "water",
    "temperature",
    "ocean",
    "thermocline",
];

/// Nodes of a hash map as they lie on a heap: lengths and pointers, a key, a small JSON value.
fn records(numbers: &mut Numbers, bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 512);
    while out.len() < bytes {
        let (id, user) = (numbers.below(10_000_000), numbers.next());
        let key = format!("user:{id:08}:profile");
        let value = format!(
            r#"{{"id":{id},"name":"{} {}","visits":{},"score":{}.{:02},"active":{}}}"#,
            WORDS[numbers.skewed(96)],
            WORDS[numbers.skewed(96)],
            numbers.below(1000),
            numbers.below(100),
            numbers.below(100),
            user & 1 == 1,
        );
        for text in [key, value] {
            let pointer = 0x7F3A_5C00_0000 | (numbers.below(1 << 26) & !15);
            out.extend_from_slice(&pointer.to_le_bytes());
            out.extend_from_slice(&(text.len() as u64).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
            out.resize(out.len().next_multiple_of(16), 0);
        }
    }
    out.truncate(bytes);
    out
}

/// Lines of JSON.
fn json(numbers: &mut Numbers, bytes: usize) -> Vec<u8> {
    let mut out = String::with_capacity(bytes + 256);
    let mut id = 0;
    while out.len() < bytes {
        id += 1;
        let n = numbers.next();
        out += &format!(
            "{{\"id\": {id}, \"user\": \"{n:x}\", \"visits\": {}, \"price\": {}.{}, \"active\": {}}}\n",
            n % 100,
            n % 997,
            n % 10,
            n.is_multiple_of(3)
        );
    }
    out.truncate(bytes);
    out.into_bytes()
}

/// Words at skewed frequencies, with commas and full stops.
fn text(numbers: &mut Numbers, bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 32);
    while out.len() < bytes {
        out.extend_from_slice(WORDS[numbers.skewed(WORDS.len())].as_bytes());
        // Words that are not in the list.
        if numbers.below(6) == 0 {
            for _ in 0..2 + numbers.below(7) {
                let letter = b"etaoinshrdlucmfwypvbgkjqxz"[numbers.skewed(26)];
                out.push(letter);
            }
        }
        match numbers.below(12) {
            0 => out.extend_from_slice(b", "),
            1 => out.extend_from_slice(b".\n"),
            _ => out.push(b' '),
        }
    }
    out.truncate(bytes);
    out
}

/// A walk of prices with two decimals, as doubles.
fn floats(numbers: &mut Numbers, bytes: usize) -> Vec<u8> {
    let mut cents = 10_000_i32;
    let mut price = || {
        cents += i32::try_from(numbers.below(401)).unwrap_or(0) - 200;
        (f64::from(cents) / 100.0).to_le_bytes()
    };
    (0..bytes / 8).flat_map(|_| price()).collect()
}

/// Addresses within 64 MiB, aligned to 16.
fn pointers(numbers: &mut Numbers, bytes: usize) -> Vec<u8> {
    let mut pointer = || 0x7F3A_5C00_0000 | (numbers.below(1 << 26) & !15);
    (0..bytes / 8).flat_map(|_| pointer().to_le_bytes()).collect()
}

/// Bytes without a match.
fn random(numbers: &mut Numbers, bytes: usize) -> Vec<u8> {
    (0..bytes / 8).flat_map(|_| numbers.next().to_le_bytes()).collect()
}

/// One word in fifty is not zero.
fn mostly_zero(numbers: &mut Numbers, bytes: usize) -> Vec<u8> {
    let word = |numbers: &mut Numbers| match numbers.below(50) {
        0 => numbers.below(1 << 32),
        _ => 0,
    };
    (0..bytes / 8).flat_map(|_| word(numbers).to_le_bytes()).collect()
}

/// Pages that are partly filled with JSON and end in zeros.
fn zero_tail(numbers: &mut Numbers, bytes: usize) -> Vec<u8> {
    let mut out = json(numbers, bytes);
    for page in out.chunks_mut(PAGE) {
        let from = usize::try_from(numbers.below(page.len() as u64)).unwrap_or(0);
        page[from..].fill(0);
    }
    out
}

/// Runs that repeat a unit of 1 to 64 bytes.
fn periods(numbers: &mut Numbers, bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 512);
    while out.len() < bytes {
        let period = 1 + numbers.skewed(64);
        let unit: Vec<u8> = (0..period).map(|_| numbers.next().to_le_bytes()[0]).collect();
        let long = 4 + numbers.skewed(600);
        out.extend(unit.iter().cycle().take(period + long));
    }
    out.truncate(bytes);
    out
}

/// The source of this directory, repeated; no repetition begins at the same place in a page.
fn source(_: &mut Numbers, bytes: usize) -> Vec<u8> {
    let own = concat!(
        include_str!("corpus.rs"),
        include_str!("lz4.rs"),
        include_str!("slab.rs"),
        include_str!("lz4_tests.rs"),
        include_str!("tests.rs")
    );
    own.bytes().cycle().take(bytes).collect()
}
