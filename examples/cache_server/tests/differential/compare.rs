//! Comparison of two replies to the same request.

use super::request::Request;
use super::rules::{self, Demand, LISTED};
use super::side::Outcome;
use crate::common::resp::{Value, parse};

/// The result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Same,
    /// The replies differ as this entry of [`LISTED`] allows.
    Excused(usize),
    /// The replies differ for now. The request is repeated when both servers are idle.
    Later(usize),
    Different,
}

/// Compares replies in the order in which they arrive.
#[derive(Debug, Default)]
pub struct Comparison {
    /// The longest time from sending a batch to having both servers' replies to it.
    pub longest_ms: u64,
    /// Whether a value was stored that had already expired.
    past: bool,
    /// The keys in the last reply, if that was to `KEYS *`.
    keys: Option<Vec<Vec<u8>>>,
    /// The requests that the servers have queued since `MULTI`.
    queued: Vec<Request>,
}

impl Comparison {
    /// Starts on empty servers.
    pub fn begin(&mut self) {
        (self.past, self.keys) = (false, None);
    }

    /// Starts with new clients.
    pub fn reconnected(&mut self) {
        self.queued.clear();
    }

    /// `theirs` is Redis' outcome.
    pub fn verdict(&mut self, request: &Request, theirs: &Outcome, ours: &Outcome) -> Verdict {
        self.past |= ["EXAT", "PXAT"].iter().any(|word| request.has(word));
        let (Outcome::Reply(a), Outcome::Reply(b)) = (theirs, ours) else {
            let same = theirs == ours && matches!(theirs, Outcome::Closed);
            return if same { Verdict::Same } else { Verdict::Different };
        };
        match (request.word(0).as_str(), a.as_slice()) {
            (_, b"+QUEUED\r\n") => self.queued.push(request.clone()),
            ("MULTI", b"+OK\r\n") => self.queued.clear(),
            ("EXEC", _) => return self.transaction(a, b),
            _ => return self.reply(request, parse(a), parse(b)),
        }
        if a == b { Verdict::Same } else { Verdict::Different }
    }

    /// Compares each reply of a transaction.
    fn transaction(&mut self, a: &[u8], b: &[u8]) -> Verdict {
        let queued = std::mem::take(&mut self.queued);
        let (Value::Many(b'*', theirs), Value::Many(b'*', ours)) = (parse(a), parse(b)) else {
            return if a == b { Verdict::Same } else { Verdict::Different };
        };
        if theirs.len() != queued.len() || ours.len() != queued.len() {
            return Verdict::Different;
        }
        let mut verdict = Verdict::Same;
        for ((request, a), b) in queued.iter().zip(theirs).zip(ours) {
            match self.reply(request, a, b) {
                Verdict::Different => return Verdict::Different,
                // The request cannot be repeated, so the kind has to do.
                Verdict::Later(index) | Verdict::Excused(index) => {
                    verdict = Verdict::Excused(index);
                }
                Verdict::Same => {}
            }
        }
        verdict
    }

    fn reply(&mut self, request: &Request, a: Value<'_>, b: Value<'_>) -> Verdict {
        let keys = self.keys.take();
        if request.word(0) == "KEYS" {
            self.keys = everything(request, &a);
        }
        if a == b && request.word(0) != "RANDOMKEY" {
            return Verdict::Same;
        }
        let Some(index) = rules::of(request) else { return Verdict::Different };
        let agrees = match LISTED[index].demand {
            Demand::SameInTheEnd if integers(&a, &b).is_some() => return Verdict::Later(index),
            Demand::SameInTheEnd => false,
            Demand::SameElements => sorted(a) == sorted(b),
            Demand::SameScan => same_scan(request.word(1) == "0", a, b),
            Demand::AmongKeys => {
                same_kind(&a, &b) && [a, b].iter().all(|key| is_among(key, keys.as_deref()))
            }
            Demand::SameTime { per_second } => self.same_time(per_second, &a, &b),
            Demand::SameKind => same_kind(&a, &b),
            Demand::SameKindOrExpired => {
                let is_number = matches!(a, Value::Scalar(b':', _));
                same_kind(&a, &b) || is_number && matches!(b, Value::Null(_)) && self.past
            }
            Demand::SameGreeting => same_greeting(&a, &b),
            Demand::NewerThanRedis => {
                matches!(a, Value::Scalar(b'-', text) if text.starts_with(b"ERR unknown subcommand"))
            }
        };
        if agrees { Verdict::Excused(index) } else { Verdict::Different }
    }

