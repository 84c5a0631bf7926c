//! What the page heap knows of a page: a word about the run that it begins or ends, and links.
//!
//! Written under the page heap's lock. The word of a block that is in use changes for nobody but who
//! has the block, so that one may read it without.

use super::lane::Kind;
use crate::prim::PageRange;
use crate::prim::pack::Field;
use crate::prim::sync::plain::{AtomicU64, Ordering};
use crate::prim::units::index;
use crate::sys::SysError;
use crate::sys::memory::LazySlice;

const LEN: Field = Field::lowest(32);
const KIND: Field = LEN.then(8);
const MARK: Field = KIND.then(2);
/// Whether the program has the block, where that is watched.
const LIVE: Field = MARK.then(1);

/// What a page is to its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Nothing,
    FirstOfFree,
    /// Of a run that has more than one.
    LastOfFree,
    FirstOfBlock,
}

const NEXT: Field = Field::lowest(32);
const PREVIOUS: Field = NEXT.then(32);

/// No page.
pub(super) const NONE: u64 = NEXT.max();

/// A run of free pages, or of a block's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) range: PageRange,
    pub(super) kind: Kind,
}

/// Two words for each page.
#[derive(Debug)]
pub(super) struct Nodes(LazySlice<[AtomicU64; 2]>);

impl Nodes {
    /// Of the last pages of the largest reserve some cannot be numbered. The heap does without them.
    pub(super) fn new(pages: usize) -> Result<Self, SysError> {
        Ok(Self(LazySlice::new(pages)?))
    }

    /// Pages that there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What `page` is to its run, and the run, as it would be if the page were its first.
    pub(super) fn get(&self, page: usize) -> (Mark, Run) {
        let word = self.0.get(page).map_or(0, |node| node[0].load(Ordering::Relaxed));
        let mark = match MARK.get(word) {
            0 => Mark::Nothing,
            1 => Mark::FirstOfFree,
            2 => Mark::LastOfFree,
            _ => Mark::FirstOfBlock,
        };
        let range = PageRange::new(page, page + index(LEN.get(word)));
        #[expect(clippy::cast_possible_truncation, reason = "as wide as the field")]
        let kind = Kind::from_raw(KIND.get(word) as u8);
        (mark, Run { range, kind })
    }

    /// Notes what `page` is to `run`.
    pub(super) fn set(&self, page: usize, mark: Mark, run: Run) {
        let word = LEN.set(MARK.set(0, mark as u64), run.range.pages() as u64);
        self.0[page][0].store(KIND.set(word, u64::from(run.kind.raw())), Ordering::Relaxed);
    }

    /// Notes that `page` neither begins nor ends a run.
    pub(super) fn clear(&self, page: usize) {
        self.0[page][0].store(0, Ordering::Relaxed);
    }

    /// The runs before and behind in a list: next, previous.
    pub(super) fn links(&self, page: usize) -> (u64, u64) {
        let links = self.0[page][1].load(Ordering::Relaxed);
        (NEXT.get(links), PREVIOUS.get(links))
    }

    pub(super) fn set_links(&self, page: usize, next: u64, previous: u64) {
        let links = PREVIOUS.set(NEXT.set(0, next), previous);
        self.0[page][1].store(links, Ordering::Relaxed);
    }

    /// Notes that a program has got the block that begins with `page`, or given it back; false if
    /// that cannot be.
    pub(super) fn watch_block(&self, page: usize, live: bool) -> bool {
        if self.block_at(page).is_none() {
            return false;
        }
        let word = &self.0[page][0];
        let seen = word.load(Ordering::Relaxed);
        word.store(LIVE.set(seen, live.into()), Ordering::Relaxed);
        LIVE.get(seen) != u64::from(live)
    }

    /// Whether the program has the block that begins with `page`, where that is watched.
    pub(super) fn is_live(&self, page: usize) -> bool {
        LIVE.get(self.0[page][0].load(Ordering::Relaxed)) == 1
    }

    /// The block that begins with `page`.
    pub(super) fn block_at(&self, page: usize) -> Option<Run> {
        let (mark, run) = self.get(page);
        (mark == Mark::FirstOfBlock).then_some(run)
    }
}
