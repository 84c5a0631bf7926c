//! `COMMAND`: descriptions of the commands.

use super::help::help;
use super::row::{ANYTIME, Command, Group, LOADING, NO_KEY};
use super::table::{Entry, Flags, Found, table};
use super::{Call, glob};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::new("command", -1, LOADING, NO_KEY, "Describes all commands", all),
    Command::new("command|count", 2, LOADING, NO_KEY, "The number of commands", count),
    Command::new("command|docs", -2, LOADING, NO_KEY, "Documents commands", docs),
    Command::new("command|getkeys", -4, LOADING, NO_KEY, "The keys in a command", getkeys),
    Command::new("command|help", 2, LOADING, NO_KEY, "Help on commands about commands", command_help),
    Command::new("command|info", -2, LOADING, NO_KEY, "Describes some commands", info),
    Command::new("command|list", -2, ANYTIME, NO_KEY, "The names of the commands", list),
];

fn all(call: &mut Call<'_>) {
    let commands = table().commands();
    call.reply.array(commands.len());
    commands.iter().for_each(|entry| describe(call, entry));
}

fn count(call: &mut Call<'_>) {
    call.reply.integer(table().commands().len().try_into().unwrap_or(i64::MAX));
}

fn info(call: &mut Call<'_>) {
    let names = &call.args[2..];
    if names.is_empty() {
        return all(call);
    }
    call.reply.array(names.len());
    for name in names {
        match table().by_full_name(name) {
            Some(entry) => describe(call, entry),
            None => call.reply.null(),
        }
    }
}

fn describe(call: &mut Call<'_>, entry: &Entry) {
    let reply = &mut call.reply;
    let command = entry.command;
    reply.array(10);
    reply.bulk(entry.full_name().as_bytes());
    reply.integer(command.arity.into());
    let flags: Vec<String> =
        entry.flags.iter_names().map(|(name, _)| name.to_lowercase()).collect();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.simple(flag));
    for number in [command.first_key, command.last_key, command.key_step] {
        reply.integer(number.into());
    }
    let categories = categories(entry);
    reply.set(categories.len());
    categories.iter().for_each(|category| reply.simple(&format!("@{category}")));
    // No hints and no key specifications.
    reply.array(0);
    reply.array(0);
    call.reply.array(entry.subcommands().len());
    entry.subcommands().iter().for_each(|sub| describe(call, sub));
}

/// The categories of Redis' access control lists.
fn categories(entry: &Entry) -> Vec<&'static str> {
    let has = |flag| entry.flags.contains(flag);
    let fast = has(Flags::FAST);
    [
        ("keyspace", entry.group == Group::Generic),
        ("read", has(Flags::READONLY)),
        ("write", has(Flags::WRITE)),
        ("string", entry.group == Group::String),
        ("admin", has(Flags::ADMIN)),
        ("fast", fast),
        ("slow", !fast),
        ("dangerous", has(Flags::ADMIN)),
        ("connection", entry.group == Group::Connection),
        ("transaction", entry.group == Group::Transactions),
    ]
    .into_iter()
    .filter_map(|(category, is)| is.then_some(category))
    .collect()
}

fn docs(call: &mut Call<'_>) {
    let names = &call.args[2..];
    let entries: Vec<&Entry> = if names.is_empty() {
        table().commands().iter().collect()
    } else {
        names.iter().filter_map(|name| table().by_full_name(name)).collect()
    };
    document(call, &entries);
}

fn document(call: &mut Call<'_>, entries: &[&Entry]) {
    call.reply.map(entries.len());
    for entry in entries {
        call.reply.bulk(entry.full_name().as_bytes());
        let subcommands: Vec<&Entry> = entry.subcommands().iter().collect();
        call.reply.map(2 + usize::from(!subcommands.is_empty()));
        call.reply.bulk(b"summary");
        call.reply.bulk(entry.command.summary.as_bytes());
        call.reply.bulk(b"group");
        call.reply.bulk(entry.group.name().as_bytes());
        if !subcommands.is_empty() {
            call.reply.bulk(b"subcommands");
            document(call, &subcommands);
        }
    }
}

fn list(call: &mut Call<'_>) {
    let lower: Vec<Vec<u8>> = call.args[2..].iter().map(|a| a.to_ascii_lowercase()).collect();
    let lower: Vec<&[u8]> = lower.iter().map(Vec::as_slice).collect();
    let wanted = |entry: &&Entry| match lower.as_slice() {
        [_, b"pattern", pattern] => glob::matches(pattern, entry.full_name().as_bytes()),
        [_, b"aclcat", category] => categories(entry).iter().any(|c| c.as_bytes() == *category),
        [_, _, _] => false,
        _ => true,
    };
    match lower.as_slice() {
        [] | [b"filterby", b"module" | b"pattern" | b"aclcat", _] => {
            let names = table().all().filter(wanted).map(Entry::full_name);
            let names: Vec<_> = names.filter(|n| !lower.is_empty() || !n.contains('|')).collect();
            call.reply.array(names.len());
            names.iter().for_each(|name| call.reply.bulk(name.as_bytes()));
        }
        _ => call.reply.error("ERR syntax error"),
    }
}

fn getkeys(call: &mut Call<'_>) {
    let args = &call.args[2..];
    match table().find(args) {
        Found::Command(entry) if entry.command.first_key == 0 => {
            call.reply.error("ERR The command has no key arguments");
        }
        Found::Command(entry) if !entry.command.takes(args.len()) => {
            call.reply.error("ERR Invalid number of arguments specified for command");
        }
        Found::Command(entry) => {
            call.reply.array(entry.command.keys_in(args).count());
            entry.command.keys_in(args).for_each(|key| call.reply.bulk(key));
        }
        Found::NoCommand | Found::NoSubcommand => {
            call.reply.error("ERR Invalid command specified");
        }
    }
}

fn command_help(call: &mut Call<'_>) {
    help(
        call,
        "(no subcommand)
    All commands, and what is known about them.
COUNT
    How many commands there are.
DOCS [<command-name> ...]
    What these commands are for, or all.
GETKEYS <full-command>
    The keys in a command.
INFO [<command-name> ...]
    What is known about these commands, or all.
LIST [FILTERBY (MODULE <module>|ACLCAT <category>|PATTERN <pattern>)]
    The names of the commands.",
    );
}
