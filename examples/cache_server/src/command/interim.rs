//! GET and SET until the others come.
use super::{Call, Command, Flags, Group};
use crate::keyspace::{Expiry, NewExpiry};

pub const COMMANDS: &[Command] = &[
    Command::new("get", 2, get)
        .flags(Flags::READONLY.union(Flags::FAST).union(Flags::READS_VALUES))
        .keys(1, 1, 1)
        .group(Group::String)
        .summary("Get the value of a key"),
    Command::new("set", -3, set)
        .flags(Flags::WRITE.union(Flags::DENYOOM))
        .keys(1, 1, 1)
        .group(Group::String)
        .summary("Set the value of a key"),
];

fn get(call: &mut Call<'_>) {
    let mut keys = call.server.keyspace.keys(&call.args[1..2], call.now);
    match keys.get(call.args[1]) {
        Some(value) => call.reply.bulk(value),
        None => call.reply.null(),
    }
}

fn set(call: &mut Call<'_>) {
    let mut keys = call.server.keyspace.keys(&call.args[1..2], call.now);
    let _ = keys.set(call.args[1], call.args[2], NewExpiry::Set(Expiry::Never));
    call.reply.ok();
}
