//! The one place that chooses the atomics.
//!
//! Everything that takes part in the protocol of the page word imports its atomics from here, so
//! that a model checker's can take their place all at once.

pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
