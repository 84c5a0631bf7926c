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
