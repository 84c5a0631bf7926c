//! Units, bit fields, the one switch for atomics, and whose work a thread does. No kernel, no
//! `unsafe`, no other room.

pub(crate) mod geometry;
pub(crate) mod in_library;
pub(crate) mod pack;
#[cfg(all(thermocline_sim, not(loom)))]
pub(crate) mod schedule;
pub(crate) mod sync;
pub(crate) mod units;

pub(crate) use geometry::{BATCH_PAGES, PAGE_SIZE, REGION_PAGES};
pub(crate) use units::{Handle, PageIndex, PageRange, Tick};
