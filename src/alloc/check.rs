//! A check of the invariants of the whole heap.

use super::map::BINS;
use super::{Heap, lock};
use std::collections::HashSet;

impl Heap {
    /// Checks that all structures agree. No other thread may allocate or free meanwhile.
    pub(crate) fn check(&self) -> Result<(), String> {
        let caches = lock(&self.caches);
        let mut in_spans = 0;
        for bin in &self.bins {
            in_spans += lock(bin).check(&self.map)?;
        }
        let mut seen = HashSet::new();
        for cache in caches.iter() {
            for bin in 0..BINS {
                let held = self.bin(bin);
                for slot in cache.slots(bin) {
                    if !held.is_used(slot, &self.map) || !seen.insert(slot) {
                        return Err(format!(
                            "a thread caches {slot:#x}, which is free or in two caches"
                        ));
                    }
                }
            }
        }
        for block in caches.iter().flat_map(|cache| cache.blocks()) {
            let known = self.map.boundaries().block_at(block.start.0).map(|known| known.range);
            if known != Some(block) || !seen.insert(block.start.offset() as u64) {
                return Err(format!(
                    "a thread caches {block:?}, which is {known:?} or in two caches"
                ));
            }
        }
        let pages = self.pages();
        pages.check()?;
        let (blocks, free) = (pages.blocks().1, pages.free());
        if in_spans + blocks + free != self.total {
            let total = self.total;
            return Err(format!(
                "{in_spans} pages in spans, {blocks} in blocks, {free} free of {total}"
            ));
        }
        Ok(())
    }
}
