//! Buffers for restoring pages, made before the first fault.
//!
//! A thread that serves itself inline is in a signal handler, where it cannot allocate. So it takes a buffer
//! from a pool. A thread that holds a buffer must have its signals blocked: a signal handler that touched a
//! page would wait for the buffer of its own thread.

use crate::prim::geometry::READAHEAD_PAGES;
use crate::prim::sync::{Mutex, thread};
use crate::prim::{PAGE_SIZE, PageIndex, PageRange};
use crate::store::{Decompressor, Store};
use crate::sys::cpu;
use crate::table::Word;
use crossbeam::utils::CachePadded;
use std::collections::VecDeque;
use std::sync::TryLockError;
use std::time::Duration;

/// A run of at most [`READAHEAD_PAGES`] pages that one thread owns: the word that each had before, and room
/// for the bytes of each.
///
/// A page has the same place in the run, among the words and among the bytes. So bytes stay where they were
/// decoded, even if the kernel gets only a part of the run.
#[derive(Debug)]
pub(super) struct Scratch {
    decompressor: Decompressor,
    start: PageIndex,
    words: VecDeque<Word>,
    bytes: Box<[u8]>,
}

impl Scratch {
    fn new() -> Self {
        Self {
            decompressor: Decompressor::new(),
            start: PageIndex(0),
            words: VecDeque::with_capacity(READAHEAD_PAGES),
            bytes: vec![0; READAHEAD_PAGES * PAGE_SIZE].into(),
        }
    }

    /// Drops the previous run, and begins an empty one at `start`.
    pub(super) fn begin(&mut self, start: PageIndex) {
        self.start = start;
        self.words.clear();
    }

    /// Adds the page above the run.
    pub(super) fn push_above(&mut self, word: Word) {
        debug_assert!(self.words.len() < READAHEAD_PAGES);
        self.words.push_back(word);
    }

    /// Adds the page below the run. No page of the run may be decoded yet.
    pub(super) fn push_below(&mut self, word: Word) {
        debug_assert!(self.words.len() < READAHEAD_PAGES);
        self.words.push_front(word);
        self.start.0 -= 1;
    }

    /// The pages of the run.
    pub(super) fn run(&self) -> PageRange {
        PageRange::new(self.start.0, self.start.0 + self.words.len())
    }

    /// The word that a page of the run had before this thread owned it.
    pub(super) fn word(&self, page: PageIndex) -> Word {
        self.words[page.0 - self.start.0]
    }

    /// The bytes of `pages`, a decoded part of the run.
    pub(super) fn bytes(&self, pages: PageRange) -> &[u8] {
        &self.bytes[(pages.start.0 - self.start.0) * PAGE_SIZE..][..pages.bytes()]
    }

    /// Decodes a page of the run. False if the store's copy of it is damaged.
    pub(super) fn decode(&mut self, page: PageIndex, store: &Store) -> bool {
        let handle = self.word(page).handle();
        let bytes = &mut self.bytes[(page.0 - self.start.0) * PAGE_SIZE..][..PAGE_SIZE];
        store.get(handle, tag(page), &mut self.decompressor, bytes).is_ok()
    }

    /// Whether the bytes of `pages` match the checksums in the store.
    pub(super) fn matches_store(&self, pages: PageRange, store: &Store) -> bool {
        let is_copy = |page: PageIndex| {
            store.is_copy(self.word(page).handle(), tag(page), self.bytes(page.only()))
        };
        pages.iter().all(is_copy)
    }
}

/// The page's number, which the store includes in the checksum.
fn tag(page: PageIndex) -> u64 {
    page.0 as u64
}

/// A scratch buffer for each processor (2 to 64). That is enough, because a thread that holds one rarely blocks:
/// while the kernel has no memory, or while the keeper makes a call for it.
#[derive(Debug)]
pub(super) struct ScratchPool(Box<[CachePadded<Mutex<Scratch>>]>);

impl ScratchPool {
    pub(super) fn new() -> Self {
        let count = cpu::count().clamp(2, 64);
        Self((0..count).map(|_| CachePadded::new(Mutex::new(Scratch::new()))).collect())
    }

    /// Runs `body` with a buffer. The calling thread must have its signals blocked.
    ///
    /// Tries the buffers in turn and skips those in use. Begins with the buffer that this processor's cache most
    /// probably holds.
    pub(super) fn with<T>(&self, body: impl FnOnce(&mut Scratch) -> T) -> T {
        /// Rounds after which the thread sleeps, so that it does not keep the holders, or the keeper that they
        /// wait for, off the processor. A holder is done in microseconds if it does not block.
        const ROUNDS: u32 = 32;
        const PAUSE: Duration = Duration::from_micros(50);
        let first = cpu::current();
        let mut round = 0;
        loop {
            for i in 0..self.0.len() {
                match self.0[(first + i) % self.0.len()].try_lock() {
                    Ok(mut scratch) => return body(&mut scratch),
                    // A panic cannot have spoilt the buffer: each run begins with an empty one.
                    Err(TryLockError::Poisoned(scratch)) => return body(&mut scratch.into_inner()),
                    Err(TryLockError::WouldBlock) => {}
                }
            }
            if round < ROUNDS {
                round += 1;
                thread::yield_now();
            } else {
                thread::sleep(PAUSE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_threads_than_buffers_take_turns() {
        let scratches = ScratchPool::new();
        let threads = scratches.0.len() * 3;
        thread::scope(|scope| {
            for n in 0..threads {
                let scratches = &scratches;
                scope.spawn(move || {
                    for _ in 0..100 {
                        scratches.with(|scratch| {
                            scratch.bytes[0] = n as u8;
                            thread::yield_now();
                            assert_eq!(scratch.bytes[0], n as u8, "two threads shared a buffer");
                        });
                    }
                });
            }
        });
    }

    #[test]
    fn nested_calls_find_every_buffer() {
        fn hold(scratches: &ScratchPool, held: usize) {
            if held == scratches.0.len() {
                return;
            }
            scratches.with(|scratch| {
                scratch.bytes[0] = held as u8;
                hold(scratches, held + 1);
                assert_eq!(scratch.bytes[0], held as u8, "one buffer was handed out twice");
            });
        }
        hold(&ScratchPool::new(), 0);
    }
}
