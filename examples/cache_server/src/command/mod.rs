//! The commands: what they are called, how many arguments they take, and who carries them out.

mod args;
mod glob;
mod keys;
mod row;
mod strings;
pub mod table;
#[cfg(test)]
mod transcript;

pub use table::{Command, Flags};

use crate::keyspace::{Keyspace, UnixMs};
use crate::reply::Reply;

/// What a command has to do with: everything that all connections share.
#[derive(Debug)]
pub struct Server {
    pub keyspace: Keyspace,
}

/// One command of one client.
#[derive(Debug)]
pub struct Call<'a> {
    pub server: &'a Server,
    /// The command's name and its arguments, as many as the table of commands allows.
    pub args: &'a [&'a [u8]],
    pub reply: Reply<'a>,
    /// When it began. The same for the whole command, as in Redis.
    pub now: UnixMs,
}

/// What carries a command out, and writes exactly one reply.
pub type Handler = fn(&mut Call<'_>);

/// The commands of each file.
const ALL: [&[Command]; 10] = [
    strings::get::COMMANDS,
    strings::lcs::COMMANDS,
    strings::number::COMMANDS,
    strings::range::COMMANDS,
    strings::set::COMMANDS,
    keys::presence::COMMANDS,
    keys::expiry::COMMANDS,
    keys::object::COMMANDS,
    keys::rename::COMMANDS,
    keys::scan::COMMANDS,
];
