//! Commands that set values.

use super::get::reply_value;
use super::options::{Condition, Lifetime, Of, Options};
use crate::command::Call;
use crate::command::args::Time;
use crate::command::row::{Command, KEYS_AND_VALUES, ONE_KEY, STORE, STORE_FAST};
use crate::keyspace::{Expiry, NewExpiry};

pub const COMMANDS: &[Command] = &[
    Command::new("set", -3, STORE, ONE_KEY, "Gives a key a value", set),
    Command::new("setnx", 3, STORE_FAST, ONE_KEY, "Gives a missing key a value", setnx),
    Command::new("setex", 4, STORE, ONE_KEY, "A value for some seconds", setex),
    Command::new("psetex", 4, STORE, ONE_KEY, "A value for some milliseconds", psetex),
    Command::new("getset", 3, STORE_FAST, ONE_KEY, "Sets a value and returns the old one", getset),
    Command::new("mset", -3, STORE, KEYS_AND_VALUES, "Gives several keys values", mset),
    Command::new(
        "msetnx",
        -3,
        STORE,
        KEYS_AND_VALUES,
        "Sets several keys, if none of them exists",
        msetnx,
    ),
];

pub fn set(call: &mut Call<'_>) {
    let Some(options) = Options::parse(call, Of::Set) else { return };
    let expiry = match options.lifetime {
        Lifetime::Until(time, number) => match call.deadline(time, number) {
            Some(at) => NewExpiry::Set(Expiry::At(at)),
            None => return,
        },
        Lifetime::Keep => NewExpiry::Keep,
        Lifetime::Unsaid | Lifetime::Persist => NewExpiry::Set(Expiry::Never),
    };
    let (key, mut keys) = call.lock_key();
    let before = call.reply.position();
    let there = match options {
        Options { get: true, .. } => reply_value(call, &mut keys, key),
        Options { condition: Condition::Always, .. } => false,
        _ => keys.about(key).is_some(),
    };
    let wanted = match options.condition {
        Condition::Always => true,
        Condition::Missing => !there,
        Condition::Present => there,
    };
    if !wanted {
        if !options.get {
            call.reply.null();
        }
        return;
    }
    let result = keys.set(key, call.args[2], expiry);
    if result.is_err() {
        call.reply.rewind(before);
    }
    if call.stored(result).is_some() && !options.get {
        call.reply.ok();
    }
}

pub fn setnx(call: &mut Call<'_>) {
    let (key, mut keys) = call.lock_key();
    if keys.about(key).is_some() {
        return call.reply.integer(0);
    }
    let result = keys.set(key, call.args[2], NewExpiry::Set(Expiry::Never));
    if call.stored(result).is_some() {
        call.reply.integer(1);
    }
}

pub fn setex(call: &mut Call<'_>) {
    set_until(call, Time::Seconds);
}

pub fn psetex(call: &mut Call<'_>) {
    set_until(call, Time::Milliseconds);
}

fn set_until(call: &mut Call<'_>, time: Time) {
    let Some(at) = call.deadline(time, 2) else { return };
    let (key, mut keys) = call.lock_key();
    let result = keys.set(key, call.args[3], NewExpiry::Set(Expiry::At(at)));
    if call.stored(result).is_some() {
        call.reply.ok();
    }
}

pub fn getset(call: &mut Call<'_>) {
    let (key, mut keys) = call.lock_key();
    let before = call.reply.position();
    reply_value(call, &mut keys, key);
    let result = keys.set(key, call.args[2], NewExpiry::Set(Expiry::Never));
    if result.is_err() {
        call.reply.rewind(before);
    }
    call.stored(result);
}

pub fn mset(call: &mut Call<'_>) {
    set_all(call, Condition::Always);
}

pub fn msetnx(call: &mut Call<'_>) {
    set_all(call, Condition::Missing);
}

/// If memory runs out in between, the keys before stay set.
fn set_all(call: &mut Call<'_>, condition: Condition) {
    let (pairs, []) = call.args[1..].as_chunks::<2>() else { return call.wrong_arity() };
    let names: Vec<&[u8]> = pairs.iter().map(|[key, _]| *key).collect();
    let mut keys = call.lock(&names);
    let only_missing = condition == Condition::Missing;
    if only_missing && names.iter().any(|key| keys.about(key).is_some()) {
        return call.reply.integer(0);
    }
    for [key, value] in pairs {
        let result = keys.set(key, value, NewExpiry::Set(Expiry::Never));
        if call.stored(result).is_none() {
            return;
        }
    }
    if only_missing { call.reply.integer(1) } else { call.reply.ok() }
}

#[cfg(test)]
mod tests {
    use crate::command::args::OUT_OF_MEMORY;
    use crate::command::transcript::{Client, compare};
    use thermocline::Arena;

