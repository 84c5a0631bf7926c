//! Parsing of arguments, and the errors for wrong ones.
//!
//! A method that returns `None` for a wrong argument has written the error reply.

use super::Call;
use crate::keyspace::{Keys, OutOfMemory, UnixMs};
use crate::request::number;

pub const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
pub const SYNTAX: &str = "ERR syntax error";
pub const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
pub const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// The most bytes of a value.
pub const MAX_LEN: usize = 512 << 20;

/// The form of a point in time in a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    Seconds,
    Milliseconds,
    AtSecond,
    AtMillisecond,
}

impl Time {
    /// The point in time; `None` if it is out of range.
    pub fn resolve(self, number: i64, now: UnixMs) -> Option<UnixMs> {
        match self {
            Self::Seconds => number.checked_mul(1000)?.checked_add(now),
            Self::Milliseconds => number.checked_add(now),
            Self::AtSecond => number.checked_mul(1000),
            Self::AtMillisecond => Some(number),
        }
    }
}

impl<'a> Call<'a> {
    pub fn lock<K: AsRef<[u8]>>(&self, keys: &[K]) -> Keys<'a> {
        self.server.keyspace.keys(keys, self.now)
    }

    /// The key in the first argument, and the keyspace with that key locked.
    pub fn lock_key(&self) -> (&'a [u8], Keys<'a>) {
        let key = self.args[1];
        (key, self.lock(&[key]))
    }

    pub fn integer(&mut self, at: usize) -> Option<i64> {
        let number = number(self.args[at]);
        if number.is_none() {
            self.reply.error(NOT_AN_INTEGER);
        }
        number
    }

    /// A database number; the only database is 0.
    pub fn database(&mut self, at: usize) -> Option<()> {
        let error = match i32::try_from(self.integer(at)?) {
            Ok(0) => return Some(()),
            Ok(_) => "ERR DB index is out of range",
            Err(_) => "ERR value is out of range, value must between -2147483648 and 2147483647",
        };
        self.reply.error(error);
        None
    }

    /// The expiry of a value that this command sets, which must be after the epoch.
    pub fn deadline(&mut self, time: Time, number: usize) -> Option<UnixMs> {
        let number = self.integer(number)?;
        let at = if number > 0 { time.resolve(number, self.now) } else { None };
        if at.is_none() {
            self.invalid_time();
        }
        at
    }

    pub fn invalid_time(&mut self) {
        self.error_in_command("invalid expire time in");
    }

    pub fn wrong_arity(&mut self) {
        self.error_in_command("wrong number of arguments for");
    }

    fn error_in_command(&mut self, what: &str) {
        let name = self.args[0].to_ascii_lowercase();
        self.reply.error_quoting(&format!("ERR {what} '"), &name, "' command");
    }

    /// The result of storing a value.
    pub fn stored<T>(&mut self, result: Result<T, OutOfMemory>) -> Option<T> {
        if result.is_err() {
            self.reply.error(OUT_OF_MEMORY);
        }
        result.ok()
    }
}

/// Whether an argument is this option, in any case.
pub fn is(argument: &[u8], name: &str) -> bool {
    argument.eq_ignore_ascii_case(name.as_bytes())
}
