//! Front page to be written.
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation, clippy::cast_sign_loss))]

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
