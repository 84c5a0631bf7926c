//! Size classes: eight to each power of two, so that less than an eighth is lost.

use crate::prim::PAGE_SIZE;
use core::alloc::Layout;

/// Pages in a chunk, the unit in which spans are cut and tagged: 64 KiB.
pub(super) const CHUNK_PAGES: usize = 16;

/// How many classes there are: 8, 16, .. 128 bytes, then 144, 160, .. 256, and so on.
pub(super) const CLASSES: usize = 80;

/// Bytes of the largest class. What is larger takes pages of its own.
pub(super) const LARGEST: usize = 32 << 10;

/// Chunks in the longest span.
pub(super) const MOST_CHUNKS: usize = 4;

/// What there is to know of a class.
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
        // The shortest span that holds four slots and has little behind the last that is populated
        // for nothing. Whole pages there never are.
        let chunk = CHUNK_PAGES * PAGE_SIZE;
        let mut chunks = 1;
        while chunks * chunk / size < 4 || (chunks * chunk) % size % PAGE_SIZE > chunks * chunk / 40
        {
            chunks += 1;
            assert!(chunks <= MOST_CHUNKS);
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

    /// The slot that holds the byte at `offset` of a span: a division without one.
    pub(super) const fn slot_at(self, offset: u32) -> u32 {
        // All sizes are multiples of eight. Spans are short enough for this to be exact.
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

/// What there is to know of `class`.
#[inline]
pub(super) const fn class(class: usize) -> Class {
    TABLE[class]
}

/// The class whose slots fit `layout`, none if it takes pages of its own.
#[inline]
pub(super) const fn class_of(layout: Layout) -> Option<usize> {
    // Slots lie at multiples of their size from a page boundary. A class whose size is at least a
    // multiple of the alignment, and the smallest such, has a size that is a multiple of it: both the
    // distance between classes and the alignment are powers of two.
    let size = layout.pad_to_align().size();
    if size > LARGEST || size == 0 || layout.align() > PAGE_SIZE {
        return None;
    }
    let last = size - 1;
    // Bits below the three that tell the classes of one power of two apart.
    let shift = (last | 64).ilog2() - 3;
    Some(((shift - 3) * 8) as usize + (last >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(size: usize, align: usize) -> Option<usize> {
        class_of(Layout::from_size_align(size, align).unwrap())
    }

    #[test]
    fn every_small_layout_has_a_slot_that_fits_and_is_aligned() {
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
    fn the_slot_of_every_byte_is_found_without_division() {
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
