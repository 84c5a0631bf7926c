//! Shared by the server's tests: starting servers and parsing replies.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod process;
pub mod resp;
pub mod skip;
