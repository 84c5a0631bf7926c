//! Commands that list keys.

use crate::command::Call;
use crate::command::args::{SYNTAX, is};
use crate::command::glob::matches;
use crate::command::row::{Command, NO_KEY, READ};

pub const COMMANDS: &[Command] = &[
    Command::new("randomkey", 1, READ, NO_KEY, "Some key", randomkey),
    Command::new("keys", 2, READ, NO_KEY, "All keys that match a pattern", keys),
    Command::new("scan", -2, READ, NO_KEY, "All keys, some at a time", scan),
];

pub fn randomkey(call: &mut Call<'_>) {
    match call.server.keyspace.random_key(call.now) {
        Some(key) => call.reply.bulk(&key),
        None => call.reply.null(),
    }
}

/// A list of names in one buffer, whose length is known only at the end.
#[derive(Debug, Default)]
struct Names {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Names {
    fn push(&mut self, name: &[u8]) {
        self.bytes.extend_from_slice(name);
        self.ends.push(self.bytes.len());
    }

    fn reply(&self, call: &mut Call<'_>) {
        call.reply.array(self.ends.len());
        let mut start = 0;
        for &end in &self.ends {
            call.reply.bulk(&self.bytes[start..end]);
            start = end;
        }
    }
}

/// Collects the keys that match a pattern, or all keys.
fn collect(call: &Call<'_>, cursor: u64, count: usize, pattern: Option<&[u8]>) -> (u64, Names) {
    let mut names = Names::default();
    let next = call.server.keyspace.scan(cursor, count, call.now, &mut |key| {
        if pattern.is_none_or(|pattern| matches(pattern, key)) {
            names.push(key);
        }
    });
    (next, names)
}

/// A single star matches everything; several stars do not match an empty key.
fn restriction(pattern: &[u8]) -> Option<&[u8]> {
    (pattern != b"*").then_some(pattern)
}

pub fn keys(call: &mut Call<'_>) {
    let (_, names) = collect(call, 0, usize::MAX, restriction(call.args[1]));
    names.reply(call);
}

pub fn scan(call: &mut Call<'_>) {
    let Some(cursor) = parse_cursor(call.args[1]) else {
        return call.reply.error("ERR invalid cursor");
    };
    let (mut count, mut pattern, mut any_string) = (10, None, true);
    let mut at = 2;
    while at < call.args.len() {
        match call.args[at..] {
            [word, _, ..] if is(word, "COUNT") => {
                let Some(number) = call.integer(at + 1) else { return };
                count = number;
                if count < 1 {
                    return call.reply.error(SYNTAX);
                }
            }
            [word, value, ..] if is(word, "MATCH") => pattern = restriction(value),
            [word, value, ..] if is(word, "TYPE") => any_string = is(value, "string"),
            _ => return call.reply.error(SYNTAX),
        }
        at += 2;
    }
    let (next, mut names) = collect(call, cursor, count as usize, pattern);
    if !any_string {
        names = Names::default();
    }
    call.reply.array(2);
    call.reply.bulk(itoa::Buffer::new().format(next).as_bytes());
    names.reply(call);
}

/// Parses as C's `strtoul` does, with a sign or an empty text, but without leading spaces.
fn parse_cursor(text: &[u8]) -> Option<u64> {
    let (negative, digits) = match text {
        [] => return Some(0),
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let cursor: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if negative { cursor.wrapping_neg() } else { cursor })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::transcript::{Both, Client, compare, compare_in};
    use crate::reply::Protocol;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use proptest::test_runner::{Config, TestRunner};

    #[test]
    fn keys_are_listed_as_in_redis() {
        compare(&[
            ("KEYS *", "*0\r\n"),
            ("RANDOMKEY", "$-1\r\n"),
            ("SCAN 0", "*2\r\n$1\r\n0\r\n*0\r\n"),
            ("SET key:1 v", "+OK\r\n"),
            ("RANDOMKEY", "$5\r\nkey:1\r\n"),
            ("KEYS *", "*1\r\n$5\r\nkey:1\r\n"),
            (r#"KEYS """#, "*0\r\n"),
            ("KEYS k?y:[0-9]", "*1\r\n$5\r\nkey:1\r\n"),
            ("KEYS k?y:[^0-9]", "*0\r\n"),
            ("SCAN 0 MATCH key:* COUNT 100 TYPE string", "*2\r\n$1\r\n0\r\n*1\r\n$5\r\nkey:1\r\n"),
            ("SCAN 0 TYPE STRING", "*2\r\n$1\r\n0\r\n*1\r\n$5\r\nkey:1\r\n"),
            ("SCAN 0 TYPE list", "*2\r\n$1\r\n0\r\n*0\r\n"),
            ("SCAN 0 TYPE nonsense", "*2\r\n$1\r\n0\r\n*0\r\n"),
            ("SCAN 0 MATCH no MATCH *", "*2\r\n$1\r\n0\r\n*1\r\n$5\r\nkey:1\r\n"),
            (r#"SET "" v"#, "+OK\r\n"),
            ("DEL key:1", ":1\r\n"),
            ("KEYS *", "*1\r\n$0\r\n\r\n"),
            ("KEYS **", "*0\r\n"),
            (r#"KEYS """#, "*1\r\n$0\r\n\r\n"),
            ("SCAN 0 MATCH **", "*2\r\n$1\r\n0\r\n*0\r\n"),
            ("SET gone v PXAT 1", "+OK\r\n"),
            ("SCAN 0 COUNT 1000", "*2\r\n$1\r\n0\r\n*1\r\n$0\r\n\r\n"),
            ("KEYS *", "*1\r\n$0\r\n\r\n"),
            (r#"SCAN """#, "*2\r\n$1\r\n0\r\n*1\r\n$0\r\n\r\n"),
            ("SCAN -0", "*2\r\n$1\r\n0\r\n*1\r\n$0\r\n\r\n"),
            ("SCAN 0x", "-ERR invalid cursor\r\n"),
            (r#"SCAN " 0""#, "-ERR invalid cursor\r\n"),
            ("SCAN 18446744073709551616", "-ERR invalid cursor\r\n"),
            ("SCAN 0 COUNT 0", "-ERR syntax error\r\n"),
            ("SCAN 0 COUNT -1", "-ERR syntax error\r\n"),
            ("SCAN 0 COUNT ten", "-ERR value is not an integer or out of range\r\n"),
            ("SCAN 0 COUNT", "-ERR syntax error\r\n"),
            ("SCAN 0 MATCH", "-ERR syntax error\r\n"),
            ("SCAN 0 ALL", "-ERR syntax error\r\n"),
            ("SCAN x ALL", "-ERR invalid cursor\r\n"),
        ]);
    }

    #[test]
    fn cursors_are_parsed_as_in_redis() {
        let good = [("", 0), ("0", 0), ("+7", 7), ("007", 7), ("-1", u64::MAX)];
        for (text, cursor) in good {
            assert_eq!(parse_cursor(text.as_bytes()), Some(cursor), "{text:?}");
        }
        assert_eq!(parse_cursor(b"18446744073709551615"), Some(u64::MAX));
        for text in [" 1", "1 ", "+", "-", "--1", "+-1", "a", "1a", "18446744073709551616"] {
            assert_eq!(parse_cursor(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_scan_shows_every_key() {
        let mut client = Client::at(1);
        for number in 0..100 {
            client.say(&format!("SET key:{number} {number}"));
        }
        let (mut cursor, mut seen) = ("0".to_owned(), std::collections::BTreeSet::new());
        loop {
            let reply = client.say(&format!("SCAN {cursor} COUNT 7 MATCH key:*"));
            let mut bulks = reply.split("\r\n").filter(|line| !line.starts_with(['$', '*']));
            cursor = bulks.next().unwrap().to_owned();
            seen.extend(bulks.filter(|key| !key.is_empty()).map(str::to_owned));
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), 100);
    }

    #[test]
    fn an_empty_list_in_resp3() {
        compare_in(
            Protocol::Resp3,
            &[("RANDOMKEY", "_\r\n"), ("KEYS *", "*0\r\n"), ("SCAN 0", "*2\r\n$1\r\n0\r\n*0\r\n")],
        );
    }

    #[test]
    fn patterns_match_as_in_redis() {
        let Some(both) = Both::start() else { return };
        both.say(&[b"SET", b"", b""]);
        for number in 0..400_usize {
            let bytes = b"ab]-\\^[*\x00\xff";
            let key = [20, 10, 1].map(|power| bytes[number / power % bytes.len()]);
            both.say(&[b"SET", &key[number % 3..], b""]);
        }
        let pattern = vec(select(&b"*?[[[]]^--\\aab\x00\xff"[..]), 0..9);
        let checked = TestRunner::new(Config::with_cases(2000)).run(&pattern, |pattern| {
            let (ours, theirs) = both.say(&[b"KEYS", &pattern]);
            prop_assert_eq!(sorted(&ours), sorted(&theirs));
            Ok(())
        });
        checked.unwrap_or_else(|failure| panic!("{failure}"));
    }

    fn sorted(reply: &str) -> Vec<&str> {
        let mut lines: Vec<&str> = reply.split("\r\n").collect();
        lines.sort_unstable();
        lines
    }
}
