//! Statistics of the heap, by lane and class.

use super::cache::ThreadCache;
use super::classes::{CLASSES, class};
use super::lane::Lane;
use super::map::BINS;
use super::{Heap, lock};
use crate::prim::PAGE_SIZE;
use std::fmt;
use std::sync::Arc;

/// Small blocks of one size in one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClassStats {
    /// Bytes of each block.
    pub size: u64,
    /// Blocks that the program has.
    pub live: u64,
    /// Free blocks in the caches of threads and bins.
    pub cached: u64,
    /// Spans, which consist of blocks of this size.
    pub spans: u64,
    /// Bytes in the spans.
    pub span_bytes: u64,
    /// Bytes in holes: whole pages of the spans without a byte of a live or cached block, whose memory the
    /// arena has not given back yet.
    pub hole_bytes: u64,
    /// Bytes in such pages whose memory the arena has given back.
    pub released_bytes: u64,
}

/// Small blocks of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LaneStats {
    /// The lane.
    pub lane: Lane,
    /// The sizes that have a span, the smallest first.
    pub classes: Vec<ClassStats>,
}

impl LaneStats {
    /// Bytes of small blocks that the program has, each rounded up to its size class.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.classes.iter().map(|class| class.live * class.size).sum()
    }

    /// Bytes in spans.
    #[must_use]
    pub fn span_bytes(&self) -> u64 {
        self.classes.iter().map(|class| class.span_bytes).sum()
    }

    /// Bytes in pages of spans, less the released ones.
    fn held_bytes(&self) -> u64 {
        let held = self.classes.iter().map(|class| class.span_bytes - class.released_bytes);
        held.sum()
    }
}

/// What an arena's allocator holds. If other threads allocate and free meanwhile, the figures may not
/// quite add up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct HeapStats {
    /// Small blocks, of 32 KiB at most.
    pub lanes: Vec<LaneStats>,
    /// The number of large blocks.
    pub large: u64,
    /// Bytes in large blocks, each rounded up to pages.
    pub large_bytes: u64,
    /// Bytes in free large blocks that threads cache.
    pub cached_large_bytes: u64,
    /// Bytes in free pages whose memory the arena has not given back yet.
    pub dirty_bytes: u64,
    /// Bytes of address space in free pages.
    pub free_bytes: u64,
}

impl HeapStats {
    /// Bytes that the program has, each block rounded up to its size class or to pages.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.lanes.iter().map(LaneStats::live_bytes).sum::<u64>() + self.large_bytes
    }

    /// Bytes in spans, large blocks and free pages, except pages whose memory the arena has given back: the
    /// most memory that the blocks could take if the arena evicted nothing.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.lanes.iter().map(LaneStats::held_bytes).sum::<u64>()
            + self.large_bytes
            + self.cached_large_bytes
            + self.dirty_bytes
    }

    /// Bytes in holes: see [`ClassStats::hole_bytes`].
    #[must_use]
    pub fn hole_bytes(&self) -> u64 {
        self.lanes.iter().flat_map(|lane| &lane.classes).map(|class| class.hole_bytes).sum()
    }

    /// The part of [`held_bytes`](Self::held_bytes) that the program does not have, from 0 to 1. At 0
    /// every byte is in use.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn fragmentation(&self) -> f64 {
        match self.held_bytes() {
            0 => 0.0,
            held => 1.0 - (self.live_bytes() as f64 / held as f64).min(1.0),
        }
    }
}

/// A line for each class that is in use, and one for large blocks and free pages.
impl fmt::Display for HeapStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "lane     size      live    cached  spans  span_bytes  hole_bytes  released_bytes"
        )?;
        for lane in &self.lanes {
            for class in &lane.classes {
                let ClassStats { size, live, cached, spans, .. } = class;
                let ClassStats { span_bytes, hole_bytes, released_bytes, .. } = class;
                let name = format!("{:?}", lane.lane).to_lowercase();
                writeln!(
                    f,
                    "{name:<7} {size:>5} {live:>9} {cached:>9} {spans:>6} {span_bytes:>11} \
                     {hole_bytes:>11} {released_bytes:>15}"
                )?;
            }
        }
        let percent = self.fragmentation() * 100.0;
        writeln!(
            f,
            "large blocks={} bytes={} cached={} dirty_bytes={} free_bytes={} fragmentation={percent:.1}%",
            self.large,
            self.large_bytes,
            self.cached_large_bytes,
            self.dirty_bytes,
            self.free_bytes
        )
    }
}

fn bytes(pages: usize) -> u64 {
    (pages * PAGE_SIZE) as u64
}

impl Heap {
    fn class_stats(&self, bin: usize, caches: &[Arc<ThreadCache>]) -> ClassStats {
        let mut held = self.bin(bin);
        let ((used, in_transfer), spans) = (held.used(), held.spans());
        let (hole_pages, released_pages) = (held.hole_pages(), held.released_pages());
        let class = class(bin % CLASSES);
        let in_magazines: usize = caches.iter().map(|cache| cache.len(bin)).sum();
        // Threads pop and push meanwhile, so the sum may be too large.
        let cached = (in_transfer + in_magazines).min(used);
        ClassStats {
            size: u64::from(class.size),
            live: (used - cached) as u64,
            cached: cached as u64,
            spans: spans as u64,
            span_bytes: bytes(spans * class.pages as usize),
            hole_bytes: bytes(hole_pages),
            released_bytes: bytes(released_pages),
        }
    }

    /// The number of large blocks that the program has, and pages in these and in cached ones.
    fn large(&self, caches: &[Arc<ThreadCache>]) -> (usize, usize, usize) {
        let cached = caches.iter().flat_map(|c| c.blocks()).map(|b| b.pages());
        let cached: Vec<usize> = cached.collect();
        let (blocks, pages) = self.pages().blocks();
        let cached_pages = cached.iter().sum::<usize>().min(pages);
        (blocks.saturating_sub(cached.len()), pages - cached_pages, cached_pages)
    }

    /// Collects the statistics.
    pub(crate) fn report(&self) -> HeapStats {
        let caches = lock(&self.caches);
        let of_lane = |lane: Lane| LaneStats {
            lane,
            classes: (0..CLASSES)
                .map(|class| self.class_stats(lane.index() * CLASSES + class, &caches))
                .filter(|class| class.spans > 0)
                .collect(),
        };
        let lanes = Lane::all().map(of_lane).collect();
        let (large, large_pages, cached_large_pages) = self.large(&caches);
        let pages = self.pages();
        HeapStats {
            lanes,
            large: large as u64,
            large_bytes: bytes(large_pages),
            cached_large_bytes: bytes(cached_large_pages),
            dirty_bytes: bytes(pages.dirty()),
            free_bytes: bytes(pages.free()),
        }
    }

    /// Bytes that the program has, rounded up as in [`HeapStats::live_bytes`], and bytes in holes.
    pub(crate) fn allocated_and_holes(&self) -> (u64, u64) {
        let caches = lock(&self.caches);
        let (mut allocated, mut holes) = (bytes(self.large(&caches).1), 0);
        for stats in (0..BINS).map(|bin| self.class_stats(bin, &caches)) {
            allocated += stats.live * stats.size;
            holes += stats.hole_bytes;
        }
        (allocated, holes)
    }

    /// Bytes that the program has, rounded up as in [`HeapStats::live_bytes`].
    #[cfg(any(test, fuzzing))]
    pub(crate) fn allocated(&self) -> usize {
        crate::prim::units::index(self.allocated_and_holes().0)
    }
}
