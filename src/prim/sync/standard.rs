//! The program's: std's and crossbeam's.

pub(crate) use super::plain::Mutex;
pub(crate) use crossbeam::channel;
pub(crate) use std::sync::MutexGuard;
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use std::thread;
