//! Widely used clients: the `redis` crate, redis-cli and redis-benchmark; and a proxy before several servers.

#![allow(missing_docs)]

mod benchmark;
mod cli;
#[path = "../common/mod.rs"]
mod common;
mod library;
mod proxy;
