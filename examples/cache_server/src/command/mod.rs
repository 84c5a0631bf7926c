//! The commands: their names, their numbers of arguments, and their handlers.

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
mod transaction;
#[cfg(test)]
mod transcript;

pub use crate::server::Server;
pub use crate::session::Session;
#[cfg(test)]
pub use connection::REDIS_VERSION;
pub use dispatch::{Execution, Request, execute};
pub use row::{Command, Group};
pub use transaction::Transaction;

use crate::keyspace::UnixMs;
use crate::reply::Reply;
use crate::server::WorkerStats;

/// One command of one client.
#[derive(Debug)]
pub struct Call<'a> {
    pub server: &'a Server,
    pub session: &'a mut Session,
    pub stats: &'a WorkerStats,
    /// The command's name and its arguments, of an allowed number.
    pub args: &'a [&'a [u8]],
    pub reply: Reply<'a>,
    /// When the command began. As in Redis, the time does not change during a command.
    pub now: UnixMs,
}

/// Executes a command and writes exactly one reply.
pub type Handler = fn(&mut Call<'_>);

/// The commands of each file.
static ALL: [(Group, &[Command]); 18] = [
    (Group::Connection, connection::COMMANDS),
    (Group::Connection, client::COMMANDS),
    (Group::Server, admin::COMMANDS),
    (Group::Server, config::COMMANDS),
    (Group::Server, info::COMMANDS),
    (Group::Server, memory::COMMANDS),
    (Group::Server, tables::COMMANDS),
    (Group::Transactions, transaction::COMMANDS),
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
