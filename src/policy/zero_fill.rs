//! How many pages to populate at a first touch.

use crate::prim::geometry::REGION_PAGES;
use crate::prim::sync::plain::{AtomicU64, Ordering};
use crate::prim::units::index;
use crate::prim::{PageIndex, PageRange};

/// Chooses the pages to populate at a first touch: windows that double while first touches come in ascending
/// order, one page otherwise.
///
/// All faults share it without a lock. A race makes a window too small, and does no other harm.
#[derive(Debug, Default)]
pub(crate) struct ZeroFillWindow {
    /// The end of the last window.
    next: AtomicU64,
    window: AtomicU64,
}

/// Pages in the largest window: one page table.
const LARGEST_WINDOW: u64 = REGION_PAGES as u64;

impl ZeroFillWindow {
    /// The pages to populate when a thread touches `page`. `rest(most)` is the part of the block from `page`
    /// on, `most` pages at most.
    pub(crate) fn window(
        &self,
        page: PageIndex,
        rest: impl FnOnce(usize) -> PageRange,
    ) -> PageRange {
        let sequential = self.next.load(Ordering::Relaxed) == page.0 as u64;
        let before = self.window.load(Ordering::Relaxed);
        let window = if sequential { (before * 2).clamp(2, LARGEST_WINDOW) } else { 1 };
        // The largest windows end with a region, so that the next ones are whole regions: huge pages, if the memory
        // has them.
        let to_boundary = REGION_PAGES - page.0 % REGION_PAGES;
        let pages = if window == LARGEST_WINDOW { to_boundary } else { index(window) };
        let range = if sequential { rest(pages) } else { page.only() };
        self.window.store(window, Ordering::Relaxed);
        self.next.store(range.end.0 as u64, Ordering::Relaxed);
        range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_along_a_stream_and_end_with_it() {
        let window = ZeroFillWindow::default();
        let mut at = 100;
        let mut sizes = Vec::new();
        for _ in 0..12 {
            let range = window.window(PageIndex(at), |most| PageRange::new(at, at + most));
            assert_eq!(range.start.0, at);
            sizes.push(range.pages());
            at = range.end.0;
        }
        // The first window of the largest size ends at page 1024.
        assert_eq!(sizes, [1, 2, 4, 8, 16, 32, 64, 128, 256, 413, 512, 512]);
        assert_eq!(window.window(PageIndex(9), |_| unreachable!()).pages(), 1);
        assert_eq!(window.window(PageIndex(10), |_| PageRange::new(10, 11)).pages(), 1);
    }
}
