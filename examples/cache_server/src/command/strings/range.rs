//! Commands on parts of values.

use crate::command::Call;
use crate::command::args::{MAX_LEN, TOO_LONG};
use crate::command::row::{Command, ONE_KEY, READ, STORE, STORE_FAST};

pub const COMMANDS: &[Command] = &[
    Command::new("append", 3, STORE_FAST, ONE_KEY, "Appends to a value", append),
    Command::new("getrange", 4, READ, ONE_KEY, "A part of a value", getrange),
    Command::new("substr", 4, READ, ONE_KEY, "The old name of GETRANGE", getrange),
    Command::new("setrange", 4, STORE, ONE_KEY, "Overwrites a part of a value", setrange),
];

pub fn append(call: &mut Call<'_>) {
    let (key, mut keys) = call.lock_key();
    let more = call.args[2];
    if keys.about(key).is_some_and(|about| about.len + more.len() > MAX_LEN) {
        return call.reply.error(TOO_LONG);
    }
    let result = keys.append(key, more);
    if let Some(len) = call.stored(result) {
        call.reply.integer(len as i64);
    }
}

pub fn getrange(call: &mut Call<'_>) {
    let Some(start) = call.integer(2) else { return };
    let Some(end) = call.integer(3) else { return };
    let (key, mut keys) = call.lock_key();
    call.reply.bulk(part(keys.get(key).unwrap_or_default(), start, end));
}

/// The bytes from `start` to `end`, both included; negative positions count from the value's end.
fn part(value: &[u8], start: i64, end: i64) -> &[u8] {
    // Both could be clamped to the first byte, which lies after them.
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    let len = value.len() as i64;
    let index = |position: i64| if position < 0 { (len + position).max(0) } else { position };
    let (start, end) = (index(start), index(end).min(len - 1));
    if start > end { &[] } else { &value[start as usize..=end as usize] }
}

/// An empty part changes nothing at any offset.
pub fn setrange(call: &mut Call<'_>) {
    let Some(offset) = call.integer(2) else { return };
    if offset < 0 {
        return call.reply.error("ERR offset is out of range");
    }
    let (key, mut keys) = call.lock_key();
    let bytes = call.args[3];
    if bytes.is_empty() {
        let len = keys.about(key).map_or(0, |about| about.len);
        return call.reply.integer(len as i64);
    }
    let offset = offset as usize;
    if offset.saturating_add(bytes.len()) > MAX_LEN {
        return call.reply.error(TOO_LONG);
    }
    let result = keys.overwrite(key, offset, bytes);
    if let Some(len) = call.stored(result) {
        call.reply.integer(len as i64);
    }
}

#[cfg(test)]
mod tests {
    use crate::command::transcript::compare;

    #[test]
    fn parts_are_read_and_written_as_in_redis() {
        compare(&[
            (r#"SET k "Hello World""#, "+OK\r\n"),
            ("GETRANGE k 0 4", "$5\r\nHello\r\n"),
            ("GETRANGE k -5 -1", "$5\r\nWorld\r\n"),
            ("GETRANGE k 0 -1", "$11\r\nHello World\r\n"),
            ("GETRANGE k 4 2", "$0\r\n\r\n"),
            ("GETRANGE k -1 -5", "$0\r\n\r\n"),
            ("GETRANGE k -100 -50", "$1\r\nH\r\n"),
            ("GETRANGE k -100 -99", "$1\r\nH\r\n"),
            ("GETRANGE k -100 -100", "$1\r\nH\r\n"),
            ("GETRANGE k -100 -101", "$0\r\n\r\n"),
            ("GETRANGE k 0 -100", "$1\r\nH\r\n"),
            ("GETRANGE k 1 -100", "$0\r\n\r\n"),
            ("GETRANGE k -1 -100", "$0\r\n\r\n"),
            ("GETRANGE k 5 3", "$0\r\n\r\n"),
            ("GETRANGE k 0 4294967297", "$11\r\nHello World\r\n"),
            (r#"SET empty """#, "+OK\r\n"),
            ("GETRANGE empty -1 -1", "$0\r\n\r\n"),
            ("GETRANGE empty 0 0", "$0\r\n\r\n"),
            ("GETRANGE k -100 3", "$4\r\nHell\r\n"),
            ("GETRANGE k 5 100", "$6\r\n World\r\n"),
            ("GETRANGE k 11 100", "$0\r\n\r\n"),
            ("GETRANGE k -9223372036854775808 9223372036854775807", "$11\r\nHello World\r\n"),
            ("SUBSTR k 1 2", "$2\r\nel\r\n"),
            ("GETRANGE missing 0 -1", "$0\r\n\r\n"),
            ("GETRANGE missing 0 end", "-ERR value is not an integer or out of range\r\n"),
            ("GETRANGE k start 0", "-ERR value is not an integer or out of range\r\n"),
            ("SETRANGE k 6 Redis", ":11\r\n"),
            ("GET k", "$11\r\nHello Redis\r\n"),
            ("SETRANGE k 13 !", ":14\r\n"),
            ("GET k", "$14\r\nHello Redis\u{0}\u{0}!\r\n"),
            (r#"SETRANGE k 0 """#, ":14\r\n"),
            (r#"SETRANGE missing 5 """#, ":0\r\n"),
            ("EXISTS missing", ":0\r\n"),
            ("SETRANGE new 2 a", ":3\r\n"),
            ("GET new", "$3\r\n\u{0}\u{0}a\r\n"),
            ("SETRANGE k -1 a", "-ERR offset is out of range\r\n"),
            (r#"SETRANGE k -1 """#, "-ERR offset is out of range\r\n"),
            ("SETRANGE k first a", "-ERR value is not an integer or out of range\r\n"),
            (
                "SETRANGE k 536870911 ab",
                "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n",
            ),
            (
                "SETRANGE missing 9223372036854775807 a",
                "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n",
            ),
            (r#"SETRANGE k 9223372036854775807 """#, ":14\r\n"),
            (r#"APPEND a """#, ":0\r\n"),
            ("EXISTS a", ":1\r\n"),
            (r#"APPEND a "b\x00""#, ":2\r\n"),
            ("APPEND a c", ":3\r\n"),
            ("GET a", "$3\r\nb\u{0}c\r\n"),
            ("SET a x EX 10000", "+OK\r\n"),
            ("APPEND a y", ":2\r\n"),
            ("SETRANGE a 0 z", ":2\r\n"),
            ("TTL a", ":10000\r\n"),
            ("GET a", "$2\r\nzy\r\n"),
        ]);
    }
}
