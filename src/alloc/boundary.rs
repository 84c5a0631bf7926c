//! Boundary tags (Knuth, "The Art of Computer Programming", 1, section 2.5), kept outside the arena.
//!
//! The first and the last page of a free run have a tag, and the first page of a large block. The first
//! page of a free run has links too. Tags and links are written under the page heap's lock. The tag of
//! a block changes only on behalf of its owner, so the owner may read it without the lock.

use super::lane::Pool;
use crate::prim::PageRange;
use crate::prim::pack::Field;
use crate::prim::sync::plain::{AtomicU64, Ordering};
use crate::prim::units::index;
use crate::sys::SysError;
use crate::sys::memory::LazySlice;

const LEN: Field = Field::lowest(32);
const POOL: Field = LEN.then(8);
const BOUNDARY: Field = POOL.then(2);
/// Whether the program has the block; debug builds only.
const LIVE: Field = BOUNDARY.then(1);

/// Which boundary of a run lies at a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boundary {
    None,
    FreeStart,
    /// The last page of a free run of two pages or more.
    FreeEnd,
    BlockStart,
}

const NEXT: Field = Field::lowest(32);
const PREVIOUS: Field = NEXT.then(32);

/// No page.
pub(super) const NONE: u64 = NEXT.max();

/// A run of pages: free, or a large block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) range: PageRange,
    /// The pool that the pages are in, or go to when the block is freed.
    pub(super) pool: Pool,
}

/// A tag and a word of links for each page.
#[derive(Debug)]
pub(super) struct Boundaries(LazySlice<[AtomicU64; 2]>);

impl Boundaries {
    pub(super) fn new(pages: usize) -> Result<Self, SysError> {
        Ok(Self(LazySlice::new(pages)?))
    }

    /// How many pages there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The boundary at `page`, and its run; for [`Boundary::FreeEnd`] with the right length and pool, but
    /// as if it began at `page`.
    pub(super) fn get(&self, page: usize) -> (Boundary, Run) {
        let word = self.0.get(page).map_or(0, |words| words[0].load(Ordering::Relaxed));
        let boundary = match BOUNDARY.get(word) {
            0 => Boundary::None,
            1 => Boundary::FreeStart,
            2 => Boundary::FreeEnd,
            _ => Boundary::BlockStart,
        };
        let range = PageRange::new(page, page + index(LEN.get(word)));
        #[expect(clippy::cast_possible_truncation, reason = "as wide as the field")]
        let pool = Pool::from_raw(POOL.get(word) as u8);
        (boundary, Run { range, pool })
    }

    /// Sets the tag of `page`, a boundary of `run`.
    pub(super) fn set(&self, page: usize, boundary: Boundary, run: Run) {
        let word = LEN.set(BOUNDARY.set(0, boundary as u64), run.range.pages() as u64);
        self.0[page][0].store(POOL.set(word, u64::from(run.pool.raw())), Ordering::Relaxed);
    }

    /// Clears the tag of `page`.
    pub(super) fn clear(&self, page: usize) {
        self.0[page][0].store(0, Ordering::Relaxed);
    }

    /// The first pages of the next and the previous run in the list.
    pub(super) fn links(&self, page: usize) -> (u64, u64) {
        let links = self.0[page][1].load(Ordering::Relaxed);
        (NEXT.get(links), PREVIOUS.get(links))
    }

    pub(super) fn set_links(&self, page: usize, next: u64, previous: u64) {
        let links = PREVIOUS.set(NEXT.set(0, next), previous);
        self.0[page][1].store(links, Ordering::Relaxed);
    }

    /// Records that the program got the block at `page`, or gave it back; false if no block begins
    /// there, or if the record says so already.
    pub(super) fn watch_block(&self, page: usize, live: bool) -> bool {
        if self.block_at(page).is_none() {
            return false;
        }
        let word = &self.0[page][0];
        let seen = word.load(Ordering::Relaxed);
        word.store(LIVE.set(seen, live.into()), Ordering::Relaxed);
        LIVE.get(seen) != u64::from(live)
    }

    /// Whether the program has the block at `page`; debug builds only.
    pub(super) fn is_live(&self, page: usize) -> bool {
        LIVE.get(self.0[page][0].load(Ordering::Relaxed)) == 1
    }

    /// The block that begins with `page`.
    pub(super) fn block_at(&self, page: usize) -> Option<Run> {
        let (boundary, run) = self.get(page);
        (boundary == Boundary::BlockStart).then_some(run)
    }
}
