//! When the values on each page were last used.
//!
//! A page takes memory until the last of its values is gone. So the server evicts by the last use of the page,
//! not of the value, if compression does not keep to the memory limit.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

const PAGE: usize = 4096;

/// Four bytes for each page of the arena's addresses. The system provides memory only for the part that is
/// used.
#[derive(Debug)]
pub(super) struct Pages {
    /// The length is a power of two.
    used: Box<[AtomicU32]>,
}

impl Pages {
    /// For an arena with this number of bytes of address space.
    pub(super) fn new(reserve: usize) -> Self {
        let len = (reserve / PAGE).max(1).next_power_of_two();
        // SAFETY: zero bytes are a valid `AtomicU32`.
        Self { used: unsafe { Box::new_zeroed_slice(len).assume_init() } }
    }

    /// The addresses of an arena have no gaps, so that no two of its pages share a place.
    fn of(&self, address: usize) -> &AtomicU32 {
        &self.used[(address / PAGE) & (self.used.len() - 1)]
    }

    /// Records a use of the value at this address, in [ticks](super::heat) since the start.
    pub(super) fn record_use(&self, address: usize, tick: u32) {
        let page = self.of(address);
        if page.load(Relaxed) < tick {
            page.store(tick, Relaxed);
        }
    }

    /// The tick of the last use.
    pub(super) fn last_use(&self, address: usize) -> u32 {
        self.of(address).load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_remembers_the_last_use_of_its_values() {
        let pages = Pages::new(3 << 20);
        let start = 7 << 20;
        pages.record_use(start + 100, 5);
        pages.record_use(start + 4000, 3);
        pages.record_use(start + 4096, 9);
        assert_eq!([start, start + 4095, start + 8191].map(|at| pages.last_use(at)), [5, 5, 9]);
        assert_eq!(pages.last_use(start + 8192), 0);
        assert_eq!(pages.last_use(start + (3 << 20) - 1), 0);
    }
}
