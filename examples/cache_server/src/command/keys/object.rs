//! Commands about a value's metadata.

use crate::command::Call;
use crate::command::args::{SYNTAX, is};
use crate::command::client::never_executed;
use crate::command::help::help;
use crate::command::row::{Command, LOADING, NO_KEY, READ, SECOND};
use crate::keyspace::{Form, Keys};
use crate::request::number;

pub const COMMANDS: &[Command] = &[
    Command::new("object", -2, &[], NO_KEY, "Commands about values", never_executed),
    Command::new("object|encoding", 3, READ, SECOND, "The encoding in Redis", encoding),
    Command::new(
        "object|freq",
        3,
        READ,
        SECOND,
        "Fails: the frequency of use is not tracked",
        freq,
    ),
    Command::new("object|help", 2, LOADING, NO_KEY, "Help on commands about values", object_help),
    Command::new("object|idletime", 3, READ, SECOND, "Seconds since it was used", idletime),
    Command::new("object|refcount", 3, READ, SECOND, "The number of references", refcount),
];

/// A subcommand of `MEMORY`.
pub const MEMORY_USAGE: Command =
    Command::new("memory|usage", -3, READ, SECOND, "How much memory a key takes", memory_usage);

/// The longest text that Redis stores in one allocation with its metadata (`embstr`).
const EMBEDDED: usize = 44;

/// Redis shares one object for each integer below this.
const SHARED_INTEGERS: i64 = 10_000;

const NO_LFU: &str = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. \
    Please note that when switching between policies at runtime LRU and LFU data will take some \
    time to adjust.";

/// Locks the key of a subcommand. Replies null if the key does not exist.
fn lock<'a>(call: &mut Call<'a>) -> Option<(&'a [u8], Keys<'a>)> {
    let key = call.args[2];
    let mut keys = call.lock(&[key]);
    if keys.about(key).is_none() {
        call.reply.null();
        return None;
    }
    Some((key, keys))
}

/// The integer as which Redis would store the value, if it would.
fn stored_integer(keys: &mut Keys<'_>, key: &[u8]) -> Option<i64> {
    let about = keys.about(key)?;
    // Reading the value may restore its page, so only a possible integer is read.
    let may_be = about.form == Form::Whole && about.len <= 20;
    if may_be { number(keys.peek(key)?) } else { None }
}

fn encoding(call: &mut Call<'_>) {
    let Some((key, mut keys)) = lock(call) else { return };
    let about = keys.about(key).expect("just seen");
    let encoding = match stored_integer(&mut keys, key) {
        Some(_) => "int",
        None if about.form != Form::Edited && about.len <= EMBEDDED => "embstr",
        None => "raw",
    };
    call.reply.bulk(encoding.as_bytes());
}

fn refcount(call: &mut Call<'_>) {
    let Some((key, mut keys)) = lock(call) else { return };
    let shared = stored_integer(&mut keys, key).is_some_and(|n| (0..SHARED_INTEGERS).contains(&n));
    call.reply.integer(if shared { i32::MAX.into() } else { 1 });
}

fn idletime(call: &mut Call<'_>) {
    let Some((key, mut keys)) = lock(call) else { return };
    let idle = keys.about(key).expect("just seen").idle_seconds;
    call.reply.integer(idle as i64);
}

/// No eviction policy of this server counts uses.
fn freq(call: &mut Call<'_>) {
    if lock(call).is_some() {
        call.reply.error(NO_LFU);
    }
}

fn object_help(call: &mut Call<'_>) {
    help(
        call,
        "ENCODING <key>
    How Redis would store the value of a key: as int, embstr or raw.
FREQ <key>
    How often a key is used, if the eviction policy went by that. None here does.
IDLETIME <key>
    Seconds since a key was last read or written.
REFCOUNT <key>
    How many references Redis would count to the value of a key.",
    );
}

/// `MEMORY USAGE key [SAMPLES count]`. Strings need no samples.
fn memory_usage(call: &mut Call<'_>) {
    let mut at = 3;
    while at < call.args.len() {
        if !is(call.args[at], "SAMPLES") || at + 1 == call.args.len() {
            return call.reply.error(SYNTAX);
        }
        let Some(samples) = call.integer(at + 1) else { return };
        if samples < 0 {
            return call.reply.error(SYNTAX);
        }
        at += 2;
    }
    if let Some((key, mut keys)) = lock(call) {
        let bytes = keys.about(key).expect("just seen").memory_bytes;
        call.reply.integer(bytes as i64);
    }
}

