//! Rows of the table of commands, each on one line: since which version of Redis there is such a
//! command, its name, how many arguments it takes, what it does, where its keys are, what it is for,
//! and who carries it out.

use super::Handler;
use super::table::{Command, Flags, Group, KeySpec};

pub const READ: Flags = Flags::READONLY;
pub const READ_FAST: Flags = READ.union(Flags::FAST);
pub const WRITE: Flags = Flags::WRITE;
pub const WRITE_FAST: Flags = WRITE.union(Flags::FAST);
/// May need more memory.
pub const STORE: Flags = WRITE.union(Flags::DENYOOM);
pub const STORE_FAST: Flags = STORE.union(Flags::FAST);

/// Looks at values.
pub const GET: Flags = READ.union(Flags::READS_VALUES);
pub const GET_FAST: Flags = READ_FAST.union(Flags::READS_VALUES);
/// Looks at a value and may change when it expires, or remove it.
pub const TAKE_FAST: Flags = WRITE_FAST.union(Flags::READS_VALUES);
/// Looks at a value and stores another.
pub const UPDATE_FAST: Flags = STORE_FAST.union(Flags::READS_VALUES);

pub const NO_KEY: KeySpec = KeySpec { first: 0, last: 0, step: 0 };
pub const ONE_KEY: KeySpec = KeySpec { first: 1, last: 1, step: 1 };
pub const TWO_KEYS: KeySpec = KeySpec { first: 1, last: 2, step: 1 };
pub const KEYS: KeySpec = KeySpec { first: 1, last: -1, step: 1 };
pub const KEYS_AND_VALUES: KeySpec = KeySpec { first: 1, last: -1, step: 2 };
/// That of a subcommand.
pub const SECOND: KeySpec = KeySpec { first: 2, last: 2, step: 1 };

/// A command on values.
pub const fn string(
    since: &'static str,
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: KeySpec,
    summary: &'static str,
    handler: Handler,
) -> Command {
    generic(since, name, arity, flags, keys, summary, handler).group(Group::String)
}

/// A command on keys.
pub const fn generic(
    since: &'static str,
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: KeySpec,
    summary: &'static str,
    handler: Handler,
) -> Command {
    Command::new(name, arity, handler)
        .since(since)
        .flags(flags)
        .keys(keys.first, keys.last, keys.step)
        .group(Group::Generic)
        .summary(summary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::ALL;
    use crate::command::transcript::Redis;

    /// As `COMMAND INFO` begins.
    fn info(name: &str, command: &Command) -> String {
        let flags = command.flags - Flags::READS_VALUES;
        let flags: Vec<String> =
            flags.iter_names().map(|(flag, _)| format!("+{}\r\n", flag.to_lowercase())).collect();
        let KeySpec { first, last, step } = command.keys;
        format!(
            "*1\r\n*10\r\n${}\r\n{name}\r\n:{}\r\n*{}\r\n{}:{first}\r\n:{last}\r\n:{step}\r\n",
            name.len(),
            command.arity,
            flags.len(),
            flags.concat(),
        )
    }

    #[test]
    fn rows_are_as_in_redis() {
        let Some(mut redis) = Redis::start() else { return };
        let mut check = |name: &str, command: &Command| {
            let words = ["COMMAND", "INFO", name].map(|word| word.as_bytes().to_vec());
            let theirs = redis.say(&words);
            assert!(theirs.starts_with(&info(name, command)), "{name}: {theirs}");
        };
        for command in ALL.iter().copied().flatten() {
            check(command.name, command);
            for subcommand in command.subcommands {
                check(&format!("{}|{}", command.name, subcommand.name), subcommand);
            }
        }
    }
}
