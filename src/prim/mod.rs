//! Units, bit fields and the one switch for atomics. No kernel, no `unsafe`, no other room.

pub(crate) mod pack;
pub(crate) mod sync;
pub(crate) mod units;

pub(crate) use units::{Handle, PAGE_SIZE, PageIndex, PageRange, Tick};