    #[test]
    fn values_are_set_as_in_redis() {
        compare(&[
            ("SET k v", "+OK\r\n"),
            ("GET k", "$1\r\nv\r\n"),
            ("SET k w NX", "$-1\r\n"),
            ("SET k w XX", "+OK\r\n"),
            ("GET k", "$1\r\nw\r\n"),
            ("SET missing v XX", "$-1\r\n"),
            ("GET missing", "$-1\r\n"),
            ("SET missing v XX GET", "$-1\r\n"),
            ("SET new v NX GET", "$-1\r\n"),
            ("SET new w NX GET", "$1\r\nv\r\n"),
            ("SET new x XX GET", "$1\r\nv\r\n"),
            ("GET new", "$1\r\nx\r\n"),
            ("SET k v EX 10000", "+OK\r\n"),
            ("SET k w KEEPTTL", "+OK\r\n"),
            ("TTL k", ":10000\r\n"),
            ("SET k w", "+OK\r\n"),
            ("TTL k", ":-1\r\n"),
            ("SET k v PX 10000000", "+OK\r\n"),
            ("TTL k", ":10000\r\n"),
            ("SET k v EXAT 33177117420", "+OK\r\n"),
            ("EXPIRETIME k", ":33177117420\r\n"),
            ("SET k v PXAT 9223372036854775807", "+OK\r\n"),
            ("PEXPIRETIME k", ":9223372036854775807\r\n"),
            ("SET k v PXAT 1", "+OK\r\n"),
            ("EXISTS k", ":0\r\n"),
            ("SET k v EX 1000 EX 2000 XX", "$-1\r\n"),
            ("SET k v EX 1000 EX 2000 NX NX", "+OK\r\n"),
            ("TTL k", ":2000\r\n"),
            ("SET k v NX XX", "-ERR syntax error\r\n"),
            ("SET k v KEEPTTL EX 1000", "-ERR syntax error\r\n"),
            ("SET k v EX 1000 KEEPTTL", "-ERR syntax error\r\n"),
            ("SET k v EX 1000 EXAT 10", "-ERR syntax error\r\n"),
            ("SET k v PERSIST", "-ERR syntax error\r\n"),
            ("SET k v EX", "-ERR syntax error\r\n"),
            (r#"SET k v """#, "-ERR syntax error\r\n"),
            ("SET k v EX 0", "-ERR invalid expire time in 'set' command\r\n"),
            ("SET k v PX -1", "-ERR invalid expire time in 'set' command\r\n"),
            ("SET k v EX 1000.5", "-ERR value is not an integer or out of range\r\n"),
            ("SET k v EX 9223372036854775", "-ERR invalid expire time in 'set' command\r\n"),
            ("SET k v EXAT 9223372036854776", "-ERR invalid expire time in 'set' command\r\n"),
            ("SET k v PX 9223372036854775807", "-ERR invalid expire time in 'set' command\r\n"),
            ("SET k v NX GET EX ten", "-ERR value is not an integer or out of range\r\n"),
            ("GETSET k w", "$1\r\nv\r\n"),
            ("TTL k", ":-1\r\n"),
            ("GETSET other v", "$-1\r\n"),
            ("SETNX k v", ":0\r\n"),
            ("SETNX third v", ":1\r\n"),
            ("SETEX k 10000 v", "+OK\r\n"),
            ("TTL k", ":10000\r\n"),
            ("PSETEX k 10000000 w", "+OK\r\n"),
            ("TTL k", ":10000\r\n"),
            ("SETEX k 0 v", "-ERR invalid expire time in 'setex' command\r\n"),
            ("PSETEX k -5 v", "-ERR invalid expire time in 'psetex' command\r\n"),
            ("SETEX k ten v", "-ERR value is not an integer or out of range\r\n"),
            ("GET k", "$1\r\nw\r\n"),
        ]);
    }

    #[test]
    fn several_values_are_set_as_in_redis() {
        compare(&[
            ("MSET a 1 b 2 a 3", "+OK\r\n"),
            ("MGET a b", "*2\r\n$1\r\n3\r\n$1\r\n2\r\n"),
            ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command\r\n"),
            ("MSETNX a 1 b", "-ERR wrong number of arguments for 'msetnx' command\r\n"),
            ("MSETNX b 4 c 5", ":0\r\n"),
            ("EXISTS c", ":0\r\n"),
            ("MSETNX c 5 d 6 c 7", ":1\r\n"),
            ("MGET c d", "*2\r\n$1\r\n7\r\n$1\r\n6\r\n"),
            ("SET a v EX 10000", "+OK\r\n"),
            ("MSET a w", "+OK\r\n"),
            ("TTL a", ":-1\r\n"),
        ]);
    }

    #[test]
    fn a_write_without_room_changes_nothing() {
        let mut client = Client::with(Arena::builder().reserve(4 << 20), 1);
        client.say("MSET k old other old");
        let large = "x".repeat(8 << 20);
        let lines = [
            format!("SET k {large}"),
            format!("SET k {large} GET"),
            format!("SET new {large} NX GET"),
            format!("GETSET k {large}"),
            format!("SETEX k 100 {large}"),
            format!("SETNX new {large}"),
            format!("MSET k {large} other new"),
            format!("MSETNX new {large}"),
            format!("APPEND k {large}"),
            format!("APPEND new {large}"),
            "SETRANGE k 8000000 x".to_owned(),
            "SETRANGE new 8000000 x".to_owned(),
        ];
        let refusal = format!("-{OUT_OF_MEMORY}\r\n");
        for line in lines {
            assert_eq!(client.say(&line), refusal, "{}", &line[..20]);
        }
        assert_eq!(client.say("MGET k other"), "*2\r\n$3\r\nold\r\n$3\r\nold\r\n");
        assert_eq!(client.say("TTL k"), ":-1\r\n");
        assert_eq!(client.say("EXISTS new"), ":0\r\n");
    }
}
