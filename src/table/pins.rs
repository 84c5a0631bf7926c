//! The count of pins of each page.
//!
//! The count is not in the page word, because a release resets the word. A program that frees a pinned page
//! makes a mistake. That mistake must not end a later pin of the same page.
//!
//! # How a pin and an eviction meet
//!
//! A thread that pins raises the count, then reads the word. The evictor claims the page, then reads the
//! count. The accesses are sequentially consistent, so at least one of the two sees the other's write: the
//! pinning thread takes the page back, or the evictor gives it up. Arming follows the same rule: the evictor
//! reads the counts, arms the pages that are not pinned, reads the counts again, and unprotects pages pinned
//! meanwhile.

use crate::prim::sync::{AtomicU32, AtomicUsize, Ordering, fence};
use crate::prim::{PageIndex, PageRange};
use crate::sys::SysError;
use crate::sys::memory::LazySlice;

/// How often each page is pinned.
#[derive(Debug)]
pub(crate) struct Pins {
    counts: LazySlice<AtomicU32>,
    /// The sum of the counts. While it is zero, no thread reads the counts.
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

    /// Pins each page of `range` once less.
    pub(crate) fn remove(&self, range: PageRange) {
        for page in range.iter() {
            self.counts[page.0].fetch_sub(1, Ordering::SeqCst);
        }
        self.total.fetch_sub(range.pages(), Ordering::SeqCst);
    }

    /// Whether any page is pinned.
    pub(crate) fn any(&self) -> bool {
        fence(Ordering::SeqCst);
        self.total.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn has(&self, page: PageIndex) -> bool {
        self.any() && self.counts[page.0].load(Ordering::SeqCst) > 0
    }

    /// The sum of all pages' counts.
    pub(crate) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Calls `visit` in order with each run of `range` in which all pages are pinned, or none is.
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
    fn overlapping_pins_are_counted_per_page() {
        let pins = Pins::new(1000).unwrap();
        assert!(!pins.any());
        pins.add(PageRange::new(10, 20));
        pins.add(PageRange::new(15, 30));
        assert_eq!(pins.total(), 25);
        pins.remove(PageRange::new(10, 20));
        assert!(!pins.has(PageIndex(14)) && pins.has(PageIndex(15)) && !pins.has(PageIndex(30)));
        let mut runs = Vec::new();
        let all = PageRange::new(0, 100);
        let mut push = |run: PageRange, pinned| {
            runs.push((run.start.0, run.end.0, pinned));
            Ok::<_, ()>(())
        };
        pins.runs(all, &mut push).unwrap();
        assert_eq!(runs, [(0, 15, false), (15, 30, true), (30, 100, false)]);
        pins.remove(PageRange::new(15, 30));
        assert_eq!((pins.any(), pins.total()), (false, 0));
    }
}
