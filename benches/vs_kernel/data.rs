//! The contents of the pages. They follow from the page's number, so a comparison needs no copy.

use crate::common::{PAGE, numbers};
use std::fmt::Write as _;

pub(crate) const WORDS: usize = PAGE / size_of::<u64>();

/// The index, in each page, of the word that is written before each eviction.
pub(crate) const MARK: usize = WORDS - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// Records and prose, page by page.
    Mixed,
    /// Lines of JSON, as servers have them.
    Records,
    /// Sentences of English words.
    Prose,
    /// Nodes that point to each other, with small numbers between the pointers.
    Pointers,
    /// Only zeros, which both sides store without compression.
    Zeros,
}

impl Data {
    pub(crate) const ALL: [(&str, Self); 5] = [
        ("mixed", Self::Mixed),
        ("records", Self::Records),
        ("prose", Self::Prose),
        ("pointers", Self::Pointers),
        ("zeros", Self::Zeros),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, data)| *data == self).map_or("", |(name, _)| name)
    }

    pub(crate) fn page(self, number: usize) -> [u64; WORDS] {
        let mut random = numbers(number as u64).skip(8);
        let mut random = || random.next().unwrap_or_default();
        match self {
            Self::Mixed if number.is_multiple_of(2) => Self::Records.page(number),
            Self::Mixed => Self::Prose.page(number),
            Self::Records => text(|page| record(page, number, random())),
            Self::Prose => text(|page| sentence(page, &mut random)),
            Self::Pointers => nodes(number, &mut random),
            Self::Zeros => [0; WORDS],
        }
    }

    /// The value of the marked word after `round` rounds of writing.
    pub(crate) fn mark(self, page: usize, round: u64) -> u64 {
        match (self, round) {
            (_, 0) => self.page(page)[MARK],
            // The word is written too, which makes the page dirty.
            (Self::Zeros, _) => 0,
            _ => round,
        }
    }
}

fn text(mut append: impl FnMut(&mut String)) -> [u64; WORDS] {
    let mut text = String::with_capacity(2 * PAGE);
    while text.len() < PAGE {
        append(&mut text);
    }
    let (words, _) = text.as_bytes().as_chunks();
    std::array::from_fn(|n| u64::from_ne_bytes(words[n]))
}

fn record(text: &mut String, page: usize, n: u64) {
    let _ = writeln!(
        text,
        r#"{{"id": {}, "user": "{n:x}", "visits": {}, "price": {}.{}, "active": {}}}"#,
        page * 48 + text.len() / 86,
        n % 100,
        n % 997,
        n % 10,
        n.is_multiple_of(3)
    );
}

fn sentence(text: &mut String, random: &mut impl FnMut() -> u64) {
    const PHRASES: [&str; 48] = [
        "the page",
        "of the table",
        "in the store",
        "a handler",
        "is written",
        "the kernel",
        "to a",
        "which is",
        "memory",
        "that has been",
        "when it",
        "at the end",
        "of a batch",
        "and the",
        "returns",
        "an error",
        "for each",
        "a number of",
        "bytes",
        "the other",
        "the first",
        "it",
        "must not",
        "as long as",
        "is read",
        "by the",
        "with a",
        "lock",
        "the arena",
        "thread",
        "on the",
        "from",
        "until",
        "the last",
        "are the",
        "cold",
        "compressed",
        "region",
        "counts",
        "between",
        "the caller",
        "waits for",
        "a moment",
        "without",
        "its own",
        "address",
        "this",
        "every",
    ];
    for place in 0..6 + random() % 12 {
        // The product of two numbers makes some phrases common and some rare.
        let n = random();
        let pick = (n % 48) * (n >> 32) % 48 / 2 + n % 24;
        let phrase = PHRASES[usize::try_from(pick).unwrap_or(0) % PHRASES.len()];
        text.push_str(if place == 0 { "" } else { " " });
        text.push_str(phrase);
    }
    text.push_str(".\n");
}

/// Four words to a node: two pointers into a heap of some MiB, a length, flags.
fn nodes(page: usize, random: &mut impl FnMut() -> u64) -> [u64; WORDS] {
    let base = 0x7f3a_5c00_0000 + (page as u64) * PAGE as u64;
    std::array::from_fn(|word| match word % 4 {
        0 | 1 => base + random() % (1 << 16) * 16,
        2 => random() % 1000,
        _ => random() % 4,
    })
}
