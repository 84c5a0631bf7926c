//! The one place that chooses atomics, locks and the calls by which a thread gives way.
//!
//! Everything that takes part in the protocol of the page word imports them from here, so that a
//! scheduler of ours, which decides who goes on at each of them, or a model checker's can take their
//! place all at once.

#[cfg_attr(not(thermocline_sim), path = "sync/standard.rs")]
#[cfg_attr(all(thermocline_sim, not(loom)), path = "sync/scheduled.rs")]
#[cfg_attr(loom, path = "sync/checked.rs")]
mod chosen;
#[cfg(thermocline_tsan)]
mod visible;

/// Std's atomics and locks, for statistics, hints, and what has locks of its own: they take no part in the
/// protocol.
pub(crate) mod plain {
    pub(crate) use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

    #[cfg(thermocline_tsan)]
    pub(crate) use super::visible::Mutex;
    #[cfg(not(thermocline_tsan))]
    pub(crate) use std::sync::Mutex;
}

pub(crate) use chosen::*;
