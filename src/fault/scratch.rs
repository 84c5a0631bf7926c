//! Buffers for bringing pages back, made before the first fault and shared by whoever does it.
//!
//! A pool, because a thread that touches a page has nothing of its own to do it with, and perhaps
//! no stack to speak of. A buffer is only ever held by threads that no signal handler of the program
//! can interrupt: a handler that touched a page would wait for a buffer that its own thread holds.

use crate::prim::PAGE_SIZE;
use crate::prim::sync::{Mutex, thread};
use crate::store::Decompressor;
use crate::sys::cpu;
use crate::table::Word;
use crossbeam::utils::CachePadded;
use std::sync::TryLockError;

/// Pages that are brought back in one call at most.
pub(super) const RUN: usize = 16;

/// What a thread needs in order to bring pages back.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) decompressor: Decompressor,
    pub(super) bytes: Box<[u8]>,
    pub(super) words: Vec<Word>,
}

impl Scratch {
    fn new() -> Self {
        Self {
            decompressor: Decompressor::new(),
            bytes: vec![0; RUN * PAGE_SIZE].into(),
            words: Vec::with_capacity(RUN),
        }
    }
}

/// The buffers that there are: as many as processors, since nobody sleeps with one in his hands but
/// for want of memory.
#[derive(Debug)]
pub(super) struct Scratches(Box<[CachePadded<Mutex<Scratch>>]>);

impl Scratches {
    pub(super) fn new() -> Self {
        let count = cpu::count().clamp(2, 64);
        Self((0..count).map(|_| CachePadded::new(Mutex::new(Scratch::new()))).collect())
    }

    /// Runs `what` with a buffer. The calling thread must have its signals blocked.
    ///
    /// Taking a buffer waits for no lock: the ones that others hold are passed over, beginning with
    /// the one that is warm in this processor's cache.
    pub(super) fn with<T>(&self, what: impl FnOnce(&mut Scratch) -> T) -> T {
        let first = cpu::current();
        loop {
            for i in 0..self.0.len() {
                match self.0[(first + i) % self.0.len()].try_lock() {
                    Ok(mut scratch) => return what(&mut scratch),
                    // There is nothing in it that a panic could have spoilt.
                    Err(TryLockError::Poisoned(scratch)) => return what(&mut scratch.into_inner()),
                    Err(TryLockError::WouldBlock) => {}
                }
            }
            thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_threads_than_buffers_take_turns() {
        let scratches = Scratches::new();
        let threads = scratches.0.len() * 3;
        thread::scope(|scope| {
            for n in 0..threads {
                let scratches = &scratches;
                scope.spawn(move || {
                    for _ in 0..100 {
                        scratches.with(|scratch| {
                            scratch.bytes[0] = n as u8;
                            thread::yield_now();
                            assert_eq!(scratch.bytes[0], n as u8, "two had it at a time");
                        });
                    }
                });
            }
        });
    }
}
