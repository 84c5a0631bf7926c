//! The server as its clients see it: what comes in pieces or not at all, many of them at a time,
//! passwords, and the end.

mod clients;
mod commands;
mod full;
mod memory;
mod password;
mod protocol;
mod server;
mod stop;
