//! Thread caches: how the heap creates them and takes their contents back.

use super::cache::{self, ThreadCache};
use super::classes::lane_of_bin;
use super::map::BINS;
use super::{Heap, lock};
use crate::prim::PageIndex;
use crate::prim::sync::plain::Ordering;
use std::sync::Arc;

impl Heap {
    pub(super) fn new_cache(&self) -> Option<Arc<ThreadCache>> {
        let seen = self.trim_requests.load(Ordering::Relaxed);
        let cache = ThreadCache::new(seen).ok().map(Arc::new)?;
        lock(&self.caches).push(Arc::clone(&cache));
        Some(cache)
    }

    /// Returns the `count` oldest slots of a magazine to the bin.
    pub(super) fn flush(&self, cache: &ThreadCache, bin: usize, count: usize) {
        self.give_slots(bin, cache.slots(bin).take(count));
        cache.drop_oldest(bin, count);
    }

    fn flush_all(&self, cache: &ThreadCache) {
        for bin in 0..BINS {
            let len = cache.len(bin);
            if len > 0 {
                self.flush(cache, bin, len);
            }
        }
        self.flush_blocks(cache);
        cache.reset();
    }

    /// Returns the large blocks of a cache to the page heap. The pager forgot most of their stored
    /// pages when they were freed, and forgets the rest when it releases them.
    fn flush_blocks(&self, cache: &ThreadCache) {
        while let Some(block) = cache.take_next_block() {
            self.pages().free_block(block.start);
        }
    }

    /// Returns the block at `page` to the page heap if this thread caches it.
    pub(super) fn flush_block_at(self: &Arc<Self>, page: PageIndex) -> Option<()> {
        let block = cache::with(self, |cache| cache.take_block_at(page))??;
        self.pages().free_block(block.start);
        Some(())
    }

    /// Flushes this thread's cache if [`trim`](Self::trim) was called since the last flush.
    pub(super) fn flush_if_trimmed(&self, cache: &ThreadCache) {
        let requests = self.trim_requests.load(Ordering::Relaxed);
        if cache.trim_requests_seen.swap(requests, Ordering::Relaxed) != requests {
            self.flush_all(cache);
        }
    }

    /// Takes over the contents of an ending thread's cache.
    pub(super) fn retire(&self, cache: &Arc<ThreadCache>) {
        if !self.generation.is_current() {
            return;
        }
        let mut spans = Vec::new();
        {
            // Under the lock, so that statistics count each slot once: the program may read them
            // before this thread gets here, though it has joined the thread.
            let mut caches = lock(&self.caches);
            for bin in 0..BINS {
                let mut emptied = Vec::new();
                self.bin(bin).give(cache.slots(bin), &self.map, &mut emptied);
                spans.extend(emptied.into_iter().map(|span| (lane_of_bin(bin), span)));
            }
            self.flush_blocks(cache);
            caches.retain(|other| !Arc::ptr_eq(other, cache));
        }
        for (lane, span) in spans {
            self.give_spans(lane, &[span]);
        }
    }
}
