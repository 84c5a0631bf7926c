//! The server from its clients' side: split and missing input, many clients, passwords, and the end.

mod clients;
mod commands;
mod full;
mod memory;
mod password;
mod protocol;
mod server;
mod stop;
mod transactions;
