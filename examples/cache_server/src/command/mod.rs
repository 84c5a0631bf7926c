//! The commands: what they are called, how many arguments they take, and who carries them out.

mod admin;
mod args;
mod client;
mod config;
mod connection;
mod dispatch;
mod glob;
mod help;
mod info;
mod keys;
mod kill;
mod memory;
pub mod row;
mod strings;
pub mod table;
mod tables;
#[cfg(test)]
mod transcript;

pub use crate::server::Server;
pub use crate::session::Session;
pub use dispatch::{Carried, Request, carry_out};
pub use row::{Command, Group};

use crate::keyspace::UnixMs;
use crate::reply::Reply;

/// One command of one client.
#[derive(Debug)]
pub struct Call<'a> {
    pub server: &'a Server,
    pub session: &'a mut Session,
    /// The command's name and its arguments, as many as the table of commands allows.
    pub args: &'a [&'a [u8]],
    pub reply: Reply<'a>,
    /// When it began. The same for the whole command, as in Redis.
    pub now: UnixMs,
}

/// What carries a command out, and writes exactly one reply.
pub type Handler = fn(&mut Call<'_>);

/// The commands of each file.
static ALL: [(Group, &[Command]); 17] = [
    (Group::Connection, connection::COMMANDS),
    (Group::Connection, client::COMMANDS),
    (Group::Server, admin::COMMANDS),
    (Group::Server, config::COMMANDS),
    (Group::Server, info::COMMANDS),
    (Group::Server, memory::COMMANDS),
    (Group::Server, tables::COMMANDS),
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
