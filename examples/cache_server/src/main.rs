//! A cache that speaks Redis' protocol and whose idle values sleep compressed.

#![allow(dead_code)]

mod command;
mod footprint;
mod keyspace;
mod reply;

fn main() {}
