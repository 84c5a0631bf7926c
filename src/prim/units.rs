//! Pages, runs of pages, ticks and handles: a type for each, so that the compiler tells them apart.

use super::geometry::{PAGE_SHIFT, PAGE_SIZE};
use core::fmt;

/// A count or an index as `usize`, which has 64 bits.
#[inline]
pub(crate) const fn index(n: u64) -> usize {
    const { assert!(usize::BITS == 64, "thermocline needs 64-bit addresses") };
    #[expect(clippy::cast_possible_truncation, reason = "64 bits both")]
    let n = n as usize;
    n
}

/// A page of an arena, counted from the arena's first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PageIndex(pub(crate) usize);

impl PageIndex {
    /// The page that holds byte `offset` of the arena.
    #[inline]
    pub(crate) const fn containing(offset: usize) -> Self {
        Self(offset >> PAGE_SHIFT)
    }

    /// The offset of the page's first byte from the arena's start.
    #[inline]
    pub(crate) const fn offset(self) -> usize {
        self.0 << PAGE_SHIFT
    }

    /// The range of this page alone.
    pub(crate) const fn only(self) -> PageRange {
        PageRange { start: self, end: Self(self.0 + 1) }
    }
}

impl fmt::Debug for PageIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {}", self.0)
    }
}

/// A range of neighbouring pages. `end` is the first page after it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageRange {
    pub(crate) start: PageIndex,
    pub(crate) end: PageIndex,
}

impl PageRange {
    /// The pages from `start` up to, not including, `end`.
    pub(crate) const fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end);
        Self { start: PageIndex(start), end: PageIndex(end) }
    }

    /// The pages that hold at least one byte of `[offset, offset + len)`.
    pub(crate) const fn touching(offset: usize, len: usize) -> Self {
        if len == 0 {
            let at = offset >> PAGE_SHIFT;
            return Self::new(at, at);
        }
        Self::new(offset >> PAGE_SHIFT, ((offset + len - 1) >> PAGE_SHIFT) + 1)
    }

    /// The pages all of whose bytes lie in `[offset, offset + len)`.
    pub(crate) const fn within(offset: usize, len: usize) -> Self {
        let start = offset.div_ceil(PAGE_SIZE);
        let end = (offset + len) >> PAGE_SHIFT;
        Self::new(start, if end < start { start } else { end })
    }

    /// How many pages.
    pub(crate) const fn pages(self) -> usize {
        self.end.0 - self.start.0
    }

    /// How many bytes.
    pub(crate) const fn bytes(self) -> usize {
        self.pages() << PAGE_SHIFT
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.start.0 == self.end.0
    }

    /// The part that lies in `other` too.
    pub(crate) fn intersection(self, other: Self) -> Self {
        let start = self.start.0.max(other.start.0);
        Self::new(start, self.end.0.min(other.end.0).max(start))
    }

    /// Each page in turn.
    /// The same start, and `pages` pages at most.
    pub(crate) fn first_pages(self, pages: usize) -> Self {
        Self { start: self.start, end: PageIndex(self.end.0.min(self.start.0 + pages)) }
    }

    pub(crate) fn iter(self) -> impl DoubleEndedIterator<Item = PageIndex> + ExactSizeIterator {
        (self.start.0..self.end.0).map(PageIndex)
    }

    /// The range in pieces of at most `pages` pages.
    pub(crate) fn chunks(self, pages: usize) -> impl Iterator<Item = Self> {
        debug_assert!(pages > 0);
        (self.start.0..self.end.0)
            .step_by(pages)
            .map(move |start| Self::new(start, start.saturating_add(pages).min(self.end.0)))
    }
}

impl fmt::Debug for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pages {}..{}", self.start.0, self.end.0)
    }
}

/// A point in an arena's time, counted in quanta of its age clock, modulo 2^[`Tick::BITS`].
///
/// Only differences have a meaning. The clock wraps around: a page that was idle for all of its 2^[`Tick::BITS`]
/// ticks seems young again. Its eviction is then late, and nothing else happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Tick(u32);

impl Tick {
    /// Bits of a tick: twelve days at one tick a second.
    pub(crate) const BITS: u32 = 20;
    /// The largest age.
    pub(crate) const MAX_AGE: u32 = (1 << Self::BITS) - 1;

    pub(crate) const fn new(ticks: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "masked before: the clock turns over")]
        let turned = (ticks & Self::MAX_AGE as u64) as u32;
        Self(turned)
    }

    pub(crate) const fn raw(self) -> u32 {
        self.0
    }

    /// Ticks from `self` to `now`.
    pub(crate) const fn age_at(self, now: Self) -> u32 {
        now.0.wrapping_sub(self.0) & Self::MAX_AGE
    }

    /// The tick `ticks` after this one.
    pub(crate) const fn after(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks) & Self::MAX_AGE)
    }
}

/// Where the store keeps a page's bytes. Only the store reads the bits, of which there are
/// [`Handle::BITS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle(u64);

impl Handle {
    /// Bits of a handle.
    pub(crate) const BITS: u32 = 40;

    pub(crate) const fn from_raw(raw: u64) -> Self {
        debug_assert!(raw >> Self::BITS == 0);
        Self(raw)
    }

    pub(crate) const fn raw(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_range_has_pages_that_it_touches_and_pages_within_it() {
        assert_eq!(PageRange::touching(0, 1), PageRange::new(0, 1));
        assert_eq!(PageRange::touching(4095, 2), PageRange::new(0, 2));
        assert!(PageRange::touching(5000, 0).is_empty());
        assert_eq!(PageRange::within(1, 3 * PAGE_SIZE), PageRange::new(1, 3));
        assert!(PageRange::within(1, PAGE_SIZE).is_empty());
        assert!(PageRange::within(1, 10).is_empty());
        assert_eq!(PageRange::within(0, PAGE_SIZE), PageRange::new(0, 1));
    }

    #[test]
    fn chunks_cover_the_range_once() {
        let chunks: Vec<_> = PageRange::new(3, 10).chunks(3).collect();
        assert_eq!(chunks, [PageRange::new(3, 6), PageRange::new(6, 9), PageRange::new(9, 10)]);
        assert_eq!(PageRange::new(4, 4).chunks(3).count(), 0);
    }

    #[test]
    fn age_is_right_when_ticks_turn_over() {
        let before = Tick::new(u64::from(Tick::MAX_AGE));
        assert_eq!(before.age_at(before.after(3)), 3);
        assert_eq!(before.after(1).raw(), 0);
    }
}
