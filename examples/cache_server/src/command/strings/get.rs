//! Commands that read values, and also remove them or change their expiry.

use super::options::{Lifetime, Of, Options};
use crate::command::Call;
use crate::command::row::{Command, KEYS, ONE_KEY, READ_FAST, WRITE_FAST};
use crate::keyspace::{Expiry, Keys};

pub const COMMANDS: &[Command] = &[
    Command::new("get", 2, READ_FAST, ONE_KEY, "The value of a key", get),
    Command::new("mget", -2, READ_FAST, KEYS, "The values of several keys", mget),
    Command::new(
        "getdel",
        2,
        WRITE_FAST,
        ONE_KEY,
        "Returns the value of a key and removes it",
        getdel,
    ),
    Command::new(
        "getex",
        -2,
        WRITE_FAST,
        ONE_KEY,
        "Returns the value of a key and sets its expiry",
        getex,
    ),
    Command::new("strlen", 2, READ_FAST, ONE_KEY, "The length of a value", strlen),
];

/// Replies with a value. True if it exists.
pub fn reply_value(call: &mut Call<'_>, keys: &mut Keys<'_>, key: &[u8]) -> bool {
    let value = keys.get(key);
    match value {
        Some(value) => call.reply.bulk(value),
        None => call.reply.null(),
    }
    value.is_some()
}

pub fn get(call: &mut Call<'_>) {
    let (key, mut keys) = call.lock_key();
    reply_value(call, &mut keys, key);
}

pub fn mget(call: &mut Call<'_>) {
    let wanted = &call.args[1..];
    let mut keys = call.lock(wanted);
    call.reply.array(wanted.len());
    for key in wanted {
        reply_value(call, &mut keys, key);
    }
}

pub fn getdel(call: &mut Call<'_>) {
    let (key, mut keys) = call.lock_key();
    if reply_value(call, &mut keys, key) {
        keys.remove(key);
    }
}

/// An invalid time is an error only if the key exists.
pub fn getex(call: &mut Call<'_>) {
    let Some(options) = Options::parse(call, Of::GetEx) else { return };
    let (key, mut keys) = call.lock_key();
    if keys.about(key).is_none() {
        return call.reply.null();
    }
    let expiry = match options.lifetime {
        Lifetime::Until(time, number) => match call.deadline(time, number) {
            Some(at) => Some(Expiry::At(at)),
            None => return,
        },
        Lifetime::Persist => Some(Expiry::Never),
        Lifetime::Unsaid | Lifetime::Keep => None,
    };
    let before = call.reply.position();
    reply_value(call, &mut keys, key);
    if let Some(expiry) = expiry {
        let result = keys.set_expiry(key, expiry);
        if result.is_err() {
            call.reply.rewind(before);
        }
        call.stored(result);
    }
}

pub fn strlen(call: &mut Call<'_>) {
    let (key, mut keys) = call.lock_key();
    keys.touch(key);
    call.reply.integer(keys.about(key).map_or(0, |about| about.len as i64));
}

#[cfg(test)]
mod tests {
    use crate::command::transcript::{compare, compare_in};
    use crate::reply::Protocol;

    #[test]
    fn values_are_read_as_in_redis() {
        compare(&[
            ("GET missing", "$-1\r\n"),
            (r#"SET k "a\x00\r\nb""#, "+OK\r\n"),
            ("get k", "$5\r\na\u{0}\r\nb\r\n"),
            ("STRLEN k", ":5\r\n"),
            ("STRLEN missing", ":0\r\n"),
            (r#"SET "" empty"#, "+OK\r\n"),
            (r#"GET """#, "$5\r\nempty\r\n"),
            (
                r#"MGET k missing k """#,
                "*4\r\n$5\r\na\u{0}\r\nb\r\n$-1\r\n$5\r\na\u{0}\r\nb\r\n$5\r\nempty\r\n",
            ),
            ("GETDEL k", "$5\r\na\u{0}\r\nb\r\n"),
            ("GETDEL k", "$-1\r\n"),
            ("EXISTS k", ":0\r\n"),
            ("SET k v EX 10000", "+OK\r\n"),
            ("GETEX k", "$1\r\nv\r\n"),
            ("TTL k", ":10000\r\n"),
            ("GETEX k PERSIST PERSIST", "$1\r\nv\r\n"),
            ("TTL k", ":-1\r\n"),
            ("GETEX k EX 1000 ex 2000", "$1\r\nv\r\n"),
            ("TTL k", ":2000\r\n"),
            ("GETEX k PXAT 33177117420000", "$1\r\nv\r\n"),
            ("PEXPIRETIME k", ":33177117420000\r\n"),
            ("GETEX k EXAT 33177117421", "$1\r\nv\r\n"),
            ("PEXPIRETIME k", ":33177117421000\r\n"),
            ("GETEX k PX 10000000", "$1\r\nv\r\n"),
            ("TTL k", ":10000\r\n"),
            ("GETEX k EX 0", "-ERR invalid expire time in 'getex' command\r\n"),
            ("GETEX k EX -1", "-ERR invalid expire time in 'getex' command\r\n"),
            ("GETEX k EX 9223372036854775807", "-ERR invalid expire time in 'getex' command\r\n"),
            ("GETEX k PX 9223372036854775807", "-ERR invalid expire time in 'getex' command\r\n"),
            ("GETEX k EX ten", "-ERR value is not an integer or out of range\r\n"),
            ("GETEX k EX", "-ERR syntax error\r\n"),
            ("GETEX k KEEPTTL", "-ERR syntax error\r\n"),
            ("GETEX k NX", "-ERR syntax error\r\n"),
            ("GETEX k PERSIST EX 500", "-ERR syntax error\r\n"),
            ("GETEX k EX 500 PX 5", "-ERR syntax error\r\n"),
            ("GETEX missing EX ten", "$-1\r\n"),
            ("GETEX missing EX", "-ERR syntax error\r\n"),
            ("TTL k", ":10000\r\n"),
            ("GETEX k EXAT 1", "$1\r\nv\r\n"),
            ("EXISTS k", ":0\r\n"),
        ]);
    }

    #[test]
    fn missing_values_are_nulls_in_resp3() {
        compare_in(
            Protocol::Resp3,
            &[
                ("GET missing", "_\r\n"),
                ("GETDEL missing", "_\r\n"),
                ("GETEX missing", "_\r\n"),
                ("MGET missing", "*1\r\n_\r\n"),
            ],
        );
    }
}
