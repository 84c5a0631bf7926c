//! Commands about the connection.

use super::dispatch::wrong_arity;
use super::{Call, Command, Flags, Group};

const ANYTIME: Flags = Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE).union(Flags::FAST);

pub const COMMANDS: &[Command] = &[
    Command::new("echo", 2, echo)
        .flags(Flags::LOADING.union(Flags::STALE).union(Flags::FAST))
        .group(Group::Connection)
        .summary("Echo the given string"),
    Command::new("ping", -1, ping)
        .flags(Flags::FAST)
        .group(Group::Connection)
        .summary("Ping the server"),
    Command::new("quit", -1, quit)
        .flags(ANYTIME.union(Flags::NO_AUTH))
        .group(Group::Connection)
        .summary("Close the connection"),
];

fn ping(call: &mut Call<'_>) {
    match call.args {
        [_] => call.reply.simple("PONG"),
        [_, message] => call.reply.bulk(message),
        _ => call.reply.error(&wrong_arity("ping")),
    }
}

fn echo(call: &mut Call<'_>) {
    call.reply.bulk(call.args[1]);
}

fn quit(call: &mut Call<'_>) {
    call.reply.ok();
    call.session.close = true;
}
