//! Pages that somebody waits for, for who looks whether their owners go on.

use crate::prim::PageIndex;
use crate::prim::sync::plain::{AtomicU64, Ordering};
use crate::table::{PageTable, State, Word};

/// Places for pages. Owning one takes microseconds, so that few are waited for at a time.
pub(crate) const PLACES: usize = 16;

/// The last pages that were found owned by a toucher, each with one added to its number; zero is a
/// free place. A page that is nobody's any more loses its place to the next one.
///
/// A hint: where all places are taken by pages that are waited for, a further one is left out.
#[derive(Debug, Default)]
pub(crate) struct Waited([AtomicU64; PLACES]);

impl Waited {
    /// Notes that somebody waits for the owner of `page`.
    pub(crate) fn note(&self, page: PageIndex, table: &PageTable) {
        let ours = page.0 as u64 + 1;
        for place in &self.0 {
            let seen = place.load(Ordering::Relaxed);
            if seen == ours {
                return;
            }
            let is_free = page_in(seen).is_none_or(|page| waited_for(page, table).is_none());
            let take = || place.compare_exchange(seen, ours, Ordering::Relaxed, Ordering::Relaxed);
            if is_free && take().is_ok() {
                return;
            }
        }
    }

    /// The page in that place, with its word, if it is waited for still. Two words that are equal
    /// say that its owner has not gone on in between.
    pub(crate) fn get(&self, place: usize, table: &PageTable) -> Option<(PageIndex, Word)> {
        let page = page_in(self.0[place].load(Ordering::Relaxed))?;
        waited_for(page, table).map(|word| (page, word))
    }
}

fn page_in(place: u64) -> Option<PageIndex> {
    let page = usize::try_from(place).ok()?.checked_sub(1)?;
    Some(PageIndex(page))
}

fn waited_for(page: PageIndex, table: &PageTable) -> Option<Word> {
    let word = table.load(page);
    let owned = matches!(word.state(), State::Filling | State::Dropping);
    (owned && word.waiting()).then_some(word)
}

#[cfg(test)]
#[cfg(not(thermocline_sim))]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_there_for_as_long_as_it_is_waited_for() {
        let (waited, table) = (Waited::default(), PageTable::new(1000).unwrap());
        for n in 0..PLACES + 1 {
            let page = PageIndex(n);
            table.begin_fill(page, Word::EMPTY).unwrap();
            waited.note(page, &table);
            assert_eq!(waited.get(0, &table), None, "owned, but nobody waits");
            table.ask_to_be_woken(page, table.load(page)).unwrap();
            waited.note(page, &table);
            assert_eq!(waited.get(0, &table).map(|(page, _)| page), Some(page));
            let _ = table.finish_fill(page, Word::EMPTY);
            assert_eq!(waited.get(0, &table), None);
        }
    }

    #[test]
    fn what_is_waited_for_keeps_its_place() {
        let (waited, table) = (Waited::default(), PageTable::new(1000).unwrap());
        for n in 0..PLACES + 5 {
            let page = PageIndex(n);
            table.begin_fill(page, Word::EMPTY).unwrap();
            table.ask_to_be_woken(page, table.load(page)).unwrap();
            waited.note(page, &table);
        }
        let there = |place| waited.get(place, &table).map(|(page, _)| page.0);
        assert!((0..PLACES).all(|place| there(place) == Some(place)));
    }
}
