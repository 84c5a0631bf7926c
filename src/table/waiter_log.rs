//! Pages that somebody waits for, for who looks whether their owners go on.

use super::{PageTable, State, Word};
use crate::prim::pack::Field;
use crate::prim::sync::plain::{AtomicU64, Ordering};
use crate::prim::{PageIndex, PageRange};

/// Places for pages. Owning one takes microseconds, so that few are waited for at a time.
pub(crate) const PLACES: usize = 16;

/// The page's number and one, zero being a free place; and how many pages were noted before, so that
/// one that is waited for again is not taken for one that is waited for still.
const PAGE: Field = Field::lowest(33);
const NOTED: Field = PAGE.then(31);

/// Pages that were found owned by who needed them, until their waiters are woken.
///
/// A hint, and no part of the protocol: where all places are taken, a further page is left out, and
/// one that was noted too late stays until somebody [looks](PageTable::waited).
#[derive(Debug, Default)]
pub(super) struct WaiterLog {
    places: [AtomicU64; PLACES],
    noted: AtomicU64,
}

/// A page that was waited for. Two that are equal say that its owner has not gone on in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaiterSample {
    place: u64,
    word: Word,
}

impl WaiterSample {
    pub(crate) fn page(self) -> PageIndex {
        page_in(self.place)
    }
}

/// The page in a place that is taken.
fn page_in(place: u64) -> PageIndex {
    #[expect(clippy::cast_possible_truncation, reason = "33 bits, on a 64-bit machine")]
    PageIndex(PAGE.get(place) as usize - 1)
}

impl WaiterLog {
    /// Somebody waits for the owner of `page`.
    pub(super) fn note(&self, page: PageIndex) {
        let is_there = |place: &AtomicU64| {
            let seen = place.load(Ordering::Relaxed);
            seen != 0 && page_in(seen) == page
        };
        if self.places.iter().any(is_there) {
            return;
        }
        let noted = self.noted.fetch_add(1, Ordering::Relaxed) & NOTED.max();
        let ours = NOTED.set(PAGE.set(0, page.0 as u64 + 1), noted);
        for place in &self.places {
            if place.compare_exchange(0, ours, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Those who wait for pages of `range` are woken.
    pub(super) fn forget(&self, range: PageRange) {
        for place in &self.places {
            let seen = place.load(Ordering::Relaxed);
            if seen != 0 && (range.start..range.end).contains(&page_in(seen)) {
                free(place, seen);
            }
        }
    }
}

fn free(place: &AtomicU64, seen: u64) {
    // If not, somebody else has freed it, and it may be another page's by now.
    let _ = place.compare_exchange(seen, 0, Ordering::Relaxed, Ordering::Relaxed);
}

impl PageTable {
    /// The page in that place, of [`PLACES`], if it is waited for still.
    pub(crate) fn waited(&self, place: usize) -> Option<WaiterSample> {
        let place = &self.waited.places[place];
        let seen = place.load(Ordering::Relaxed);
        if seen == 0 {
            return None;
        }
        let word = self.load(page_in(seen));
        let owned = matches!(word.state(), State::Filling | State::Dropping);
        if owned && word.waiting() {
            return Some(WaiterSample { place: seen, word });
        }
        free(place, seen);
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

    fn ask(table: &PageTable, page: PageIndex) {
        table.ask_to_be_woken(page, table.load(page)).unwrap();
    }

    #[test]
    fn a_page_is_there_for_as_long_as_it_is_waited_for() {
        let table = PageTable::new(1000).unwrap();
        let page = PageIndex(77);
        own(&table, page);
        assert_eq!(table.waited(0), None, "owned, but nobody waits");
        ask(&table, page);
        let first = table.waited(0).unwrap();
        assert_eq!(first.page(), page);
        ask(&table, page);
        assert_eq!(
            (table.waited(0), table.waited(1)),
            (Some(first), None),
            "the same, for another"
        );
        // Its owner leaves, and wakes.
        let _ = table.abort_fill(page, Word::EMPTY);
        table.waited.forget(page.only());
        own(&table, page);
        ask(&table, page);
        let again = table.waited(0).unwrap();
        assert_eq!((again.word, again.page()), (first.word, page));
        assert_ne!(again, first, "nothing tells them apart but this");
    }

    #[test]
    fn a_place_is_given_back_and_one_that_was_taken_too_late_too() {
        let table = PageTable::new(1000).unwrap();
        for n in 0..PLACES + 5 {
            own(&table, PageIndex(n));
            ask(&table, PageIndex(n));
        }
        let there = |place: usize| table.waited(place).map(|sight| sight.page().0);
        assert!((0..PLACES).all(|place| there(place) == Some(place)));
        let _ = table.abort_fill(PageIndex(3), Word::EMPTY);
        assert_eq!(there(3), None);
        table.waited.forget(PageRange::new(5, 8));
        assert!((5..8).all(|place| there(place).is_none()));
        ask(&table, PageIndex(PLACES));
        assert_eq!(there(3), Some(PLACES));
    }
}
