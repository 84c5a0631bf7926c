//! Units, bit fields, the choice of atomics, and the flag of threads inside the library. Contains no
//! system calls and no `unsafe`, and imports no other top-level module.

pub(crate) mod geometry;
pub(crate) mod in_library;
pub(crate) mod pack;
#[cfg(all(thermocline_sim, not(loom)))]
pub(crate) mod schedule;
pub(crate) mod sync;
pub(crate) mod units;

pub(crate) use geometry::{BATCH_PAGES, PAGE_SIZE, REGION_PAGES};
pub(crate) use units::{Handle, PageIndex, PageRange, Tick};
