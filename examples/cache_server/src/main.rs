//! A cache that speaks Redis' protocol and whose idle values sleep compressed.

mod keyspace;

fn main() {}
