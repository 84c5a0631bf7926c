//! Size classes of small blocks: four to each power of two, so that at most a fifth is lost.

use crate::prim::PAGE_SIZE;
use core::alloc::Layout;

/// Pages in a span.
pub(super) const SPAN_PAGES: usize = 16;

const SPAN_BYTES: usize = SPAN_PAGES * PAGE_SIZE;

const SIZES: [usize; 32] = [
    16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024,
    1280, 1536, 1792, 2048, 2560, 3072, 3584, 4096, 5120, 6144, 7168, 8192,
];

/// How many classes there are.
pub(super) const CLASSES: usize = SIZES.len();

/// Bytes of a slot.
pub(super) fn size_of_class(class: usize) -> usize {
    SIZES[class]
}

/// Slots in a span.
pub(super) fn slots_of_class(class: usize) -> usize {
    SPAN_BYTES / SIZES[class]
}

/// The class whose slots fit `layout`, none if it takes pages of its own.
pub(super) fn class_of(layout: Layout) -> Option<usize> {
    if layout.size() > SIZES[CLASSES - 1] || layout.align() > PAGE_SIZE {
        return None;
    }
    let first = SIZES.partition_point(|&size| size < layout.size());
    // Slots lie at multiples of their size from a page boundary.
    (first..CLASSES).find(|&class| SIZES[class].is_multiple_of(layout.align()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_small_layout_has_a_slot_that_fits_and_is_aligned() {
        for size in 1..=8192 {
            for align in (0..=12).map(|shift| 1 << shift) {
                let class = class_of(Layout::from_size_align(size, align).unwrap()).unwrap();
                let slot = size_of_class(class);
                assert!(slot >= size && slot.is_multiple_of(align));
                assert!(align > 16 || slot <= (size + size / 4).max(size + 15), "{size}: {slot}");
            }
        }
        assert_eq!(class_of(Layout::from_size_align(8193, 1).unwrap()), None);
        assert_eq!(class_of(Layout::from_size_align(8, 8192).unwrap()), None);
    }
}
