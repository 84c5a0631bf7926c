//! The table of commands.

use super::{Command, Group};
use bitflags::bitflags;
use std::sync::LazyLock;

bitflags! {
    /// A command's flags, as in `COMMAND INFO`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Flags: u32 {
        const WRITE = 1;
        const READONLY = 1 << 1;
        /// Refused if there is no memory.
        const DENYOOM = 1 << 2;
        const ADMIN = 1 << 3;
        const NOSCRIPT = 1 << 4;
        const LOADING = 1 << 5;
        const STALE = 1 << 6;
        /// Takes a time that does not grow with keys and values.
        const FAST = 1 << 7;
        /// Allowed without a password.
        const NO_AUTH = 1 << 8;
        /// Refused in a transaction.
        const NO_MULTI = 1 << 9;
        /// Without effect here: about scripts that take long, and the log of slow commands.
        const ALLOW_BUSY = 1 << 10;
        const SKIP_SLOWLOG = 1 << 11;
    }
}

impl Flags {
    fn of(words: &[&str]) -> Self {
        let flag = |word: &&str| {
            let flag = Self::from_name(&word.to_uppercase());
            flag.unwrap_or_else(|| panic!("{word} is no flag of a command"))
        };
        words.iter().map(flag).collect()
    }
}

/// A row of the table, with its index.
#[derive(Debug)]
pub struct Entry {
    pub command: &'static Command,
    pub flags: Flags,
    pub group: Group,
    /// From 0, without gaps.
    pub index: usize,
    subcommands: Vec<Entry>,
}

impl Entry {
    /// With its container: `client|list`.
    pub fn full_name(&self) -> &'static str {
        self.command.name
    }

    /// For a subcommand without its container.
    pub fn own_name(&self) -> &'static str {
        let name = self.command.name;
        name.split_once('|').map_or(name, |(_, own)| own)
    }

    pub fn subcommand(&self, name: &[u8]) -> Option<&Entry> {
        self.subcommands.iter().find(|e| name.eq_ignore_ascii_case(e.own_name().as_bytes()))
    }

    pub fn subcommands(&self) -> &[Entry] {
        &self.subcommands
    }
}

/// The command that a request names.
#[derive(Debug, Clone, Copy)]
pub enum Found {
    Command(&'static Entry),
    NoCommand,
    /// The container exists, the subcommand does not.
    NoSubcommand,
}

/// All commands, with an index by name.
#[derive(Debug)]
pub struct Table {
    entries: Vec<Entry>,
    /// A hash table with linear probing. Contains indices into `entries`.
    slots: [u8; SLOTS],
    len: usize,
}

const SLOTS: usize = 512;
const FREE: u8 = u8::MAX;

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::of(&super::ALL));

/// All commands.
pub fn table() -> &'static Table {
    &TABLE
}

impl Table {
    fn of(groups: &[(Group, &'static [Command])]) -> Self {
        let rows =
            groups.iter().flat_map(|&(group, rows)| rows.iter().map(move |row| (group, row)));
        let entry = |(index, (group, command)): (usize, (Group, &'static Command))| Entry {
            command,
            flags: Flags::of(command.flags),
            group,
            index,
            subcommands: Vec::new(),
        };
        let all = rows.enumerate().map(entry);
        let (subcommands, mut entries): (Vec<_>, Vec<_>) =
            all.partition(|entry| entry.command.name.contains('|'));
        let len = subcommands.len() + entries.len();
        for entry in subcommands {
            let container = entry.command.name.split('|').next();
            let container = entries.iter_mut().find(|e| Some(e.command.name) == container);
            container.expect("a subcommand's container is a command").subcommands.push(entry);
        }
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

    /// The command of a request, whose arguments are `args`, at least one.
    pub fn find(&'static self, args: &[&[u8]]) -> Found {
        let Some(entry) = self.by_name(args[0]) else { return Found::NoCommand };
        if entry.subcommands.is_empty() || args.len() == 1 {
            return Found::Command(entry);
        }
        entry.subcommand(args[1]).map_or(Found::NoSubcommand, Found::Command)
    }

    /// A command by its name, in any case.
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

    /// All commands and subcommands.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flat_map(|e| std::iter::once(e).chain(&e.subcommands))
    }

    /// The number of commands and subcommands.
    pub fn len(&self) -> usize {
        self.len
    }
}

/// A slot, which does not depend on the name's case.
fn hash(name: &[u8]) -> usize {
    // FNV-1a; names are short. Upper and lower case differ in bit 5 only.
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
            Found::Command(entry) => Some(entry.full_name()),
            Found::NoCommand | Found::NoSubcommand => None,
        }
    }

    #[test]
    fn every_command_is_found_in_any_case() {
        for entry in table().all() {
            let line = entry.full_name().replace('|', " ");
            assert_eq!(found(&line), Some(entry.full_name()));
            assert_eq!(found(&line.to_uppercase()), Some(entry.full_name()));
            let by_name = table().by_full_name(entry.full_name().as_bytes()).unwrap();
            assert!(std::ptr::eq(by_name, entry));
            assert_eq!(entry.full_name(), entry.full_name().to_lowercase());
            assert!(!entry.command.summary.is_empty(), "{line}");
        }
        assert_eq!((found("no"), found("client no"), found("")), (None, None, None));
    }

    #[test]
    fn entries_are_numbered_without_gaps() {
        let mut numbers: Vec<_> = table().all().map(|entry| entry.index).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..table().len()));
    }
}
