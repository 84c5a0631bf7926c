//! The one place that chooses between the standard library's atomics and loom's.
//!
//! Everything that takes part in the protocol of the page word imports its atomics from here, so
//! that the same code can be run under the model checker.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
