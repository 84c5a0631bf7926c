//! The longest common subsequence of two values, by the usual table of lengths for all pairs of prefixes,
//! traced back from its end. If there are several, this chooses as Redis does, also for the order of
//! the matches.

use crate::command::Call;
use crate::command::args::{MAX_LEN, SYNTAX, is};
use crate::command::row::{Command, READ, TWO_KEYS};

pub const COMMANDS: &[Command] =
    &[Command::new("lcs", -3, READ, TWO_KEYS, "The longest common subsequence of two values", lcs)];

const BOTH: &str = "ERR If you want both the length and indexes, please just use IDX.";
const TOO_LARGE: &str =
    "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";

#[derive(Debug, Default)]
struct Options {
    len: bool,
    matches: bool,
    match_lengths: bool,
    min_match: i64,
}

pub fn lcs(call: &mut Call<'_>) {
    let Some(options) = parse(call) else { return };
    let (first, second) = (call.args[1], call.args[2]);
    let mut keys = call.lock(&[first, second]);
    let mut cells = |key| keys.about(key).map_or(1, |about| about.len + 1);
    if cells(first).saturating_mul(cells(second)).saturating_mul(size_of::<u32>()) > MAX_LEN {
        return call.reply.error(TOO_LARGE);
    }
    let mut value = |key| keys.get(key).unwrap_or_default().to_vec();
    let (a, b) = (value(first), value(second));
    // The computation may take long; other commands can use the keys meanwhile.
    drop(keys);
    let table = Table::new(&a, &b);
    let len = i64::from(table.at(a.len(), b.len()));
    if options.len {
        return call.reply.integer(len);
    }
    let (common, mut matches) = table.walk(&a, &b);
    if !options.matches {
        return call.reply.bulk(&common);
    }
    matches.retain(|found| found.len as i64 >= options.min_match);
    call.reply.map(2);
    call.reply.bulk(b"matches");
    call.reply.array(matches.len());
    for Match { a, b, len } in matches {
        call.reply.array(2 + usize::from(options.match_lengths));
        for start in [a, b] {
            call.reply.array(2);
            call.reply.integer(start as i64);
            call.reply.integer((start + len - 1) as i64);
        }
        if options.match_lengths {
            call.reply.integer(len as i64);
        }
    }
    call.reply.bulk(b"len");
    call.reply.integer(len);
}

fn parse(call: &mut Call<'_>) -> Option<Options> {
    let mut options = Options::default();
    let mut at = 3;
    while at < call.args.len() {
        match call.args[at..] {
            [word, ..] if is(word, "IDX") => options.matches = true,
            [word, ..] if is(word, "LEN") => options.len = true,
            [word, ..] if is(word, "WITHMATCHLEN") => options.match_lengths = true,
            [word, _, ..] if is(word, "MINMATCHLEN") => {
                at += 1;
                options.min_match = call.integer(at)?;
            }
            _ => {
                call.reply.error(SYNTAX);
                return None;
            }
        }
        at += 1;
    }
    if options.len && options.matches {
        call.reply.error(BOTH);
        return None;
    }
    Some(options)
}

/// A run of bytes that both values contain, with its positions.
#[derive(Debug)]
struct Match {
    a: usize,
    b: usize,
    len: usize,
}

/// The lengths for the first `i` bytes of one value and the first `j` of the other.
#[derive(Debug)]
struct Table {
    lengths: Vec<u32>,
    columns: usize,
}

