//! Commands about expiry.

use crate::command::Call;
use crate::command::args::{Time, is};
use crate::command::row::{Command, ONE_KEY, READ_FAST, WRITE_FAST};
use crate::keyspace::{Expiry, UnixMs};

pub const COMMANDS: &[Command] = &[
    Command::new("expire", -3, WRITE_FAST, ONE_KEY, "Lets a key expire in seconds", expire),
    Command::new("pexpire", -3, WRITE_FAST, ONE_KEY, "The same in milliseconds", pexpire),
    Command::new("expireat", -3, WRITE_FAST, ONE_KEY, "Lets it expire at a second", expireat),
    Command::new("pexpireat", -3, WRITE_FAST, ONE_KEY, "At a millisecond", pexpireat),
    Command::new("persist", 2, WRITE_FAST, ONE_KEY, "Lets a key not expire", persist),
    Command::new("ttl", 2, READ_FAST, ONE_KEY, "In how many seconds a key expires", ttl),
    Command::new("pttl", 2, READ_FAST, ONE_KEY, "In how many milliseconds", pttl),
    Command::new("expiretime", 2, READ_FAST, ONE_KEY, "At what second it expires", expiretime),
    Command::new("pexpiretime", 2, READ_FAST, ONE_KEY, "At what millisecond", pexpiretime),
];

pub fn expire(call: &mut Call<'_>) {
    set(call, Time::Seconds);
}

pub fn pexpire(call: &mut Call<'_>) {
    set(call, Time::Milliseconds);
}

pub fn expireat(call: &mut Call<'_>) {
    set(call, Time::AtSecond);
}

pub fn pexpireat(call: &mut Call<'_>) {
    set(call, Time::AtMillisecond);
}

/// A time in the past, even before the epoch, removes the key.
fn set(call: &mut Call<'_>, time: Time) {
    let Some(condition) = Condition::parse(call) else { return };
    let Some(number) = call.integer(2) else { return };
    let Some(at) = time.resolve(number, call.now) else { return call.invalid_time() };
    let (key, mut keys) = call.lock_key();
    let set = match keys.about(key) {
        Some(about) if condition.allows(about.expiry, at) => keys.set_expiry(key, Expiry::At(at)),
        _ => Ok(false),
    };
    drop(keys);
    if let Some(set) = call.stored(set) {
        call.reply.integer(set.into());
    }
}

/// The condition on the key's old expiry.
#[derive(Debug, Clone, Copy, Default)]
struct Condition {
    never: bool,
    some: bool,
    later: bool,
    sooner: bool,
}

impl Condition {
    fn parse(call: &mut Call<'_>) -> Option<Self> {
        let mut condition = Self::default();
        for word in &call.args[3..] {
            *match word {
                word if is(word, "NX") => &mut condition.never,
                word if is(word, "XX") => &mut condition.some,
                word if is(word, "GT") => &mut condition.later,
                word if is(word, "LT") => &mut condition.sooner,
                _ => {
                    call.reply.error_quoting("ERR Unsupported option ", word, "");
                    return None;
                }
            } = true;
        }
        let Self { never, some, later, sooner } = condition;
        let conflict = if never && (some || later || sooner) {
            "NX and XX, GT or LT"
        } else if later && sooner {
            "GT and LT"
        } else {
            return Some(condition);
        };
        call.reply.error(&format!("ERR {conflict} options at the same time are not compatible"));
        None
    }

    /// A key without an expiry counts as one that expires last.
    fn allows(self, old: Expiry, new: UnixMs) -> bool {
        match old {
            Expiry::Never => !self.some && !self.later,
            Expiry::At(old) => {
                !self.never && (!self.later || new > old) && (!self.sooner || new < old)
            }
        }
    }
}

pub fn persist(call: &mut Call<'_>) {
    let (key, mut keys) = call.lock_key();
    let expires = keys.about(key).is_some_and(|about| about.expiry != Expiry::Never);
    let set = if expires { keys.set_expiry(key, Expiry::Never) } else { Ok(false) };
    drop(keys);
    if let Some(set) = call.stored(set) {
        call.reply.integer(set.into());
    }
}

pub fn ttl(call: &mut Call<'_>) {
    let now = call.now;
    tell(call, |at| seconds(at - now));
}

pub fn pttl(call: &mut Call<'_>) {
    let now = call.now;
    tell(call, |at| at - now);
}

pub fn expiretime(call: &mut Call<'_>) {
    tell(call, seconds);
}

pub fn pexpiretime(call: &mut Call<'_>) {
    tell(call, |at| at);
}

/// Rounds a non-negative time to the nearest second.
fn seconds(milliseconds: i64) -> i64 {
    ((milliseconds as u64 + 500) / 1000) as i64
}

fn tell(call: &mut Call<'_>, told: impl FnOnce(UnixMs) -> i64) {
    let (key, mut keys) = call.lock_key();
    call.reply.integer(match keys.about(key).map(|about| about.expiry) {
        None => -2,
        Some(Expiry::Never) => -1,
        Some(Expiry::At(at)) => told(at),
    });
}

#[cfg(test)]
mod tests {
    use crate::command::transcript::{Client, compare};

