//! Front page to be written.
#![allow(missing_docs)]

mod alloc;
mod arena;
mod evict;
mod fault;
mod policy;
mod prim;
mod stats;
mod store;
mod sys;
mod table;
mod track;

#[cfg(test)]
extern crate self as thermocline;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;

pub use arena::{
    Advice, AllocError, Arena, ArenaError, ArenaHandle, BuildError, Builder, Swapping,
};
pub use evict::Evicted;
pub use stats::{LatencyHistogram, Stats};
pub use sys::{Capability, CapabilityStatus, DescriptorRoute, Probe, SysError, probe};
pub use track::Tracker;
