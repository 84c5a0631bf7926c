//! Sets of pages of a span.

use super::classes::{CHUNK_PAGES, MAX_CHUNKS};
use crate::prim::{PageIndex, PageRange};
use core::ops::{BitAnd, BitOrAssign, Range, Sub};

const _: () = assert!(MAX_CHUNKS * CHUNK_PAGES <= u64::BITS as usize);

/// A bit for each page of a span; the lowest bit is the span's first page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mask(u64);

impl Mask {
    pub(super) const NONE: Self = Self(0);

    /// The pages of `range`, counted from the span's first.
    pub(super) const fn of(range: &Range<usize>) -> Self {
        let len = range.end - range.start;
        if len == 0 { Self::NONE } else { Self(u64::MAX >> (64 - len) << range.start) }
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The last page plus one; zero for the empty set.
    pub(super) const fn end(self) -> usize {
        (u64::BITS - self.0.leading_zeros()) as usize
    }

    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        (0..self.end()).filter(move |page| self.0 >> page & 1 == 1)
    }
}

impl BitAnd for Mask {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOrAssign for Mask {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl Sub for Mask {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// A set of pages of the span that begins with page `first` of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageSet {
    pub(super) first: PageIndex,
    pub(super) mask: Mask,
}

impl PageSet {
    pub(super) const NONE: Self = Self { first: PageIndex(0), mask: Mask::NONE };

    pub(super) const fn is_empty(self) -> bool {
        self.mask.is_empty()
    }

    /// The maximal runs of neighbouring pages.
    pub(super) fn runs(self) -> impl Iterator<Item = PageRange> {
        let mut left = self.mask.0;
        core::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let start = left.trailing_zeros() as usize;
            let end = start + (left >> start).trailing_ones() as usize;
            left &= !Mask::of(&(start..end)).0;
            Some(PageRange::new(self.first.0 + start, self.first.0 + end))
        })
    }

    /// The pages of `run`, one of this set's runs.
    pub(super) fn mask_of(self, run: PageRange) -> Mask {
        Mask::of(&(run.start.0 - self.first.0..run.end.0 - self.first.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_hold_each_page_of_the_set_once() {
        let set = |mask| PageSet { first: PageIndex(100), mask: Mask(mask) };
        let runs = |mask| set(mask).runs().collect::<Vec<_>>();
        assert_eq!(runs(0), []);
        assert_eq!(runs(u64::MAX), [PageRange::new(100, 164)]);
        assert_eq!(runs(0b1101), [PageRange::new(100, 101), PageRange::new(102, 104)]);
        assert_eq!(runs(1 << 63 | 1), [PageRange::new(100, 101), PageRange::new(163, 164)]);
        let all = set(0b1101_1000).runs().fold(Mask::NONE, |mut all, run| {
            all |= set(0b1101_1000).mask_of(run);
            all
        });
        assert_eq!(all, Mask(0b1101_1000));
    }

    #[test]
    fn masks_are_sets() {
        assert_eq!(Mask::of(&(3..3)), Mask::NONE);
        assert_eq!(Mask::of(&(0..64)), Mask(u64::MAX));
        assert_eq!(Mask::of(&(1..4)), Mask(0b1110));
        assert_eq!(Mask(0b1110) & Mask(0b0111), Mask(0b0110));
        assert_eq!(Mask(0b1110) - Mask(0b0111), Mask(0b1000));
        assert_eq!((Mask(0b1010).count(), Mask(0b1010).end(), Mask::NONE.end()), (2, 4, 0));
        assert_eq!(Mask(0b1010).iter().collect::<Vec<_>>(), [1, 3]);
    }
}
