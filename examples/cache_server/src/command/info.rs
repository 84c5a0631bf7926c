//! `INFO`: the server's state, section by section.

mod sections;
mod thermocline;

use super::Call;
use super::row::{Command, LOADING, NO_KEY};
use crate::server::Server;
use sections as s;
use std::fmt::Write;

pub const COMMANDS: &[Command] =
    &[Command::new("info", -1, LOADING, NO_KEY, "Describes the server's state", info)];

type Section = fn(&Server, &mut String);

/// The sections' names, and whether `INFO` without arguments shows them.
const SECTIONS: [(&str, bool, Section); 11] = [
    ("Server", true, s::server),
    ("Clients", true, s::clients),
    ("Memory", true, s::memory),
    ("Persistence", true, s::persistence),
    ("Stats", true, s::stats),
    ("Replication", true, s::replication),
    ("CPU", true, s::cpu),
    ("Commandstats", false, s::commandstats),
    ("Cluster", true, s::cluster),
    ("Keyspace", true, s::keyspace),
    ("Thermocline", true, thermocline::thermocline),
];

fn info(call: &mut Call<'_>) {
    let asked: Vec<String> =
        call.args[1..].iter().map(|arg| String::from_utf8_lossy(arg).to_lowercase()).collect();
    let all = asked.iter().any(|name| matches!(name.as_str(), "all" | "everything"));
    let default = asked.is_empty() || asked.iter().any(|name| name == "default");
    let mut text = String::new();
    for (name, by_default, section) in SECTIONS {
        if all || default && by_default || asked.contains(&name.to_lowercase()) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let _ = write!(text, "# {name}\r\n");
            section(call.server, &mut text);
        }
    }
    call.reply.verbatim(*b"txt", text.as_bytes());
}

/// Appends `name:value` lines.
macro_rules! lines {
    ($out:expr, $($name:ident: $value:expr,)*) => {{
        use std::fmt::Write;
        // Writing to a string cannot fail.
        $(let _ = write!($out, "{}:{}\r\n", stringify!($name), $value);)*
    }};
}
use lines;