    /// Whether two times agree: each was set at most [`longest_ms`](Self::longest_ms) apart, and each is
    /// rounded to the unit.
    fn same_time(&self, per_second: u64, a: &Value<'_>, b: &Value<'_>) -> bool {
        let tolerance = 2 * self.longest_ms * per_second / 1000 + 2;
        // Negative numbers mean that the key or its expiry does not exist.
        integers(a, b).is_some_and(|(a, b)| a >= 0 && b >= 0 && a.abs_diff(b) <= tolerance)
    }
}

/// The keys in the reply to `KEYS *`.
fn everything(request: &Request, reply: &Value<'_>) -> Option<Vec<Vec<u8>>> {
    let Value::Many(_, keys) = reply else { return None };
    let key = |value: &Value<'_>| match value {
        Value::Scalar(_, key) => key.to_vec(),
        _ => Vec::new(),
    };
    (request.word(1) == "*").then(|| keys.iter().map(key).collect())
}

fn is_among(reply: &Value<'_>, keys: Option<&[Vec<u8>]>) -> bool {
    match (reply, keys) {
        (Value::Scalar(b'$', key), Some(keys)) => keys.iter().any(|k| k == key),
        (Value::Null(_), Some(keys)) => keys.is_empty(),
        // Without the keys any reply is allowed.
        _ => true,
    }
}

fn integers(a: &Value<'_>, b: &Value<'_>) -> Option<(i64, i64)> {
    let integer = |value: &Value<'_>| match value {
        Value::Scalar(b':', text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    };
    integer(a).zip(integer(b))
}

