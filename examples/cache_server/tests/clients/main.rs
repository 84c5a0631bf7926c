//! Widely used clients: the `redis` crate, redis-cli and redis-benchmark.

#![allow(missing_docs)]

mod benchmark;
mod cli;
#[path = "../common/mod.rs"]
mod common;
mod library;
