//! What the tests of the server share: starting servers and taking replies apart.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod process;
pub mod resp;
pub mod skip;