#[cfg(test)]
mod tests {
    use crate::command::transcript::{Client, compare};

    #[test]
    fn metadata_is_reported_as_in_redis() {
        compare(&[
            ("SET k 12345", "+OK\r\n"),
            ("OBJECT ENCODING k", "$3\r\nint\r\n"),
            ("SET k -9223372036854775808", "+OK\r\n"),
            ("OBJECT ENCODING k", "$3\r\nint\r\n"),
            ("SET k 9223372036854775808", "+OK\r\n"),
            ("OBJECT ENCODING k", "$6\r\nembstr\r\n"),
            ("SET k 007", "+OK\r\n"),
            ("OBJECT ENCODING k", "$6\r\nembstr\r\n"),
            (r#"SET k """#, "+OK\r\n"),
            ("OBJECT ENCODING k", "$6\r\nembstr\r\n"),
            ("SET k 44444444444444444444444444444444444444444444", "+OK\r\n"),
            ("OBJECT ENCODING k", "$6\r\nembstr\r\n"),
            ("SET k 555555555555555555555555555555555555555555555", "+OK\r\n"),
            ("OBJECT ENCODING k", "$3\r\nraw\r\n"),
            ("APPEND new 5", ":1\r\n"),
            ("OBJECT ENCODING new", "$3\r\nint\r\n"),
            ("APPEND new 6", ":2\r\n"),
            ("OBJECT ENCODING new", "$3\r\nraw\r\n"),
            ("RENAME new renamed", "+OK\r\n"),
            ("OBJECT ENCODING renamed", "$3\r\nraw\r\n"),
            ("COPY renamed copy", ":1\r\n"),
            ("OBJECT ENCODING copy", "$3\r\nraw\r\n"),
            ("INCR renamed", ":57\r\n"),
            ("OBJECT ENCODING renamed", "$3\r\nint\r\n"),
            (r#"APPEND renamed """#, ":2\r\n"),
            ("OBJECT ENCODING renamed", "$3\r\nraw\r\n"),
            ("SETRANGE range 0 1", ":1\r\n"),
            ("OBJECT ENCODING range", "$3\r\nraw\r\n"),
            ("INCRBYFLOAT range 2", "$1\r\n3\r\n"),
            ("OBJECT ENCODING range", "$6\r\nembstr\r\n"),
            ("INCR range", ":4\r\n"),
            ("OBJECT ENCODING range", "$3\r\nint\r\n"),
            (r#"SETRANGE range 0 """#, ":1\r\n"),
            ("OBJECT ENCODING range", "$3\r\nint\r\n"),
            ("GETSET range text", "$1\r\n4\r\n"),
            ("OBJECT ENCODING range", "$6\r\nembstr\r\n"),
            ("OBJECT REFCOUNT range", ":1\r\n"),
            ("SET k 9999", "+OK\r\n"),
            ("OBJECT REFCOUNT k", ":2147483647\r\n"),
            ("SET k 10000", "+OK\r\n"),
            ("OBJECT REFCOUNT k", ":1\r\n"),
            (
                "OBJECT FREQ k",
                "-ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.\r\n",
            ),
            ("OBJECT IDLETIME missing", "$-1\r\n"),
            ("OBJECT ENCODING missing", "$-1\r\n"),
            ("OBJECT REFCOUNT missing", "$-1\r\n"),
            ("OBJECT FREQ missing", "$-1\r\n"),
            ("MEMORY USAGE missing", "$-1\r\n"),
            ("MEMORY USAGE k SAMPLES", "-ERR syntax error\r\n"),
            ("MEMORY USAGE k SAMPLES -1", "-ERR syntax error\r\n"),
            ("MEMORY USAGE k SAMPLES few", "-ERR value is not an integer or out of range\r\n"),
            ("MEMORY USAGE k SAMPLE 1", "-ERR syntax error\r\n"),
        ]);
    }

    #[test]
    fn memory_usage_counts_key_and_value() {
        let mut client = Client::at(1);
        client.say("SET k 12345");
        let usage = client.say("MEMORY USAGE k SAMPLES 0");
        let bytes: usize = usage.trim_start_matches(':').trim_end().parse().unwrap();
        assert!(bytes >= 5);
    }
}
