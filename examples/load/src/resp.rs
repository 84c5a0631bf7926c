//! The part of Redis' protocol that the load needs: commands, and simple replies.

use std::io::Write as _;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    Status(&'a [u8]),
    Error(&'a [u8]),
    Integer(i64),
    Bulk(&'a [u8]),
    /// In either version of the protocol.
    Null,
}

/// The bytes are not a reply to a command of the load.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Garbage;

/// The first reply and its length in bytes, or None while it is incomplete.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>, Garbage> {
    let Some(end) = memchr::memchr(b'\n', bytes) else { return Ok(None) };
    let [kind, line @ .., b'\r'] = &bytes[..end] else { return Err(Garbage) };
    let next = end + 1;
    let reply = match kind {
        b'+' => Reply::Status(line),
        b'-' => Reply::Error(line),
        b':' => Reply::Integer(number(line)?),
        b'_' if line.is_empty() => Reply::Null,
        b'$' if line == b"-1" => Reply::Null,
        b'$' => {
            let len = usize::try_from(number(line)?).map_err(|_| Garbage)?;
            let Some(rest) = bytes.get(next..).filter(|rest| rest.len() >= len + 2) else {
                return Ok(None);
            };
            if &rest[len..len + 2] != b"\r\n" {
                return Err(Garbage);
            }
            return Ok(Some((Reply::Bulk(&rest[..len]), next + len + 2)));
        }
        _ => return Err(Garbage),
    };
    Ok(Some((reply, next)))
}

fn number(line: &[u8]) -> Result<i64, Garbage> {
    let number = std::str::from_utf8(line).ok().and_then(|line| line.parse().ok());
    number.ok_or(Garbage)
}

/// Appends a command with these words.
pub(crate) fn command(words: &[&[u8]], out: &mut Vec<u8>) {
    array(words.len(), out);
    for word in words {
        bulk(word.len(), out);
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the header of a command with `len` words.
pub(crate) fn array(len: usize, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "*{len}\r\n");
}

/// Appends the header of a word with `len` bytes.
pub(crate) fn bulk(len: usize, out: &mut Vec<u8>) {
    let _ = write!(out, "${len}\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_parsed() {
        assert_eq!(parse(b"+OK\r\nmore"), Ok(Some((Reply::Status(b"OK"), 5))));
        assert_eq!(parse(b"-ERR no\r\n"), Ok(Some((Reply::Error(b"ERR no"), 9))));
        assert_eq!(parse(b":-12\r\n"), Ok(Some((Reply::Integer(-12), 6))));
        assert_eq!(parse(b"$-1\r\n"), Ok(Some((Reply::Null, 5))));
        assert_eq!(parse(b"_\r\n"), Ok(Some((Reply::Null, 3))));
        assert_eq!(parse(b"$0\r\n\r\n"), Ok(Some((Reply::Bulk(b""), 6))));
        assert_eq!(parse(b"$3\r\na\r\n\r\n"), Ok(Some((Reply::Bulk(b"a\r\n"), 9))));
    }

    #[test]
    fn a_partial_reply_is_incomplete() {
        let whole = b"$5\r\nhello\r\n";
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]), Ok(None), "{len}");
        }
    }

    #[test]
    fn garbage_is_refused() {
        for bytes in
            [&b"\n"[..], b"+OK\n", b"*1\r\n", b"$x\r\n", b"$-2\r\n", b"$1\r\nabc", b"_1\r\n"]
        {
            assert_eq!(parse(bytes), Err(Garbage), "{bytes:?}");
        }
    }

    #[test]
    fn commands_are_arrays_of_bulks() {
        let mut out = Vec::new();
        command(&[b"GET", b"a"], &mut out);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
    }
}
