//! Small blocks: slots on their way between magazines and bins.

use super::cache::{self, ThreadCache};
use super::classes::{lane_of_bin, size_of_bin};
use super::lane::Lane;
use super::{Block, Heap};
use crate::prim::PageRange;
use crate::prim::units::index;
use std::sync::Arc;

impl Heap {
    pub(super) fn allocate_slot(self: &Arc<Self>, bin: usize) -> Option<Block> {
        let cached = cache::with(self, |cache| {
            self.flush_if_trimmed(cache);
            cache.pop(bin).or_else(|| self.refill(cache, bin))
        });
        let offset = match cached {
            Some(offset) => offset,
            // A thread that is about to end has no cache.
            None => self.take_slots(bin, 1, |_| ()),
        }?;
        Some(Block { offset: index(offset), size: size_of_bin(bin), clean: false })
    }

    fn refill(&self, cache: &ThreadCache, bin: usize) -> Option<u64> {
        cache.grow(bin);
        self.take_slots(bin, cache.batch(bin), |slot| {
            let pushed = cache.push(bin, slot);
            debug_assert!(pushed);
        })
    }

    /// Takes at most `most` slots of a bin: returns the first and calls `rest` with each other.
    fn take_slots(&self, bin: usize, most: usize, mut rest: impl FnMut(u64)) -> Option<u64> {
        let mut first = None;
        let fresh = {
            let mut held = self.bin(bin);
            let lane = lane_of_bin(bin);
            let span = |pages| self.pages().take_span(lane, pages).map(|taken| taken.range);
            let keep = |slot| match first {
                None => first = Some(slot),
                Some(_) => rest(slot),
            };
            held.take(most, &self.map, span, keep).1
        };
        if !fresh.runs().all(|run| self.pager.populate(run)) {
            self.give_slots(bin, first.take().into_iter());
        }
        first
    }

    pub(super) fn give_slots(&self, bin: usize, slots: impl ExactSizeIterator<Item = u64>) {
        let mut emptied = Vec::new();
        self.bin(bin).give(slots, &self.map, &mut emptied);
        if !emptied.is_empty() {
            self.give_spans(lane_of_bin(bin), &emptied);
            self.release_excess(self.pages());
        }
    }

    /// Returns the pages of removed spans to the page heap.
    pub(super) fn give_spans(&self, lane: Lane, spans: &[PageRange]) {
        for &span in spans {
            // Before the pages are free: their next owner must not lose its bytes to this call.
            self.pager.forget(span);
            self.pages().give_span(lane, span);
        }
    }

    pub(super) fn free_slot(self: &Arc<Self>, bin: usize, offset: u64) {
        let cached = cache::with(self, |cache| {
            self.flush_if_trimmed(cache);
            if !cache.push(bin, offset) {
                cache.grow(bin);
                if !cache.push(bin, offset) {
                    self.flush(cache, bin, cache.batch(bin));
                    let pushed = cache.push(bin, offset);
                    debug_assert!(pushed);
                }
            }
        });
        if cached.is_none() {
            self.give_slots(bin, [offset].into_iter());
        }
    }
}