impl Table {
    fn new(a: &[u8], b: &[u8]) -> Self {
        let columns = b.len() + 1;
        let mut table = Self { lengths: vec![0; (a.len() + 1) * columns], columns };
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                table.lengths[i * columns + j] = if a[i - 1] == b[j - 1] {
                    table.at(i - 1, j - 1) + 1
                } else {
                    table.at(i - 1, j).max(table.at(i, j - 1))
                };
            }
        }
        table
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.lengths[i * self.columns + j]
    }

    /// The subsequence and its matches, the last first.
    fn walk(&self, a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<Match>) {
        let (mut i, mut j) = (a.len(), b.len());
        let (mut common, mut matches) = (Vec::new(), Vec::<Match>::new());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                match matches.last_mut() {
                    Some(last) if last.a == i && last.b == j => {
                        *last = Match { a: i - 1, b: j - 1, len: last.len + 1 };
                    }
                    _ => matches.push(Match { a: i - 1, b: j - 1, len: 1 }),
                }
                common.push(a[i - 1]);
                (i, j) = (i - 1, j - 1);
            } else if self.at(i - 1, j) > self.at(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        common.reverse();
        (common, matches)
    }
}

#[cfg(test)]
mod tests {
    use crate::command::transcript::{compare, compare_in};
    use crate::reply::Protocol;

    #[test]
    fn common_subsequences_are_those_of_redis() {
        compare(&[
            (r#"MSET a ohmytext b mynewtext c "" d xyx"#, "+OK\r\n"),
            ("LCS a b", "$6\r\nmytext\r\n"),
            ("LCS a b LEN", ":6\r\n"),
            (
                "LCS a b IDX",
                "*4\r\n$7\r\nmatches\r\n*2\r\n*2\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n*2\r\n*2\r\n:2\r\n:3\r\n*2\r\n:0\r\n:1\r\n$3\r\nlen\r\n:6\r\n",
            ),
            (
                "LCS a b IDX MINMATCHLEN 4",
                "*4\r\n$7\r\nmatches\r\n*1\r\n*2\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n$3\r\nlen\r\n:6\r\n",
            ),
            (
                "LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN",
                "*4\r\n$7\r\nmatches\r\n*1\r\n*3\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n:4\r\n$3\r\nlen\r\n:6\r\n",
            ),
            ("LCS a b WITHMATCHLEN MINMATCHLEN -1", "$6\r\nmytext\r\n"),
            (
                "LCS a a IDX",
                "*4\r\n$7\r\nmatches\r\n*1\r\n*2\r\n*2\r\n:0\r\n:7\r\n*2\r\n:0\r\n:7\r\n$3\r\nlen\r\n:8\r\n",
            ),
            (
                "LCS a d IDX WITHMATCHLEN",
                "*4\r\n$7\r\nmatches\r\n*2\r\n*3\r\n*2\r\n:6\r\n:6\r\n*2\r\n:2\r\n:2\r\n:1\r\n*3\r\n*2\r\n:3\r\n:3\r\n*2\r\n:1\r\n:1\r\n:1\r\n$3\r\nlen\r\n:2\r\n",
            ),
            ("LCS d d LEN", ":3\r\n"),
            ("LCS a c", "$0\r\n\r\n"),
            ("LCS a missing", "$0\r\n\r\n"),
            ("LCS a missing IDX", "*4\r\n$7\r\nmatches\r\n*0\r\n$3\r\nlen\r\n:0\r\n"),
            (
                "LCS a b LEN IDX",
                "-ERR If you want both the length and indexes, please just use IDX.\r\n",
            ),
            (
                "LCS a b LEN IDX MINMATCHLEN many",
                "-ERR value is not an integer or out of range\r\n",
            ),
            ("LCS a b MINMATCHLEN", "-ERR syntax error\r\n"),
            ("LCS a b FIRST", "-ERR syntax error\r\n"),
            ("SETRANGE long 20000 a", ":20001\r\n"),
            (
                "LCS long long",
                "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len\r\n",
            ),
        ]);
    }

    #[test]
    fn matches_are_a_map_in_resp3() {
        compare_in(
            Protocol::Resp3,
            &[
                ("MSET a ohmytext b mynewtext", "+OK\r\n"),
                (
                    "LCS a b IDX",
                    "%2\r\n$7\r\nmatches\r\n*2\r\n*2\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n*2\r\n*2\r\n:2\r\n:3\r\n*2\r\n:0\r\n:1\r\n$3\r\nlen\r\n:6\r\n",
                ),
            ],
        );
    }
}
