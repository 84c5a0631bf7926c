//! How an arena is divided among several descriptors.
//!
//! One descriptor that many threads fault through is a bottleneck: they queue on its lock, and one
//! handler thread at a time reads from it. So neighbouring stripes of the arena belong to different
//! descriptors. An arena fills from its start. Stripes are short there (a region of 2 MiB). Further on they
//! are longer, sixteen stripes to each doubling of the distance, so that a terabyte is a few hundred mappings
//! and not a million.

use crate::prim::{PageRange, REGION_PAGES};

/// Pages in the shortest stripe. The length of every other stripe is a multiple of it.
pub(crate) const SHORTEST: usize = REGION_PAGES;

/// log2 of the stripes in a doubling.
const STEP_BITS: u32 = 4;

/// The stripes of an arena that has `descriptors` descriptors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stripes {
    descriptors: usize,
}

impl Stripes {
    pub(crate) const fn new(descriptors: usize) -> Self {
        Self { descriptors }
    }

    /// The leading part of `range` that lies in one stripe, and the descriptor it belongs to.
    pub(crate) fn first_part(self, range: PageRange) -> (usize, PageRange) {
        if self.descriptors == 1 {
            return (0, range);
        }
        let region = range.start.0 / SHORTEST;
        // One region long up to region 32, then twice as long with each doubling.
        let power = (region | 1 << STEP_BITS).ilog2() - STEP_BITS;
        let stripe = (region >> power) + ((power as usize) << STEP_BITS);
        let end = ((region >> power) + 1) << power;
        let part = PageRange::new(range.start.0, range.end.0.min(end * SHORTEST));
        (stripe % self.descriptors, part)
    }

    /// The parts of `range`, each in one stripe.
    pub(crate) fn parts(self, range: PageRange) -> impl Iterator<Item = (usize, PageRange)> {
        let mut left = range;
        std::iter::from_fn(move || {
            (!left.is_empty()).then(|| {
                let (descriptor, part) = self.first_part(left);
                left.start = part.end;
                (descriptor, part)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_cover_the_arena_alternate_descriptors_and_are_few() {
        let stripes = Stripes::new(3);
        let all = PageRange::new(0, 1 << 28);
        let mut end = 0;
        let mut last = 2;
        let mut count = 0;
        for (descriptor, part) in stripes.parts(all) {
            assert_eq!((part.start.0, descriptor), (end, (last + 1) % 3), "{part:?}");
            assert!(
                part.start.0.is_multiple_of(SHORTEST) && part.pages() <= SHORTEST.max(end / 16)
            );
            (end, last) = (part.end.0, descriptor);
            count += 1;
        }
        assert_eq!(end, all.end.0);
        assert!(count < 300, "{count} stripes of a terabyte");
        assert_eq!(stripes.first_part(PageRange::new(511, 600)), (0, PageRange::new(511, 512)));
    }

    #[test]
    fn one_descriptor_is_one_stripe() {
        let all = PageRange::new(5, 1 << 20);
        assert_eq!(Stripes::new(1).parts(all).collect::<Vec<_>>(), [(0, all)]);
    }
}
