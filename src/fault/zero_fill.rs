//! How much memory to give to a first touch.

use crate::prim::sync::plain::{AtomicU64, Ordering};
use crate::prim::units::index;
use crate::prim::{PageIndex, PageRange};

/// How many pages to give to a first touch: memory that is written from one end to the other is
/// populated ahead in growing windows; memory that is touched here and there is not.
///
/// Shared by all faults without a lock: a race costs a window that is smaller than it could be.
#[derive(Debug, Default)]
pub(super) struct ZeroFillWindow {
    /// Where the last window ended.
    next: AtomicU64,
    window: AtomicU64,
}

/// Pages in the largest window: 2 MiB, one page table.
const LARGEST_WINDOW: u64 = 512;

impl ZeroFillWindow {
    /// The pages to give memory to when `page` is touched. The part of the block that begins with it,
    /// so many pages at most, is to be had of `rest`.
    pub(super) fn window(
        &self,
        page: PageIndex,
        rest: impl FnOnce(usize) -> PageRange,
    ) -> PageRange {
        let sequential = self.next.load(Ordering::Relaxed) == page.0 as u64;
        let before = self.window.load(Ordering::Relaxed);
        let window = if sequential { (before * 2).clamp(2, LARGEST_WINDOW) } else { 1 };
        let range = if sequential { rest(index(window)) } else { page.only() };
        self.window.store(window, Ordering::Relaxed);
        self.next.store(range.end.0 as u64, Ordering::Relaxed);
        range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_with_a_run_and_end_with_it() {
        let ahead = ZeroFillWindow::default();
        let mut at = 100;
        let mut sizes = Vec::new();
        for _ in 0..12 {
            let range = ahead.window(PageIndex(at), |most| PageRange::new(at, at + most));
            assert_eq!(range.start.0, at);
            sizes.push(range.pages());
            at = range.end.0;
        }
        assert_eq!(sizes, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 512, 512]);
        assert_eq!(ahead.window(PageIndex(9), |_| unreachable!()).pages(), 1);
        assert_eq!(ahead.window(PageIndex(10), |_| PageRange::new(10, 11)).pages(), 1);
    }
}
