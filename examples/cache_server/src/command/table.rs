//! What commands there are.

use super::Handler;
use bitflags::bitflags;

bitflags! {
    /// What a command does, in the words of `COMMAND INFO`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Flags: u32 {
        const WRITE = 1;
        const READONLY = 1 << 1;
        /// Refused when there is no room.
        const DENYOOM = 1 << 2;
        const LOADING = 1 << 5;
        const STALE = 1 << 6;
        /// Takes a time that does not grow with keys and values.
        const FAST = 1 << 7;
        /// Looks at the whole values of its keys, which are brought back before it begins.
        const READS_VALUES = 1 << 9;
    }
}

/// Where a command's keys are among its arguments, the name being argument 0. `first` is 0 where
/// there are none; a negative `last` counts from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpec {
    pub first: usize,
    pub last: i32,
    pub step: usize,
}

/// What a command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Generic,
    Server,
    String,
}

/// A command, or a subcommand of one.
#[derive(Debug)]
pub struct Command {
    /// In lower case; of a subcommand without its container's.
    pub name: &'static str,
    /// Arguments with the name, or names; negative: at least so many.
    pub arity: i32,
    pub flags: Flags,
    pub keys: KeySpec,
    pub group: Group,
    /// The version of Redis that it came with.
    pub since: &'static str,
    pub summary: &'static str,
    pub handler: Handler,
    pub subcommands: &'static [Command],
}

impl Command {
    /// A command without keys and flags, about the server.
    pub const fn new(name: &'static str, arity: i32, handler: Handler) -> Self {
        Self {
            name,
            arity,
            flags: Flags::empty(),
            keys: KeySpec { first: 0, last: 0, step: 0 },
            group: Group::Server,
            since: "1.0.0",
            summary: "",
            handler,
            subcommands: &[],
        }
    }

    pub const fn flags(mut self, flags: Flags) -> Self {
        self.flags = flags;
        self
    }

    pub const fn keys(mut self, first: usize, last: i32, step: usize) -> Self {
        self.keys = KeySpec { first, last, step };
        self
    }

    pub const fn group(mut self, group: Group) -> Self {
        self.group = group;
        self
    }

    pub const fn since(mut self, version: &'static str) -> Self {
        self.since = version;
        self
    }

    pub const fn summary(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }

    pub const fn subcommands(mut self, subcommands: &'static [Command]) -> Self {
        self.subcommands = subcommands;
        self
    }

    pub fn takes(&self, arguments: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { arguments >= least } else { arguments == least }
    }
}
