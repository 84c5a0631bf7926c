//! What a thread of the library is at, for who looks whether it goes on.

use crate::prim::PageIndex;
use crate::prim::pack::Field;
use crate::prim::sync::plain::{AtomicU32, AtomicU64, Ordering};
use crossbeam::utils::CachePadded;

/// Whether the thread is at a page, at which one, and how many it has come to before: so that one
/// that is at the same page again is not taken for one that is there still.
const BUSY: Field = Field::lowest(1);
const PAGE: Field = BUSY.then(32);
const STEPS: Field = PAGE.then(31);

/// Written by one thread, which pays two stores a page for it, and read by another now and then.
///
/// It has a cache line of its own, and nothing is concluded from its order with other accesses.
#[derive(Debug, Default)]
pub(crate) struct Progress(CachePadded<Words>);

#[derive(Debug, Default)]
struct Words {
    at: AtomicU64,
    thread: AtomicU32,
}

/// What was seen of a thread. Two that are equal say that it has not gone on in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen(u64);

impl Progress {
    /// The thread that writes this, by its number in the kernel.
    pub(crate) fn set_thread(&self, thread: u32) {
        self.0.thread.store(thread, Ordering::Relaxed);
    }

    /// The thread's number; zero if it has not come to its first line.
    pub(crate) fn thread(&self) -> u32 {
        self.0.thread.load(Ordering::Relaxed)
    }

    /// The thread begins with `page`.
    #[inline]
    pub(crate) fn begin(&self, page: PageIndex) {
        let steps = STEPS.get(self.0.at.load(Ordering::Relaxed));
        let next = if steps == STEPS.max() { 0 } else { steps + 1 };
        let at = STEPS.set(PAGE.set(BUSY.set(0, 1), page.0 as u64), next);
        self.0.at.store(at, Ordering::Relaxed);
    }

    /// The thread is at no page any more.
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
    /// The page that the thread was at, if it was at one.
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
    fn the_same_page_again_is_another_sight() {
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
    fn steps_turn_over() {
        let progress = Progress::default();
        progress.0.at.store(STEPS.set(0, STEPS.max()), Ordering::Relaxed);
        progress.begin(PageIndex(7));
        assert_eq!(progress.seen().page(), Some(PageIndex(7)));
    }
}
