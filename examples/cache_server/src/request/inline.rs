//! Inline requests: words in a line, in quotes if they contain spaces.

use super::{Line, Next, Parser, ProtocolError, Span};

impl Parser {
    pub(super) fn next_words(&mut self, input: &[u8]) -> Next {
        let end = match self.find(b'\n', input) {
            Line::EndsAt(end) => end,
            Line::Incomplete => return Next::Incomplete { missing: 0 },
            Line::TooLong => return Next::Error(ProtocolError::LineTooLong),
        };
        let line = &input[self.at..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.words.clear();
        let mut rest = line;
        loop {
            rest = without_leading_spaces(rest);
            if rest.is_empty() {
                break;
            }
            let start = self.words.len();
            match word(rest, &mut self.words) {
                Some(after) => rest = after,
                None => return Next::Error(ProtocolError::UnbalancedQuotes),
            }
            self.arguments.push(Span { start, end: self.words.len() });
        }
        self.at = end + 1;
        self.searched = 0;
        Next::Request
    }
}

/// A space as defined by C's `isspace`, which includes the vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn without_leading_spaces(line: &[u8]) -> &[u8] {
    let spaces = line.iter().take_while(|&&byte| is_space(byte)).count();
    &line[spaces..]
}

/// Appends the word at the beginning of `line` to `out`, and returns the rest. None if a quote is not
/// closed, or is followed by another character than a space.
fn word<'a>(mut line: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (&byte, rest) = match line.split_first() {
            Some(split) => split,
            None => return Some(line),
        };
        line = match byte {
            b'"' => return after_quote(double_quoted(rest, out)?),
            b'\'' => return after_quote(single_quoted(rest, out)?),
            space if is_space(space) => return Some(rest),
            other => {
                out.push(other);
                rest
            }
        };
    }
}

fn after_quote(rest: &[u8]) -> Option<&[u8]> {
    match rest.first() {
        Some(&byte) if !is_space(byte) => None,
        _ => Some(rest),
    }
}

/// Reads up to the closing quote, with the escapes of C.
fn double_quoted<'a>(mut line: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        line = match line {
            [b'\\', b'x', high, low, rest @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                out.push(hex(*high)? << 4 | hex(*low)?);
                rest
            }
            [b'\\', escaped, rest @ ..] => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest
            }
            [b'"', rest @ ..] => return Some(rest),
            [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
            [] => return None,
        };
    }
}

/// Reads up to the closing quote. Only the quote itself can be escaped.
fn single_quoted<'a>(mut line: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        line = match line {
            [b'\\', b'\'', rest @ ..] => {
                out.push(b'\'');
                rest
            }
            [b'\'', rest @ ..] => return Some(rest),
            [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
            [] => return None,
        };
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok())
}
