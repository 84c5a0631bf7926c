//! What commands there are.

use super::Handler;
use bitflags::bitflags;
use std::sync::LazyLock;

bitflags! {
    /// What a command does, in the words of `COMMAND INFO`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Flags: u32 {
        const WRITE = 1;
        const READONLY = 1 << 1;
        /// Refused when there is no room.
        const DENYOOM = 1 << 2;
        const ADMIN = 1 << 3;
        const NOSCRIPT = 1 << 4;
        const LOADING = 1 << 5;
        const STALE = 1 << 6;
        /// Takes a time that does not grow with keys and values.
        const FAST = 1 << 7;
        /// Allowed without a password.
        const NO_AUTH = 1 << 8;
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
    Connection,
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
    /// Of a container, what is done when it stands alone.
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

    /// The keys among `args`, which are as many as the command [`takes`](Self::takes).
    pub fn keys_in<'a>(&self, args: &[&'a [u8]]) -> impl Iterator<Item = &'a [u8]> {
        let KeySpec { first, last, step } = self.keys;
        let end = match usize::try_from(last) {
            Ok(last) => last + 1,
            Err(_) => (args.len() + 1).saturating_sub(last.unsigned_abs() as usize),
        };
        let range = if first == 0 { 0..0 } else { first..end.min(args.len()) };
        args.get(range).unwrap_or_default().iter().step_by(step.max(1)).copied()
    }
}

/// A command's place in the table.
#[derive(Debug)]
pub struct Entry {
    pub command: &'static Command,
    /// With its container's: `client|list`.
    pub full_name: String,
    /// From 0; entries of the table are numbered without gaps.
    pub index: usize,
    subcommands: Vec<Entry>,
}

impl Entry {
    fn subcommand(&self, name: &[u8]) -> Option<&Entry> {
        self.subcommands.iter().find(|e| name.eq_ignore_ascii_case(e.command.name.as_bytes()))
    }

    pub fn subcommands(&self) -> &[Entry] {
        &self.subcommands
    }
}

/// What a request's name means.
#[derive(Debug, Clone, Copy)]
pub enum Found {
    Command(&'static Entry),
    NoCommand,
    /// The container is there.
    NoSubcommand,
}

/// All commands, by name.
#[derive(Debug)]
pub struct Table {
    entries: Vec<Entry>,
    /// By hash, with linear probing. Places in `entries`.
    slots: [u8; SLOTS],
    len: usize,
}

const SLOTS: usize = 512;
const FREE: u8 = u8::MAX;

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::of(&super::ALL));

/// All commands that there are.
pub fn table() -> &'static Table {
    &TABLE
}

impl Table {
    fn of(commands: &[&'static [Command]]) -> Self {
        let mut len = 0;
        let mut number = || {
            len += 1;
            len - 1
        };
        let entries: Vec<Entry> = commands
            .iter()
            .flat_map(|of_file| of_file.iter())
            .map(|command| {
                let sub = |sub: &'static Command, index| Entry {
                    command: sub,
                    full_name: format!("{}|{}", command.name, sub.name),
                    index,
                    subcommands: Vec::new(),
                };
                Entry {
                    command,
                    full_name: command.name.to_owned(),
                    index: number(),
                    subcommands: command.subcommands.iter().map(|c| sub(c, number())).collect(),
                }
            })
            .collect();
        assert!(entries.len() < usize::from(FREE).min(SLOTS / 2), "the table has room");
        let mut slots = [FREE; SLOTS];
        for (place, entry) in entries.iter().enumerate() {
            let mut slot = hash(entry.command.name.as_bytes());
            while slots[slot] != FREE {
                slot = (slot + 1) % SLOTS;
            }
            slots[slot] = u8::try_from(place).expect("fewer than 255");
        }
        Self { entries, slots, len }
    }

    /// What a request is about, whose arguments are `args`, one at least.
    pub fn find(&'static self, args: &[&[u8]]) -> Found {
        let Some(entry) = self.by_name(args[0]) else { return Found::NoCommand };
        if entry.subcommands.is_empty() || args.len() == 1 {
            return Found::Command(entry);
        }
        entry.subcommand(args[1]).map_or(Found::NoSubcommand, Found::Command)
    }

    /// A command by its name, in whatever case.
    pub fn by_name(&'static self, name: &[u8]) -> Option<&'static Entry> {
        let mut slot = hash(name);
        loop {
            let entry = self.entries.get(usize::from(self.slots[slot]))?;
            if name.eq_ignore_ascii_case(entry.command.name.as_bytes()) {
                return Some(entry);
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// A command by its name, or a subcommand by `container|name`.
    pub fn by_full_name(&'static self, name: &[u8]) -> Option<&'static Entry> {
        match memchr::memchr(b'|', name) {
            Some(bar) => self.by_name(&name[..bar])?.subcommand(&name[bar + 1..]),
            None => self.by_name(name),
        }
    }

    pub fn commands(&self) -> &[Entry] {
        &self.entries
    }

    /// Commands and subcommands.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flat_map(|e| std::iter::once(e).chain(&e.subcommands))
    }

    /// How many commands and subcommands there are.
    pub fn len(&self) -> usize {
        self.len
    }
}

/// A slot, the same for a name in any case.
fn hash(name: &[u8]) -> usize {
    // FNV-1a; names are short. Bit 5 is all that upper and lower case differ by.
    let of_bytes = |hash: u32, byte: &u8| (hash ^ u32::from(byte | 0x20)).wrapping_mul(0x0100_0193);
    let hash = name.iter().take(12).fold(0x811c_9dc5, of_bytes);
    (hash ^ hash >> 16) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Option<&'static str> {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        match table().find(&args) {
            Found::Command(entry) => Some(&entry.full_name),
            Found::NoCommand | Found::NoSubcommand => None,
        }
    }

    #[test]
    fn every_command_is_found_in_any_case() {
        for entry in table().all() {
            let line = entry.full_name.replace('|', " ");
            assert_eq!(found(&line), Some(&*entry.full_name));
            assert_eq!(found(&line.to_uppercase()), Some(&*entry.full_name));
            let found = table().by_full_name(entry.full_name.as_bytes()).unwrap();
            assert!(std::ptr::eq(found, entry));
            assert_eq!(entry.command.name, entry.command.name.to_lowercase());
            assert!(!entry.command.summary.is_empty(), "{line}");
        }
        assert_eq!((found("no"), found("client no"), found("")), (None, None, None));
    }

    #[test]
    fn entries_are_numbered_without_gaps() {
        assert!(table().all().map(|entry| entry.index).eq(0..table().len()));
    }

    #[test]
    fn keys_are_where_the_command_has_them() {
        fn nothing(_: &mut super::super::Call<'_>) {}
        let keys = |command: Command, args: &[&'static str]| -> Vec<&[u8]> {
            let args: Vec<&[u8]> = args.iter().map(|a| a.as_bytes()).collect();
            command.keys_in(&args).collect()
        };
        let command = || Command::new("c", -1, nothing);
        assert_eq!(keys(command(), &["c", "a"]), [b""; 0]);
        assert_eq!(keys(command().keys(1, 1, 1), &["c", "a", "b"]), [b"a"]);
        assert_eq!(keys(command().keys(1, -1, 1), &["c", "a", "b"]), [b"a", b"b"]);
        assert_eq!(keys(command().keys(1, -1, 2), &["c", "a", "1", "b", "2"]), [b"a", b"b"]);
        assert_eq!(keys(command().keys(2, 2, 1), &["c", "a"]), [b""; 0]);
    }
}
