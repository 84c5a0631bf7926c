//! Pages that threads wait for. The watchdog reads them to find owners that make no progress.

use super::{PageTable, State, Word};
use crate::prim::pack::Field;
use crate::prim::sync::plain::{AtomicU64, Ordering};
use crate::prim::{PageIndex, PageRange};

/// Entries of the log. A thread owns a page for microseconds, so few pages have waiters at a time.
pub(crate) const WAITER_LOG_ENTRIES: usize = 16;

/// An entry: the page's number plus one (zero is a free entry), and the number of entries made before. By the
/// second number the watchdog tells new waiters of a page from the waiters that it saw before.
const PAGE: Field = Field::lowest(33);
const SEQUENCE: Field = PAGE.then(31);

/// Pages whose owners have waiters, from the first waiter until the owner wakes the waiters.
///
/// The log is a hint, and no part of the protocol. It leaves a page out while all entries are in use. An entry
/// made after the wake stays until [`PageTable::waiter_sample`] reads it.
#[derive(Debug, Default)]
pub(super) struct WaiterLog {
    entries: [AtomicU64; WAITER_LOG_ENTRIES],
    sequence: AtomicU64,
}

/// A page with waiters. Between two equal samples its owner has made no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaiterSample {
    entry: u64,
    word: Word,
}

impl WaiterSample {
    pub(crate) fn page(self) -> PageIndex {
        page_in(self.entry)
    }
}

/// The page in an entry that is in use.
fn page_in(entry: u64) -> PageIndex {
    #[expect(clippy::cast_possible_truncation, reason = "33 bits, on a 64-bit machine")]
    PageIndex(PAGE.get(entry) as usize - 1)
}

impl WaiterLog {
    /// Records that a thread waits for the owner of `page`.
    pub(super) fn record(&self, page: PageIndex) {
        let has_page = |entry: &AtomicU64| {
            let seen = entry.load(Ordering::Relaxed);
            seen != 0 && page_in(seen) == page
        };
        if self.entries.iter().any(has_page) {
            return;
        }
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) & SEQUENCE.max();
        let new = SEQUENCE.set(PAGE.set(0, page.0 as u64 + 1), sequence);
        for entry in &self.entries {
            if entry.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Frees the entries of the pages of `range`, whose waiters the caller wakes.
    pub(super) fn remove(&self, range: PageRange) {
        for entry in &self.entries {
            let seen = entry.load(Ordering::Relaxed);
            if seen != 0 && (range.start..range.end).contains(&page_in(seen)) {
                free(entry, seen);
            }
        }
    }
}

fn free(entry: &AtomicU64, seen: u64) {
    // If this fails, another thread has freed the entry, and it may be another page's by now.
    let _ = entry.compare_exchange(seen, 0, Ordering::Relaxed, Ordering::Relaxed);
}

impl PageTable {
    /// The page in this entry, if it still has waiters. `entry` is below [`WAITER_LOG_ENTRIES`].
    pub(crate) fn waiter_sample(&self, entry: usize) -> Option<WaiterSample> {
        let entry = &self.waiter_log.entries[entry];
        let seen = entry.load(Ordering::Relaxed);
        if seen == 0 {
            return None;
        }
        let word = self.load(page_in(seen));
        let owned = matches!(word.state(), State::Filling | State::Dropping);
        if owned && word.waiting() {
            return Some(WaiterSample { entry: seen, word });
        }
        free(entry, seen);
        None
    }
}

#[cfg(test)]
#[cfg(not(thermocline_sim))]
mod tests {
    use super::*;

    fn own(table: &PageTable, page: PageIndex) {
        table.begin_fill(page, Word::EMPTY).unwrap();
    }

    fn wait_for(table: &PageTable, page: PageIndex) {
        table.request_wake(page, table.load(page)).unwrap();
    }

    #[test]
    fn the_log_has_a_page_while_a_thread_waits_for_it() {
        let table = PageTable::new(1000).unwrap();
        let page = PageIndex(77);
        own(&table, page);
        assert_eq!(table.waiter_sample(0), None, "the page has an owner, and no waiter");
        wait_for(&table, page);
        let first = table.waiter_sample(0).unwrap();
        assert_eq!(first.page(), page);
        wait_for(&table, page);
        assert_eq!(
            (table.waiter_sample(0), table.waiter_sample(1)),
            (Some(first), None),
            "a second waiter adds no entry"
        );
        // Its owner leaves, and wakes.
        let _ = table.abort_fill(page, Word::EMPTY);
        table.waiter_log.remove(page.only());
        own(&table, page);
        wait_for(&table, page);
        let again = table.waiter_sample(0).unwrap();
        assert_eq!((again.word, again.page()), (first.word, page));
        assert_ne!(again, first, "only the sequence number differs");
    }

    #[test]
    fn an_entry_is_free_again_after_the_wake_and_after_a_sample_without_waiters() {
        let table = PageTable::new(1000).unwrap();
        for n in 0..WAITER_LOG_ENTRIES + 5 {
            own(&table, PageIndex(n));
            wait_for(&table, PageIndex(n));
        }
        let sampled = |entry: usize| table.waiter_sample(entry).map(|sample| sample.page().0);
        assert!((0..WAITER_LOG_ENTRIES).all(|entry| sampled(entry) == Some(entry)));
        let _ = table.abort_fill(PageIndex(3), Word::EMPTY);
        assert_eq!(sampled(3), None);
        table.waiter_log.remove(PageRange::new(5, 8));
        assert!((5..8).all(|entry| sampled(entry).is_none()));
        wait_for(&table, PageIndex(WAITER_LOG_ENTRIES));
        assert_eq!(sampled(3), Some(WAITER_LOG_ENTRIES));
    }
}
