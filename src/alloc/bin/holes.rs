//! Holes of a bin's spans: finding them, and the two ends of a release.

use super::Bin;
use crate::alloc::map::BlockMap;
use crate::alloc::set::{Mask, PageSet};
use crate::prim::PageRange;

/// Holes of a span, which stays in the releasing state until [`Bin::finish_release`].
#[derive(Clone, Copy, Debug)]
pub(in crate::alloc) struct Holes {
    place: u32,
    pub(in crate::alloc) pages: PageSet,
}

impl Bin {
    /// Adds a span that may have holes.
    #[cold]
    pub(super) fn add_candidate(&mut self, place: u32) {
        let span = &mut self.spans[place as usize];
        if !core::mem::replace(&mut span.is_candidate, true) {
            self.candidates.push_back(place);
        }
    }

    /// How many spans may have holes.
    pub(in crate::alloc) fn candidates(&self) -> usize {
        self.candidates.len()
    }

    /// Searches the next `most` candidates for a span with holes, puts it into the releasing state, and
    /// returns how many it searched. With `idle_only` it defers the active spans: those with a slot
    /// allocated since the last search.
    pub(in crate::alloc) fn begin_release(
        &mut self,
        most: usize,
        idle_only: bool,
    ) -> (usize, Option<Holes>) {
        for searched in 1..=most {
            let Some(place) = self.candidates.pop_front() else {
                break;
            };
            let span = &mut self.spans[place as usize];
            span.is_candidate = false;
            if core::mem::take(&mut span.active) && idle_only {
                self.add_candidate(place);
                continue;
            }
            let pages = span.holes();
            if !pages.is_empty() {
                self.empty -= u32::from(span.used == 0);
                span.releasing = true;
                self.unlink(place);
                return (searched, Some(Holes { place, pages }));
            }
        }
        (most, None)
    }

    /// Ends the state that [`begin_release`](Self::begin_release) began, after the caller released the
    /// pages of `released`. Adds the pages of a removed span to `emptied`.
    pub(in crate::alloc) fn finish_release(
        &mut self,
        holes: Holes,
        released: Mask,
        map: &BlockMap,
        emptied: &mut Vec<PageRange>,
    ) {
        let Holes { place, pages } = holes;
        let span = &mut self.spans[place as usize];
        self.released -= span.released().count();
        span.release(released);
        self.released += span.released().count();
        let is_empty = span.used == 0;
        self.link(place);
        if released != pages.mask {
            self.add_candidate(place);
        }
        if is_empty {
            self.keep_or_remove(place, map, emptied);
        }
    }

    /// Counts the pages in holes. The time grows with the spans that changed since the last search.
    pub(in crate::alloc) fn hole_pages(&mut self) -> usize {
        let spans = &mut self.spans;
        let holes = self.candidates.iter().map(|place| spans[*place as usize].holes().mask.count());
        holes.sum()
    }

    pub(in crate::alloc) fn released_pages(&self) -> usize {
        self.released
    }
}
