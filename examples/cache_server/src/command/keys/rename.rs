//! Commands that move or copy a value to another key.

use crate::command::Call;
use crate::command::args::{SYNTAX, is};
use crate::command::row::{Command, STORE, TWO_KEYS, WRITE, WRITE_FAST};

pub const COMMANDS: &[Command] = &[
    Command::new("rename", 3, WRITE, TWO_KEYS, "Renames a key", rename),
    Command::new(
        "renamenx",
        3,
        WRITE_FAST,
        TWO_KEYS,
        "Renames a key, unless the new key exists",
        renamenx,
    ),
    Command::new("copy", -3, STORE, TWO_KEYS, "Copies a value to another key", copy),
];

const NO_SUCH_KEY: &str = "ERR no such key";

pub fn rename(call: &mut Call<'_>) {
    let (from, to) = (call.args[1], call.args[2]);
    let mut keys = call.lock(&[from, to]);
    let there = if from == to { Ok(keys.touch(from)) } else { keys.rename(from, to) };
    match call.stored(there) {
        Some(true) => call.reply.ok(),
        Some(false) => call.reply.error(NO_SUCH_KEY),
        None => {}
    }
}

pub fn renamenx(call: &mut Call<'_>) {
    let (from, to) = (call.args[1], call.args[2]);
    let mut keys = call.lock(&[from, to]);
    if !keys.touch(from) {
        return call.reply.error(NO_SUCH_KEY);
    }
    let free = keys.about(to).is_none();
    let renamed = if free { keys.rename(from, to) } else { Ok(false) };
    if let Some(renamed) = call.stored(renamed) {
        call.reply.integer(renamed.into());
    }
}

pub fn copy(call: &mut Call<'_>) {
    let Some(replace) = parse_copy(call) else { return };
    let (from, to) = (call.args[1], call.args[2]);
    if from == to {
        return call.reply.error("ERR source and destination objects are the same");
    }
    let mut keys = call.lock(&[from, to]);
    if !keys.touch(from) || (!replace && keys.about(to).is_some()) {
        return call.reply.integer(0);
    }
    let result = keys.copy(from, to);
    if let Some(copied) = call.stored(result) {
        call.reply.integer(copied.into());
    }
}

/// Whether the copy may replace a value. The only database is 0.
fn parse_copy(call: &mut Call<'_>) -> Option<bool> {
    let mut replace = false;
    let mut at = 3;
    while at < call.args.len() {
        if is(call.args[at], "REPLACE") {
            replace = true;
        } else if is(call.args[at], "DB") && at + 1 < call.args.len() {
            at += 1;
            call.database(at)?;
        } else {
            call.reply.error(SYNTAX);
            return None;
        }
        at += 1;
    }
    Some(replace)
}

#[cfg(test)]
mod tests {
    use crate::command::transcript::compare;

    #[test]
    fn values_are_moved_and_copied_as_in_redis() {
        compare(&[
            ("MSET a 1 b 2", "+OK\r\n"),
            ("EXPIRE a 10000", ":1\r\n"),
            ("RENAME a b", "+OK\r\n"),
            ("GET b", "$1\r\n1\r\n"),
            ("TTL b", ":10000\r\n"),
            ("EXISTS a", ":0\r\n"),
            ("RENAME a b", "-ERR no such key\r\n"),
            ("RENAME a a", "-ERR no such key\r\n"),
            ("RENAME b b", "+OK\r\n"),
            ("RENAMENX b b", ":0\r\n"),
            ("RENAMENX a a", "-ERR no such key\r\n"),
            ("SET c 3", "+OK\r\n"),
            ("RENAMENX b c", ":0\r\n"),
            ("RENAMENX c d", ":1\r\n"),
            ("RENAMENX missing d", "-ERR no such key\r\n"),
            ("RENAMENX c c", "-ERR no such key\r\n"),
            ("COPY b c", ":1\r\n"),
            ("GET c", "$1\r\n1\r\n"),
            ("TTL c", ":10000\r\n"),
            ("COPY d c", ":0\r\n"),
            ("COPY d c REPLACE replace", ":1\r\n"),
            ("TTL c", ":-1\r\n"),
            ("COPY missing c REPLACE", ":0\r\n"),
            ("COPY b b", "-ERR source and destination objects are the same\r\n"),
            ("COPY missing missing", "-ERR source and destination objects are the same\r\n"),
            ("COPY b e DB 0 REPLACE", ":1\r\n"),
            ("COPY b b DB 0", "-ERR source and destination objects are the same\r\n"),
            ("COPY b e DB -1", "-ERR DB index is out of range\r\n"),
            ("COPY b e DB 99", "-ERR DB index is out of range\r\n"),
            (
                "COPY b e DB 2147483648",
                "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n",
            ),
            ("COPY b e DB zero", "-ERR value is not an integer or out of range\r\n"),
            ("COPY b e DB", "-ERR syntax error\r\n"),
            ("COPY b e TWICE", "-ERR syntax error\r\n"),
            ("COPY b b TWICE", "-ERR syntax error\r\n"),
        ]);
    }
}
