//! `ensure` and `pin`: memory that is resident before it is touched, and stays resident.

#![allow(missing_docs, unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

mod dma;
mod ensure;
mod pin;
mod system_calls;

use common::pages::PAGE_BYTES;
use thermocline::{ArenaError, Stats};

const OUTSIDE: Result<(), ArenaError> = Err(ArenaError::OutsideArena);

fn bytes(pages: usize) -> u64 {
    pages as u64 * PAGE_BYTES
}

/// Whether the evictor took enough pages for some to be neighbours of pinned ones.
fn is_enough(stats: &Stats) -> bool {
    stats.evicted_pages > 500
}
