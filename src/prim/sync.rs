//! The one place that chooses atomics, locks, and calls that park or yield a thread.
//!
//! All code that takes part in the protocol of the page word imports them from here. So the simulation's
//! scheduler, which chooses the next thread at each of them, or a model checker can replace all at once.

#[cfg_attr(not(thermocline_sim), path = "sync/standard.rs")]
#[cfg_attr(all(thermocline_sim, not(loom)), path = "sync/scheduled.rs")]
#[cfg_attr(loom, path = "sync/checked.rs")]
mod backend;
#[cfg(thermocline_tsan)]
mod visible;

/// Std's atomics and locks, for code outside the protocol: statistics, hints, and structures with their
/// own locks.
pub(crate) mod plain {
    pub(crate) use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

    #[cfg(thermocline_tsan)]
    pub(crate) use super::visible::Mutex;
    #[cfg(not(thermocline_tsan))]
    pub(crate) use std::sync::Mutex;
}

pub(crate) use backend::*;
