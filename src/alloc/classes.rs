//! Size classes: eight to each power of two, so that rounding up wastes less than an eighth.

use super::lane::Lane;
use crate::prim::PAGE_SIZE;
use core::alloc::Layout;

/// Pages in a chunk, the unit of span lengths and of tags: 64 KiB.
pub(super) const CHUNK_PAGES: usize = 16;

/// The number of classes: 8, 16, .. 128 bytes, then 144, 160, .. 256, and so on.
pub(super) const CLASSES: usize = 80;

/// Slot size of the largest class. Larger blocks are runs of pages.
pub(super) const LARGEST: usize = 32 << 10;

/// Chunks in the longest span.
pub(super) const MAX_CHUNKS: usize = 4;

/// The geometry of a size class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class {
    /// Bytes of a slot.
    pub(super) size: u32,
    /// Slots in a span.
    pub(super) slots: u32,
    /// Pages in a span.
    pub(super) pages: u32,
    /// 2^31 divided by an eighth of the size, rounded up: see [`Class::slot_at`].
    reciprocal: u32,
}

impl Class {
    const fn new(size: usize) -> Self {
        // The shortest span that holds four slots and wastes at most a fortieth of its bytes in the page
        // that the last slot ends in. Whole pages behind that one are never populated.
        let chunk = CHUNK_PAGES * PAGE_SIZE;
        let mut chunks = 1;
        while chunks * chunk / size < 4 || (chunks * chunk) % size % PAGE_SIZE > chunks * chunk / 40
        {
            chunks += 1;
            assert!(chunks <= MAX_CHUNKS);
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most 2^31")]
        let this = Self {
            size: size as u32,
            slots: (chunks * chunk / size) as u32,
            pages: (chunks * CHUNK_PAGES) as u32,
            reciprocal: (1u64 << 31).div_ceil(size as u64 / 8) as u32,
        };
        this
    }

    /// The slot that holds the byte at `offset` of a span: a division by multiplication.
    pub(super) const fn slot_at(self, offset: u32) -> u32 {
        // All sizes are multiples of eight, and spans are short enough for an exact result.
        #[expect(clippy::cast_possible_truncation, reason = "less than the offset")]
        let slot = (((offset >> 3) as u64 * self.reciprocal as u64) >> 31) as u32;
        slot
    }
}

const TABLE: [Class; CLASSES] = {
    let mut table = [Class::new(8); CLASSES];
    let mut class = 0;
    while class < CLASSES {
        let size = if class < 8 { (class + 1) << 3 } else { (class % 8 + 9) << (class / 8 + 2) };
        table[class] = Class::new(size);
        class += 1;
    }
    assert!(table[CLASSES - 1].size as usize == LARGEST);
    table
};

/// The geometry of class number `class`.
#[inline]
pub(super) const fn class(class: usize) -> Class {
    TABLE[class]
}

/// The smallest class whose slots fit `layout`; `None` if a block for it is large.
#[inline]
pub(super) const fn class_of(layout: Layout) -> Option<usize> {
    // Slots lie at multiples of their size from a page boundary. The smallest class that fits a multiple
    // of the alignment has a size that is a multiple of it: both the distance between classes and the
    // alignment are powers of two.
    let size = layout.pad_to_align().size();
    if size > LARGEST || size == 0 || layout.align() > PAGE_SIZE {
        return None;
    }
    let last = size - 1;
    // Bits below the three that distinguish the classes of one power of two.
    let shift = (last | 64).ilog2() - 3;
    Some(((shift - 3) * 8) as usize + (last >> shift))
}

/// The bin of small blocks for `layout` in `lane`; `None` if a block for it is large.
#[inline]
pub(crate) fn bin_of(lane: Lane, layout: Layout) -> Option<usize> {
    class_of(layout).map(|class| lane.index() * CLASSES + class)
}

pub(super) const fn lane_of_bin(bin: usize) -> Lane {
    Lane::ALL[bin / CLASSES]
}

/// Slot size of a bin.
#[inline]
pub(crate) fn size_of_bin(bin: usize) -> usize {
    class(bin % CLASSES).size as usize
}

/// The number of usable bytes of a block that was allocated for `layout`.
pub(crate) fn usable_size(layout: Layout) -> usize {
    match class_of(layout) {
        Some(number) => class(number).size as usize,
        None => layout.size().next_multiple_of(PAGE_SIZE),
    }
}

/// Whether a block for `old` may become one for `new` in place: in the same slot, or as a large block
/// with more or fewer pages.
pub(crate) fn same_place(old: Layout, new: Layout) -> bool {
    // The caller checks the alignment. A layout of size zero has no block.
    old.size() > 0 && new.size() > 0 && class_of(old) == class_of(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(size: usize, align: usize) -> Option<usize> {
        class_of(Layout::from_size_align(size, align).unwrap())
    }

    #[test]
    fn the_class_of_a_layout_is_the_smallest_that_fits_and_aligns_it() {
        for size in 1..=LARGEST {
            for align in (0..=12).map(|shift| 1usize << shift) {
                let padded = size.next_multiple_of(align);
                if padded > LARGEST {
                    assert_eq!(of(size, align), None);
                    continue;
                }
                let number = of(size, align).unwrap();
                let slot = class(number).size as usize;
                assert!(slot >= size && slot.is_multiple_of(align), "{size} {align}: {slot}");
                assert!(slot <= (padded + padded / 8).max(padded + 7), "{size} {align}: {slot}");
                assert!(number == 0 || (class(number - 1).size as usize) < padded);
            }
        }
        assert_eq!(of(LARGEST + 1, 1), None);
        assert_eq!(of(8, 8192), None);
    }

    #[test]
    fn slot_at_equals_division_for_every_byte_of_a_span() {
        for number in 0..CLASSES {
            let class = class(number);
            for byte in 0..class.pages * PAGE_SIZE as u32 {
                assert_eq!(class.slot_at(byte), byte / class.size, "{class:?} {byte}");
            }
            let bytes = class.pages as usize * PAGE_SIZE;
            assert!(class.slots >= 4 && class.slots as usize == bytes / class.size as usize);
            let waste = bytes % class.size as usize % PAGE_SIZE;
            assert!(waste <= bytes / 40, "{class:?} wastes {waste}");
        }
    }
}
