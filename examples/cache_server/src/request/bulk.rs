//! Requests as arrays of bulk strings.

use super::{Limits, Line, Next, Parser, ProtocolError, Span};

/// The most arguments of a request.
const MOST_ARGUMENTS: i64 = i32::MAX as i64;

/// The most arguments for a client without the password.
const UNAUTHENTICATED_ARGUMENTS: i64 = 10;
const UNAUTHENTICATED_BYTES: u64 = 16 << 10;

impl Parser {
    pub(super) fn next_bulks(&mut self, input: &[u8], limits: Limits) -> Next {
        if self.arguments_left == 0 {
            let end = match self.find_header_end(input) {
                Line::EndsAt(end) => end,
                Line::Incomplete => return Next::Incomplete { missing: 0 },
                Line::TooLong => return Next::Error(ProtocolError::ArgumentCountTooLong),
            };
            let count = match number(&input[self.at + 1..end]) {
                Some(n) if n <= MOST_ARGUMENTS => n,
                _ => return Next::Error(ProtocolError::ArgumentCount),
            };
            if limits.unauthenticated && count > UNAUTHENTICATED_ARGUMENTS {
                return Next::Error(ProtocolError::UnauthenticatedCount);
            }
            self.pass_line(end);
            // Zero or negative: an empty request.
            self.arguments_left = usize::try_from(count).unwrap_or(0);
        }
        while self.arguments_left > 0 {
            let len = match self.bulk {
                Some(len) => len,
                None => match self.bulk_len(input, limits) {
                    Ok(len) => len,
                    Err(next) => return next,
                },
            };
            // As in Redis, the two bytes after an argument count as its line end, whichever they are.
            let (have, needed) = (input.len() - self.at, len + 2);
            if have < needed {
                self.bulk = Some(len);
                return Next::Incomplete { missing: needed - have };
            }
            self.arguments.push(Span { start: self.at, end: self.at + len });
            self.at += needed;
            self.bulk = None;
            self.arguments_left -= 1;
        }
        Next::Request
    }

    fn bulk_len(&mut self, input: &[u8], limits: Limits) -> Result<usize, Next> {
        let end = match self.find_header_end(input) {
            Line::EndsAt(end) => end,
            Line::Incomplete => return Err(Next::Incomplete { missing: 0 }),
            Line::TooLong => return Err(Next::Error(ProtocolError::ArgumentLengthTooLong)),
        };
        let found = input[self.at];
        if found != b'$' {
            return Err(Next::Error(ProtocolError::NoArgument { found }));
        }
        let len = number(&input[self.at + 1..end]).and_then(|n| u64::try_from(n).ok());
        let Some(len) = len.filter(|&len| len <= limits.bulk) else {
            return Err(Next::Error(ProtocolError::ArgumentLength));
        };
        if limits.unauthenticated && len > UNAUTHENTICATED_BYTES {
            return Err(Next::Error(ProtocolError::UnauthenticatedLength));
        }
        self.pass_line(end);
        usize::try_from(len).map_err(|_| Next::Error(ProtocolError::ArgumentLength))
    }

    /// The position of `\r`, once the byte after it has arrived, which is not checked.
    fn find_header_end(&mut self, input: &[u8]) -> Line {
        // Headers are short, and a request has several.
        let header = &input[self.at..];
        let short = header.iter().take(12).position(|&byte| byte == b'\r');
        let end = match short {
            Some(found) => self.at + found,
            None => match self.find(b'\r', input) {
                Line::EndsAt(end) => end,
                other => return other,
            },
        };
        if end + 1 < input.len() { Line::EndsAt(end) } else { Line::Incomplete }
    }

    fn pass_line(&mut self, end: usize) {
        self.at = end + 2;
        self.searched = 0;
    }
}

/// An integer in its canonical form: no plus, no leading zeros, no spaces.
pub fn number(digits: &[u8]) -> Option<i64> {
    match digits {
        [digit @ b'0'..=b'9'] => Some(i64::from(digit - b'0')),
        [b'1'..=b'9', ..] => magnitude(digits)?.try_into().ok(),
        [b'-', rest @ ..] if matches!(rest, [b'1'..=b'9', ..]) => {
            0i64.checked_sub_unsigned(magnitude(rest)?)
        }
        _ => None,
    }
}

fn magnitude(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |n, digit| match digit {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_have_one_canonical_form() {
        for (text, value) in [
            ("0", 0),
            ("7", 7),
            ("-1", -1),
            ("1234567890", 1_234_567_890),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(number(text.as_bytes()), Some(value));
        }
        for text in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            " 1",
            "1 ",
            "1a",
            "9223372036854775808",
            "-9223372036854775809",
        ] {
            assert_eq!(number(text.as_bytes()), None, "{text:?}");
        }
    }
}
