//! What each page of the arena belongs to. Readers need no lock.

use super::boundary::Boundaries;
use super::classes::{CHUNK_PAGES, CLASSES, MAX_CHUNKS};
use super::lane::Lane;
use crate::prim::pack::Field;
use crate::prim::sync::plain::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use crate::prim::{PageIndex, PageRange};
use crate::sys::SysError;
use crate::sys::memory::LazySlice;

/// The number of bins: one for each class of each lane.
pub(super) const BINS: usize = CLASSES * Lane::COUNT;

const BIN: Field = Field::lowest(8);
/// How many chunks of the span lie before this one.
const CHUNK: Field = BIN.then(3);
const IN_SPAN: Field = CHUNK.then(1);

const _: () = assert!(BINS <= 1 << 8 && MAX_CHUNKS <= 1 << 3 && IN_SPAN.end() <= u16::BITS);

/// The bin of the span that a chunk belongs to, and the chunk's place in the span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u16);

impl Tag {
    #[expect(clippy::cast_possible_truncation, reason = "twelve bits")]
    fn new(bin: usize, chunk: usize) -> Self {
        Self(CHUNK.set(BIN.set(IN_SPAN.set(0, 1), bin as u64), chunk as u64) as u16)
    }

    #[inline]
    pub(super) const fn bin(self) -> usize {
        BIN.get_u32(self.0 as u64) as usize
    }

    /// The span's first chunk, if this is the tag of `chunk`.
    pub(super) const fn first(self, chunk: usize) -> usize {
        chunk - CHUNK.get_u32(self.0 as u64) as usize
    }
}

/// What each chunk and each page belongs to.
#[derive(Debug)]
pub(crate) struct BlockMap {
    /// Per chunk, its [`Tag`]; zero outside spans.
    tags: LazySlice<AtomicU16>,
    /// Per chunk that begins a span, the span's place in its bin.
    places: LazySlice<AtomicU32>,
    /// A bit per page: set for the last page of a large block.
    last: LazySlice<AtomicU64>,
    boundaries: Boundaries,
}

impl BlockMap {
    pub(crate) fn new(pages: usize) -> Result<Self, SysError> {
        Ok(Self {
            tags: LazySlice::new(pages.div_ceil(CHUNK_PAGES))?,
            places: LazySlice::new(pages.div_ceil(CHUNK_PAGES))?,
            last: LazySlice::new(pages.div_ceil(64))?,
            boundaries: Boundaries::new(pages)?,
        })
    }

    pub(super) fn boundaries(&self) -> &Boundaries {
        &self.boundaries
    }

    /// The tag of `chunk`; `None` outside spans.
    #[inline]
    pub(super) fn tag(&self, chunk: usize) -> Option<Tag> {
        // The owner of a block got it after the tag was set, so it sees the tag.
        let tag = self.tags.get(chunk)?.load(Ordering::Relaxed);
        (tag != 0).then_some(Tag(tag))
    }

    /// Tags the chunks of a span whose place in its bin is `place`.
    pub(super) fn set_span(&self, pages: PageRange, bin: usize, place: u32) {
        let first = pages.start.0 / CHUNK_PAGES;
        self.places[first].store(place, Ordering::Relaxed);
        for chunk in first..pages.end.0 / CHUNK_PAGES {
            self.tags[chunk].store(Tag::new(bin, chunk - first).0, Ordering::Relaxed);
        }
    }

    /// The place, in its bin, of the span that begins with `chunk`.
    pub(super) fn place(&self, chunk: usize) -> u32 {
        self.places[chunk].load(Ordering::Relaxed)
    }

    /// Clears the tags of a span's chunks.
    pub(super) fn clear_span(&self, pages: PageRange) {
        for chunk in pages.start.0 / CHUNK_PAGES..pages.end.0 / CHUNK_PAGES {
            self.tags[chunk].store(0, Ordering::Relaxed);
        }
    }

    fn bit(page: PageIndex) -> (usize, u64) {
        (page.0 / 64, 1 << (page.0 % 64))
    }

    pub(super) fn set_last(&self, block: PageRange) {
        let (word, bit) = Self::bit(PageIndex(block.end.0 - 1));
        self.last[word].fetch_or(bit, Ordering::Relaxed);
    }

    pub(super) fn clear_last(&self, block: PageRange) {
        let (word, bit) = Self::bit(PageIndex(block.end.0 - 1));
        self.last[word].fetch_and(!bit, Ordering::Relaxed);
    }

    /// The pages from `page` to the end of the large block that it lies in, at most `most` of them;
    /// only `page` if it lies in a span. A fault may call this.
    pub(crate) fn rest_of_block(&self, page: PageIndex, most: usize) -> PageRange {
        if self.tag(page.0 / CHUNK_PAGES).is_some() {
            return page.only();
        }
        let end = self.boundaries.len().min(page.0 + most);
        let mut at = page.0;
        while at < end {
            let bits = self.last[at / 64].load(Ordering::Relaxed) >> (at % 64);
            if bits != 0 {
                return PageRange::new(page.0, end.min(at + bits.trailing_zeros() as usize + 1));
            }
            at = (at / 64 + 1) * 64;
        }
        PageRange::new(page.0, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_name_their_span_and_pages_the_end_of_their_block() {
        let map = BlockMap::new(1024).unwrap();
        map.set_span(PageRange::new(32, 96), 239, 7);
        for chunk in 2..6 {
            let tag = map.tag(chunk).unwrap();
            assert_eq!((tag.bin(), tag.first(chunk)), (239, 2));
            assert_eq!(map.place(tag.first(chunk)), 7);
        }
        assert_eq!((map.tag(1), map.tag(6), map.tag(1 << 40)), (None, None, None));
        map.set_last(PageRange::new(100, 300));
        assert_eq!(map.rest_of_block(PageIndex(120), 1000), PageRange::new(120, 300));
        assert_eq!(map.rest_of_block(PageIndex(299), 1000), PageRange::new(299, 300));
        assert_eq!(map.rest_of_block(PageIndex(120), 10), PageRange::new(120, 130));
        assert_eq!(map.rest_of_block(PageIndex(40), 10), PageRange::new(40, 41));
        assert_eq!(map.rest_of_block(PageIndex(1020), 10), PageRange::new(1020, 1024));
        map.clear_span(PageRange::new(32, 96));
        assert_eq!(map.tag(3), None);
    }
}
