//! The commands: what they are called, how many arguments they take, and who carries them out.

mod args;
mod glob;
mod keys;
pub mod row;
mod strings;
#[cfg(test)]
mod transcript;

pub use row::{Command, Group};

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
static ALL: [(Group, &[Command]); 10] = [
    (Group::Generic, keys::expiry::COMMANDS),
    (Group::Generic, keys::object::COMMANDS),
    (Group::Generic, keys::presence::COMMANDS),
    (Group::Generic, keys::rename::COMMANDS),
    (Group::Generic, keys::scan::COMMANDS),
    (Group::String, strings::get::COMMANDS),
    (Group::String, strings::lcs::COMMANDS),
    (Group::String, strings::number::COMMANDS),
    (Group::String, strings::range::COMMANDS),
    (Group::String, strings::set::COMMANDS),
];