/// The value with its elements sorted.
fn sorted(value: Value<'_>) -> Value<'_> {
    match value {
        Value::Many(kind, mut values) => {
            values.sort();
            Value::Many(kind, values)
        }
        value => value,
    }
}

fn same_scan(from_start: bool, a: Value<'_>, b: Value<'_>) -> bool {
    let (Value::Many(_, mut a), Value::Many(_, mut b)) = (a, b) else { return false };
    let (Some(keys_a), Some(keys_b), 1, 1) = (a.pop(), b.pop(), a.len(), b.len()) else {
        return false;
    };
    let end = Value::Scalar(b'$', b"0");
    if from_start && a[0] == end && b[0] == end {
        sorted(keys_a) == sorted(keys_b)
    } else {
        same_kind(&a[0], &b[0])
    }
}

/// Errors must have the same words; other replies only the same type.
fn same_kind(a: &Value<'_>, b: &Value<'_>) -> bool {
    match (a, b) {
        (Value::Scalar(b'-', a), Value::Scalar(b'-', b)) => a == b,
        (Value::Scalar(a, _), Value::Scalar(b, _)) | (Value::Many(a, _), Value::Many(b, _)) => {
            a == b
        }
        (a, b) => a == b,
    }
}

fn same_greeting(a: &Value<'_>, b: &Value<'_>) -> bool {
    let (Value::Many(kind_a, a), Value::Many(kind_b, b)) = (a, b) else { return false };
    let pairs = a.chunks(2).zip(b.chunks(2));
    let proto = Value::Scalar(b'$', b"proto");
    let mut same = pairs.map(|(a, b)| {
        a[0] == b[0] && if a[0] == proto { a[1] == b[1] } else { same_kind(&a[1], &b[1]) }
    });
    kind_a == kind_b && a.len() == b.len() && a.len().is_multiple_of(2) && same.all(|same| same)
}

#[test]
fn only_listed_differences_are_excused() {
    let verdict = |request: &str, theirs: &str, ours: &str| {
        let outcome = |text: &str| Outcome::Reply(text.as_bytes().to_vec());
        let mut comparison = Comparison { longest_ms: 10, ..Comparison::default() };
        comparison.verdict(&Request::words(request), &outcome(theirs), &outcome(ours))
    };
    let excused =
        |request, theirs, ours| matches!(verdict(request, theirs, ours), Verdict::Excused(_));
    assert_eq!(verdict("GET k", "$1\r\na\r\n", "$1\r\na\r\n"), Verdict::Same);
    assert_eq!(verdict("GET k", "$1\r\na\r\n", "$1\r\nb\r\n"), Verdict::Different);
    assert_eq!(verdict("GET k", "$-1\r\n", "_\r\n"), Verdict::Different);
    assert!(excused("KEYS *", "*2\r\n+a\r\n+b\r\n", "*2\r\n+b\r\n+a\r\n"));
    assert!(!excused("KEYS *", "*2\r\n+a\r\n+b\r\n", "*2\r\n+b\r\n+b\r\n"));
    assert!(excused("PTTL k", ":1000\r\n", ":1020\r\n"));
    assert!(!excused("PTTL k", ":1000\r\n", ":1040\r\n"));
    assert!(!excused("TTL k", ":1\r\n", ":-1\r\n"));
    assert!(excused("INFO", "$1\r\na\r\n", "$2\r\nab\r\n"));
    assert!(!excused("INFO", "$1\r\na\r\n", "=5\r\ntxt:a\r\n"));
    assert!(!excused("INFO", "$1\r\na\r\n", "-ERR no\r\n"));
    assert!(excused("MEMORY USAGE k", ":1\r\n", ":2\r\n"));
    assert!(!excused("MEMORY USAGE k", "$-1\r\n", ":1\r\n"));
    assert!(!excused("MEMORY USAGE k", ":1\r\n", "$-1\r\n"));
}

#[test]
fn each_reply_of_a_transaction_is_compared() {
    let outcome = |text: &str| Outcome::Reply(text.as_bytes().to_vec());
    let exec = |theirs: &str, ours: &str| {
        let mut comparison = Comparison { longest_ms: 10, ..Comparison::default() };
        let mut say = |request: &str, theirs: &str, ours: &str| {
            comparison.verdict(&Request::words(request), &outcome(theirs), &outcome(ours))
        };
        assert_eq!(say("MULTI", "+OK\r\n", "+OK\r\n"), Verdict::Same);
        for request in ["GET k", "PTTL k"] {
            assert_eq!(say(request, "+QUEUED\r\n", "+QUEUED\r\n"), Verdict::Same);
        }
        say("EXEC", theirs, ours)
    };
    assert_eq!(exec("*2\r\n+a\r\n:5\r\n", "*2\r\n+a\r\n:5\r\n"), Verdict::Same);
    let later = exec("*2\r\n+a\r\n:1000\r\n", "*2\r\n+a\r\n:1005\r\n");
    assert!(matches!(later, Verdict::Excused(_)));
    assert_eq!(exec("*2\r\n+a\r\n:5\r\n", "*2\r\n+b\r\n:5\r\n"), Verdict::Different);
    assert_eq!(exec("*2\r\n+a\r\n:5\r\n", "*1\r\n+a\r\n"), Verdict::Different);
    assert_eq!(exec("*-1\r\n", "*2\r\n+a\r\n:5\r\n"), Verdict::Different);
    assert_eq!(exec("*-1\r\n", "*-1\r\n"), Verdict::Same);
}

#[test]
fn a_random_key_is_one_of_the_keys() {
    let outcome = |text: &str| Outcome::Reply(text.as_bytes().to_vec());
    let mut comparison = Comparison::default();
    let mut random = |keys: &str, theirs: &str, ours: &str| {
        comparison.verdict(&Request::words("KEYS *"), &outcome(keys), &outcome(keys));
        let request = Request::words("RANDOMKEY");
        comparison.verdict(&request, &outcome(theirs), &outcome(ours)) != Verdict::Different
    };
    assert!(random("*2\r\n$1\r\na\r\n$1\r\nb\r\n", "$1\r\na\r\n", "$1\r\nb\r\n"));
    assert!(!random("*2\r\n$1\r\na\r\n$1\r\nb\r\n", "$1\r\na\r\n", "$1\r\nc\r\n"));
    assert!(!random("*1\r\n$1\r\na\r\n", "$1\r\na\r\n", "$-1\r\n"));
    assert!(random("*0\r\n", "$-1\r\n", "$-1\r\n"));
}
