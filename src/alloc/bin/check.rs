//! A check of a bin's invariants.

use super::Bin;
use crate::alloc::map::BlockMap;
use crate::alloc::span::NONE;

impl Bin {
    /// Checks all spans and lists, and returns how many pages the spans have.
    pub(in crate::alloc) fn check(&self, map: &BlockMap) -> Result<usize, String> {
        let (mut used, mut pages, mut empty, mut open, mut released) = (0, 0, 0, 0, 0);
        for (place, span) in self.spans.iter().enumerate().filter(|(_, s)| !s.pages.is_empty()) {
            span.check()?;
            let known = self.place_of(span.pages.start.offset() as u64, map);
            if known.map(|known| known as usize) != Some(place) {
                return Err(format!("the map has {known:?} for span {place}: {span:?}"));
            }
            used += span.used as usize;
            pages += span.pages.pages();
            empty += u32::from(span.used == 0 && !span.releasing);
            open += usize::from(Self::fullness_list(span).is_some());
            released += span.released().count();
            if !span.is_candidate && !span.releasing && span.has_holes() {
                return Err(format!("span {place} has holes and is no candidate: {span:?}"));
            }
        }
        let mut candidates: Vec<_> = self.candidates.iter().copied().collect();
        candidates.sort_unstable();
        let flagged = (0..).zip(&self.spans).filter(|(_, s)| s.is_candidate).map(|(at, _)| at);
        if !candidates.into_iter().eq(flagged) {
            return Err(format!("the candidates are not the flagged spans: {self:?}"));
        }
        let mut listed = 0;
        for (list, head) in self.heads.iter().enumerate() {
            let (mut place, mut previous) = (*head, NONE);
            while place != NONE {
                let span = &self.spans[place as usize];
                let right = Self::fullness_list(span).map(usize::from) == Some(list);
                if !right || span.list != Self::fullness_list(span) || span.previous != previous {
                    return Err(format!("wrong link in list {list} behind {previous}: {span:?}"));
                }
                listed += 1;
                (previous, place) = (place, span.next);
            }
        }
        if let Some(slot) = self.transfer_cache.iter().find(|slot| !self.is_used(**slot, map)) {
            return Err(format!("{slot:#x} is in the transfer cache and free"));
        }
        let found = (used, empty, open, released);
        if found != (self.used, self.empty, listed, self.released) {
            return Err(format!("bin {}: {found:?}, counted {self:?}", self.number));
        }
        Ok(pages)
    }
}
