//! Pages that are to stay in memory, and how often that was asked for.
//!
//! A count per page beside the page's word, because it has to outlive what the word says: a page that
//! is freed and handed out again while somebody's pin on it lasts is a mistake of theirs, and must
//! not undo another's pin.
//!
//! # How a pin and an eviction meet
//!
//! Who pins raises the count first and looks at the word then; the evictor claims the word first
//! and looks at the count then. With sequentially consistent accesses one of them sees the other:
//! the pinner takes the page back, or the evictor gives it up. Watching pages works alike: the
//! evictor looks at the counts, watches what is not pinned, and looks again.

use crate::prim::sync::{AtomicU32, AtomicUsize, Ordering, fence};
use crate::prim::{PageIndex, PageRange};
use crate::sys::SysError;
use crate::sys::memory::LazySlice;

/// How often each page is pinned.
#[derive(Debug)]
pub(crate) struct Pins {
    counts: LazySlice<AtomicU32>,
    /// Pins there are, each as often as it has pages: nobody looks at the counts while it is zero.
    total: AtomicUsize,
}

impl Pins {
    pub(super) fn new(pages: usize) -> Result<Self, SysError> {
        Ok(Self { counts: LazySlice::new(pages)?, total: AtomicUsize::new(0) })
    }

    /// Pins each page of `range` once more.
    pub(crate) fn add(&self, range: PageRange) {
        self.total.fetch_add(range.pages(), Ordering::SeqCst);
        for page in range.iter() {
            self.counts[page.0].fetch_add(1, Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
    }

    /// Takes back what [`add`](Self::add) did.
    pub(crate) fn remove(&self, range: PageRange) {
        for page in range.iter() {
            self.counts[page.0].fetch_sub(1, Ordering::SeqCst);
        }
        self.total.fetch_sub(range.pages(), Ordering::SeqCst);
    }

    /// Whether anything is pinned at all.
    pub(crate) fn any(&self) -> bool {
        fence(Ordering::SeqCst);
        self.total.load(Ordering::SeqCst) > 0
    }

    /// Whether the page is pinned.
    pub(crate) fn has(&self, page: PageIndex) -> bool {
        self.any() && self.counts[page.0].load(Ordering::SeqCst) > 0
    }

    /// Pins there are, each as often as it has pages.
    pub(crate) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Calls `visit` with each run of pages in `range` that are all pinned, or all not pinned, in
    /// order.
    pub(crate) fn runs<E>(
        &self,
        range: PageRange,
        mut visit: impl FnMut(PageRange, bool) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.any() {
            return visit(range, false);
        }
        let mut left = range;
        while !left.is_empty() {
            let pinned = self.has(left.start);
            let end = left.iter().find(|page| self.has(*page) != pinned).unwrap_or(left.end);
            visit(PageRange { start: left.start, end }, pinned)?;
            left.start = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_counted_page_by_page() {
        let pins = Pins::new(1000).unwrap();
        assert!(!pins.any());
        pins.add(PageRange::new(10, 20));
        pins.add(PageRange::new(15, 30));
        assert_eq!(pins.total(), 25);
        pins.remove(PageRange::new(10, 20));
        assert!(!pins.has(PageIndex(14)) && pins.has(PageIndex(15)) && !pins.has(PageIndex(30)));
        let mut runs = Vec::new();
        let all = PageRange::new(0, 100);
        let mut note = |run: PageRange, pinned| {
            runs.push((run.start.0, run.end.0, pinned));
            Ok::<_, ()>(())
        };
        pins.runs(all, &mut note).unwrap();
        assert_eq!(runs, [(0, 15, false), (15, 30, true), (30, 100, false)]);
        pins.remove(PageRange::new(15, 30));
        assert_eq!((pins.any(), pins.total()), (false, 0));
    }
}
