//! Values, in the simplest way.

use super::Call;
use super::row::{Command, ONE_KEY, READ_FAST, STORE};
use crate::keyspace::{Expiry, NewExpiry};

pub const COMMANDS: &[Command] = &[
    Command::new("get", 2, READ_FAST, ONE_KEY, "Get the value of a key", get),
    Command::new("set", -3, STORE, ONE_KEY, "Set the value of a key", set),
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
    match keys.set(call.args[1], call.args[2], NewExpiry::Set(Expiry::Never)) {
        Ok(()) => call.reply.ok(),
        Err(_) => call.reply.error("OOM command not allowed when used memory > 'maxmemory'."),
    }
}
