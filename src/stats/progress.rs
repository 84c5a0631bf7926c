//! The page that a thread of the library works on. The watchdog reads it to find a thread that makes no
//! progress.

use crate::prim::PageIndex;
use crate::prim::pack::Field;
use crate::prim::sync::plain::{AtomicU32, AtomicU64, Ordering};
use crossbeam::utils::CachePadded;

/// Whether the thread works on a page, the page, and a count of its pages. By the count the watchdog tells
/// a thread that has come to the same page again from a thread that is still there.
const BUSY: Field = Field::lowest(1);
const PAGE: Field = BUSY.then(32);
const STEPS: Field = PAGE.then(31);

/// The page that a thread works on. That thread writes it, with two stores per page; the watchdog reads it
/// now and then.
///
/// It has a cache line of its own. No code relies on its order with other accesses.
#[derive(Debug, Default)]
pub(crate) struct Progress(CachePadded<Words>);

#[derive(Debug, Default)]
struct Words {
    at: AtomicU64,
    thread: AtomicU32,
}

/// A thread's progress at one moment. If two are equal, the thread made no progress in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen(u64);

impl Progress {
    /// Records the kernel's number of the thread that writes this.
    pub(crate) fn set_thread(&self, thread: u32) {
        self.0.thread.store(thread, Ordering::Relaxed);
    }

    /// The thread's number; zero before the thread has run its first line.
    pub(crate) fn thread(&self) -> u32 {
        self.0.thread.load(Ordering::Relaxed)
    }

    /// Records that the thread begins with `page`.
    #[inline]
    pub(crate) fn begin(&self, page: PageIndex) {
        let steps = STEPS.get(self.0.at.load(Ordering::Relaxed));
        let next = if steps == STEPS.max() { 0 } else { steps + 1 };
        let at = STEPS.set(PAGE.set(BUSY.set(0, 1), page.0 as u64), next);
        self.0.at.store(at, Ordering::Relaxed);
    }

    /// Records that the thread works on no page.
    #[inline]
    pub(crate) fn end(&self) {
        let at = self.0.at.load(Ordering::Relaxed);
        self.0.at.store(BUSY.set(at, 0), Ordering::Relaxed);
    }

    pub(crate) fn seen(&self) -> Seen {
        Seen(self.0.at.load(Ordering::Relaxed))
    }
}

impl Seen {
    /// The page that the thread worked on, if any.
    pub(crate) fn page(self) -> Option<PageIndex> {
        #[expect(clippy::cast_possible_truncation, reason = "32 bits, on a 64-bit machine")]
        let page = PageIndex(PAGE.get(self.0) as usize);
        (BUSY.get(self.0) == 1).then_some(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginning_the_same_page_again_changes_the_snapshot() {
        let progress = Progress::default();
        assert_eq!(progress.seen().page(), None);
        let last = PageIndex((1 << 32) - 1);
        progress.begin(last);
        let first = progress.seen();
        assert_eq!(first.page(), Some(last));
        progress.end();
        assert_eq!(progress.seen().page(), None);
        progress.begin(last);
        assert_ne!(progress.seen(), first);
        assert_eq!(progress.seen().page(), Some(last));
    }

    #[test]
    fn the_count_of_pages_wraps_without_changing_the_page() {
        let progress = Progress::default();
        progress.0.at.store(STEPS.set(0, STEPS.max()), Ordering::Relaxed);
        progress.begin(PageIndex(7));
        assert_eq!(progress.seen().page(), Some(PageIndex(7)));
    }
}
