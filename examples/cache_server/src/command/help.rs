//! The `HELP` subcommands of containers.

use super::Call;

/// Writes the reply to `HELP`: each line of `subcommands` names one, or, if indented, describes the last.
pub fn help(call: &mut Call<'_>, subcommands: &str) {
    let container = String::from_utf8_lossy(call.args[0]).to_uppercase();
    let first = format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    let lines = subcommands.lines().chain(["HELP", "    Print this help."]);
    call.reply.array(lines.clone().count() + 1);
    call.reply.simple(&first);
    lines.for_each(|line| call.reply.simple(line));
}