    #[test]
    fn expiries_are_set_as_in_redis() {
        compare(&[
            ("TTL missing", ":-2\r\n"),
            ("PTTL missing", ":-2\r\n"),
            ("EXPIRETIME missing", ":-2\r\n"),
            ("PEXPIRETIME missing", ":-2\r\n"),
            ("PERSIST missing", ":0\r\n"),
            ("EXPIRE missing 1000", ":0\r\n"),
            ("SET k v", "+OK\r\n"),
            ("TTL k", ":-1\r\n"),
            ("PTTL k", ":-1\r\n"),
            ("EXPIRETIME k", ":-1\r\n"),
            ("PEXPIRETIME k", ":-1\r\n"),
            ("PERSIST k", ":0\r\n"),
            ("EXPIRE k 10000 XX", ":0\r\n"),
            ("EXPIRE k 10000 GT", ":0\r\n"),
            ("EXPIRE k 10000 NX", ":1\r\n"),
            ("EXPIRE k 20000 NX", ":0\r\n"),
            ("TTL k", ":10000\r\n"),
            ("EXPIRE k 5000 GT", ":0\r\n"),
            ("EXPIRE k 20000 LT", ":0\r\n"),
            ("EXPIRE k 20000 XX GT", ":1\r\n"),
            ("TTL k", ":20000\r\n"),
            ("EXPIRE k 5000 XX LT", ":1\r\n"),
            ("TTL k", ":5000\r\n"),
            ("PEXPIRE k 7000000", ":1\r\n"),
            ("TTL k", ":7000\r\n"),
            ("PERSIST k", ":1\r\n"),
            ("EXPIRE k 10000 LT", ":1\r\n"),
            ("EXPIREAT k 33177117420", ":1\r\n"),
            ("EXPIRETIME k", ":33177117420\r\n"),
            ("PEXPIREAT k 33177117420500", ":1\r\n"),
            ("EXPIRETIME k", ":33177117421\r\n"),
            ("PEXPIRETIME k", ":33177117420500\r\n"),
            ("PEXPIREAT k 9223372036854775807", ":1\r\n"),
            ("EXPIRETIME k", ":9223372036854776\r\n"),
            (
                "EXPIRE k 1000 NX XX",
                "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n",
            ),
            (
                "EXPIRE k 1000 NX GT",
                "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n",
            ),
            (
                "EXPIRE k 1000 LT NX",
                "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n",
            ),
            (
                "EXPIRE k 1000 GT LT",
                "-ERR GT and LT options at the same time are not compatible\r\n",
            ),
            ("EXPIRE k 1000 NX NX", ":0\r\n"),
            ("EXPIRE k 1000 SOON", "-ERR Unsupported option SOON\r\n"),
            (r#"EXPIRE k ten "S\r\nO\x00ON""#, "-ERR Unsupported option S  O\r\n"),
            (
                "EXPIRE k ten GT LT",
                "-ERR GT and LT options at the same time are not compatible\r\n",
            ),
            ("EXPIRE k ten", "-ERR value is not an integer or out of range\r\n"),
            ("EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command\r\n"),
            ("EXPIRE k -9223372036854775808", "-ERR invalid expire time in 'expire' command\r\n"),
            ("EXPIREAT k 9223372036854776", "-ERR invalid expire time in 'expireat' command\r\n"),
            ("PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command\r\n"),
            (
                "EXPIRE missing 9223372036854775807",
                "-ERR invalid expire time in 'expire' command\r\n",
            ),
            ("EXPIRE k 0", ":1\r\n"),
            ("EXISTS k", ":0\r\n"),
            ("SET k v", "+OK\r\n"),
            ("EXPIRE k -9223372036854775", ":1\r\n"),
            ("EXISTS k", ":0\r\n"),
            ("SET k v", "+OK\r\n"),
            ("PEXPIREAT k -1", ":1\r\n"),
            ("EXISTS k", ":0\r\n"),
            ("SET k v", "+OK\r\n"),
            ("EXPIREAT k 1 XX", ":0\r\n"),
            ("EXPIREAT k 1 LT", ":1\r\n"),
            ("EXISTS k", ":0\r\n"),
        ]);
    }

    #[test]
    fn remaining_and_absolute_times_are_reported() {
        let mut client = Client::at(1_000_000);
        let cases = [
            ("SET k v PX 1500", "+OK\r\n"),
            ("PTTL k", ":1500\r\n"),
            ("TTL k", ":2\r\n"),
            ("PEXPIRETIME k", ":1001500\r\n"),
            ("EXPIRETIME k", ":1002\r\n"),
            ("EXPIRE k 2 LT", ":0\r\n"),
            ("PEXPIRE k 1499 GT", ":0\r\n"),
            ("PEXPIRE k 1499 LT", ":1\r\n"),
            ("TTL k", ":1\r\n"),
            ("EXPIREAT k 1001", ":1\r\n"),
            ("PTTL k", ":1000\r\n"),
            ("PEXPIREAT k 1000001", ":1\r\n"),
            ("PTTL k", ":1\r\n"),
            ("SET gone v", "+OK\r\n"),
            ("PEXPIREAT gone 1000000", ":1\r\n"),
            ("EXISTS gone", ":0\r\n"),
        ];
        for (line, reply) in cases {
            assert_eq!(client.say(line), reply, "{line}");
        }
        client.wait(1);
        assert_eq!(client.say("GET k"), "$-1\r\n");
        assert_eq!(client.say("PTTL k"), ":-2\r\n");
    }
}
