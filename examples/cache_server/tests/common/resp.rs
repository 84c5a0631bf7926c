//! Finds the ends of replies in RESP2 or RESP3, and parses them.
//!
//! Tests compare replies by their bytes, which a client library does not return.

/// The bytes are not a reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// A part of a reply: its type byte and its contents.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value<'a> {
    /// A bulk or simple string, an error, a number or a boolean.
    Scalar(u8, &'a [u8]),
    /// A null, in the form in which it was written: `$-1`, `*-1`, `_`.
    Null(&'a [u8]),
    /// An array, set or push; a map or an attribute, with keys and values in turn.
    Many(u8, Vec<Value<'a>>),
}

/// A line without its end, and the position after it.
fn line(bytes: &[u8], start: usize) -> Option<(&[u8], usize)> {
    let len = bytes[start..].windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[start..start + len], start + len + 2))
}

enum Head<'a> {
    Scalar(&'a [u8]),
    Bulk(usize),
    Null,
    Many(usize),
}

fn head(line: &[u8]) -> Result<(u8, Head<'_>), Malformed> {
    let (&kind, rest) = line.split_first().ok_or(Malformed)?;
    let number = || std::str::from_utf8(rest).ok()?.parse::<i64>().ok();
    let head = match kind {
        b'+' | b'-' | b':' | b',' | b'#' | b'(' => Head::Scalar(rest),
        b'_' => Head::Null,
        b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|' => {
            match (kind, number().ok_or(Malformed)?) {
                (b'$' | b'*', -1) => Head::Null,
                (_, ..0) => return Err(Malformed),
                (b'$' | b'=' | b'!', len) => Head::Bulk(len as usize),
                (b'%' | b'|', pairs) => Head::Many(2 * pairs as usize),
                (_, len) => Head::Many(len as usize),
            }
        }
        _ => return Err(Malformed),
    };
    Ok((kind, head))
}

/// The length of the first reply in `bytes`; `None` if its end has not arrived.
pub fn reply_len(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut values = 1;
    let mut end = 0;
    while values > 0 {
        let Some((text, behind)) = line(bytes, end) else { return Ok(None) };
        let (kind, head) = head(text)?;
        end = behind;
        values -= 1;
        match head {
            // An attribute precedes the reply that it belongs to.
            Head::Many(len) => values += len + usize::from(kind == b'|'),
            Head::Bulk(len) => {
                end += len + 2;
                match bytes.get(end - 2..end) {
                    Some(b"\r\n") => {}
                    Some(_) => return Err(Malformed),
                    None => return Ok(None),
                }
            }
            Head::Scalar(_) | Head::Null => {}
        }
    }
    Ok(Some(end))
}

/// Parses one complete reply, whose end [`reply_len`] has found.
pub fn parse(reply: &[u8]) -> Value<'_> {
    value(reply, &mut 0).expect("a whole reply")
}

fn value<'a>(bytes: &'a [u8], at: &mut usize) -> Option<Value<'a>> {
    let (text, behind) = line(bytes, *at)?;
    *at = behind;
    Some(match head(text).ok()? {
        (kind, Head::Scalar(text)) => Value::Scalar(kind, text),
        (_, Head::Null) => Value::Null(text),
        (kind, Head::Bulk(len)) => {
            *at += len + 2;
            Value::Scalar(kind, &bytes[*at - len - 2..*at - 2])
        }
        (kind, Head::Many(len)) => {
            Value::Many(kind, (0..len).map(|_| value(bytes, at)).collect::<Option<_>>()?)
        }
    })
}

#[test]
fn a_reply_is_complete_with_its_last_byte_and_not_before() {
    let replies: [&[u8]; 13] = [
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":-12\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"_\r\n",
        b"#t\r\n",
        b"$0\r\n\r\n",
        b"$4\r\n\r\n\r\n\r\n",
        b"*3\r\n*1\r\n:1\r\n$1\r\na\r\n*0\r\n",
        b"%2\r\n+a\r\n:1\r\n+b\r\n~1\r\n,1.5\r\n",
        b"|1\r\n+ttl\r\n:5\r\n$1\r\nv\r\n",
        b"=8\r\ntxt:some\r\n",
    ];
    for reply in replies {
        for end in 0..reply.len() {
            assert_eq!(reply_len(&reply[..end]), Ok(None), "{:?}", reply[..end].escape_ascii());
        }
        let with_more = [reply, b"+more\r\n"].concat();
        assert_eq!(reply_len(&with_more), Ok(Some(reply.len())), "{}", reply.escape_ascii());
    }
}

#[test]
fn malformed_replies_differ_from_incomplete_ones() {
    let malformed: [&[u8]; 6] =
        [b"OK\r\n", b"\r\n", b"$-2\r\n", b"*x\r\n", b"$2\r\nabc\r\n", b"*1\r\nhello\r\n"];
    for bytes in malformed {
        assert_eq!(reply_len(bytes), Err(Malformed), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_reply_is_parsed() {
    let nested = Value::Many(b'*', vec![Value::Scalar(b':', b"1"), Value::Null(b"_")]);
    let whole = Value::Many(b'%', vec![Value::Scalar(b'$', b"\r\n"), nested]);
    assert_eq!(parse(b"%1\r\n$2\r\n\r\n\r\n*2\r\n:1\r\n_\r\n"), whole);
}
