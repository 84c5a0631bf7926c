//! The spans of one class of one lane.

use super::classes::{CHUNK_PAGES, CLASSES, Class, class};
use super::lane::Lane;
use super::map::BlockMap;
use super::set::{Mask, PageSet};
use super::span::{NONE, Span};
use crate::prim::PageRange;
use crate::prim::geometry::PAGE_SHIFT;
use crate::prim::units::index;
use std::collections::VecDeque;

/// log2 of the bytes in a chunk.
pub(super) const CHUNK_SHIFT: u32 = PAGE_SHIFT + CHUNK_PAGES.ilog2();

/// Lists of spans that have a free slot, by how full they are.
const LISTS: usize = 8;

/// Slots of `class` that a thread keeps at most, and a bin for threads that ask: 32 KiB, but from 2
/// to 128.
pub(super) const fn most_cached(class: Class) -> usize {
    let slots = (32 << 10) / class.size as usize;
    if slots > 128 {
        128
    } else if slots < 2 {
        2
    } else {
        slots
    }
}

/// The spans of one class of one lane, and slots on their way from one thread to another.
#[derive(Debug)]
pub(super) struct Bin {
    pub(super) number: usize,
    pub(super) class: Class,
    lane: Lane,
    spans: Vec<Span>,
    /// Places in `spans` that nothing uses.
    vacant: Vec<u32>,
    heads: [u32; LISTS],
    /// Spans without a used slot: at most one, for a block that comes and goes.
    empty: u32,
    /// Slots that threads have given back and others are going to take; used, as far as the spans are
    /// concerned.
    stock: Vec<u64>,
    /// Slots that the spans have handed out.
    used: usize,
    /// Whether nothing has been taken since the last tick that was kept even then: slots for others, or
    /// an empty span.
    stale: bool,
    /// Places of spans that may have holes, each once: of those that took a slot back, or were populated,
    /// since the last look for holes.
    suspects: VecDeque<u32>,
    /// Pages of spans that have been released.
    released: usize,
}

/// Holes of a span, which is releasing until [`Bin::finish_release`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Holes {
    place: u32,
    pub(super) pages: PageSet,
}

impl Bin {
    pub(super) fn new(number: usize) -> Self {
        Self {
            number,
            class: class(number % CLASSES),
            lane: Lane::ALL[number / CLASSES],
            spans: Vec::new(),
            vacant: Vec::new(),
            heads: [NONE; LISTS],
            empty: 0,
            stock: Vec::new(),
            used: 0,
            stale: false,
            suspects: VecDeque::new(),
            released: 0,
        }
    }

    pub(super) fn lane(&self) -> Lane {
        self.lane
    }

    /// How many spans there are.
    pub(super) fn spans(&self) -> usize {
        self.spans.len() - self.vacant.len()
    }

    /// Slots that the spans have handed out, and those of them that lie here.
    pub(super) fn used(&self) -> (usize, usize) {
        (self.used, self.stock.len())
    }

    /// The list for a span, none if no slot of it may be handed out.
    fn list_for(span: &Span) -> Option<u8> {
        (!span.is_full() && !span.releasing).then(|| span.eighths())
    }

    /// Puts a span that is in no list into the right one.
    fn link(&mut self, place: u32) {
        let span = &mut self.spans[place as usize];
        span.list = Self::list_for(span);
        let Some(list) = span.list else {
            return;
        };
        let head = core::mem::replace(&mut self.heads[usize::from(list)], place);
        (span.next, span.previous) = (head, NONE);
        if let Some(next) = self.spans.get_mut(head as usize) {
            next.previous = place;
        }
    }

    /// Takes a span out of the list that it is in.
    fn unlink(&mut self, place: u32) {
        let span = &mut self.spans[place as usize];
        let (next, previous) = (span.next, span.previous);
        let Some(list) = span.list.take() else {
            return;
        };
        if let Some(next) = self.spans.get_mut(next as usize) {
            next.previous = previous;
        }
        match self.spans.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => self.heads[usize::from(list)] = next,
        }
    }

    /// Puts a span into another list if it is in the wrong one.
    #[inline]
    fn relink(&mut self, place: u32) {
        let span = &self.spans[place as usize];
        if Self::list_for(span) != span.list {
            self.relink_slow(place);
        }
    }

    #[cold]
    fn relink_slow(&mut self, place: u32) {
        self.unlink(place);
        self.link(place);
    }

    /// Hands out from one to `most` slots; none if there is none and `pages` has no room for another
    /// span. Says which pages are to be populated.
    pub(super) fn take(
        &mut self,
        most: usize,
        map: &BlockMap,
        mut pages: impl FnMut(usize) -> Option<PageRange>,
        mut out: impl FnMut(u64),
    ) -> (usize, PageSet) {
        let stocked = self.stock.len().min(most);
        if stocked > 0 {
            self.stock.drain(self.stock.len() - stocked..).for_each(out);
            self.stale = false;
            return (stocked, PageSet::NONE);
        }
        let mut taken = 0;
        while taken < most {
            // The fullest first: so the others get a chance to become empty.
            let fullest = self.heads.iter().rev().copied().find(|head| *head != NONE);
            let place = match fullest {
                None if taken == 0 => self.add_span(map, &mut pages),
                place => place,
            };
            let Some(place) = place else {
                break;
            };
            let (got, fresh) = self.take_from(place, most - taken, &mut out);
            taken += got;
            if !fresh.is_empty() {
                // What is populated belongs to one span.
                return (taken, fresh);
            }
        }
        (taken, PageSet::NONE)
    }

    fn take_from(
        &mut self,
        place: u32,
        most: usize,
        out: &mut impl FnMut(u64),
    ) -> (usize, PageSet) {
        let span = &mut self.spans[place as usize];
        if span.used == 0 {
            self.empty -= 1;
            self.stale = false;
        }
        let before = span.released();
        let (got, fresh) = span.take(u32::try_from(most).unwrap_or(u32::MAX), out);
        self.released -= (before - span.released()).count();
        self.relink(place);
        self.used += got as usize;
        if !fresh.is_empty() {
            self.suspect(place);
        }
        (got as usize, fresh)
    }

    #[cold]
    fn add_span(
        &mut self,
        map: &BlockMap,
        pages: &mut impl FnMut(usize) -> Option<PageRange>,
    ) -> Option<u32> {
        let range = pages(self.class.pages as usize)?;
        let mut span = Span::new(range, self.class);
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.spans.push(Span::nowhere(self.class));
            u32::try_from(self.spans.len() - 1).unwrap_or(NONE)
        });
        span.listed = self.spans[place as usize].listed;
        self.spans[place as usize] = span;
        map.set_span(range, self.number, place);
        self.empty += 1;
        self.link(place);
        Some(place)
    }

    /// Where the span of a slot of this bin is kept.
    fn place_of(&self, offset: u64, map: &BlockMap) -> Option<u32> {
        let chunk = index(offset >> CHUNK_SHIFT);
        let tag = map.tag(chunk).filter(|tag| tag.bin() == self.number)?;
        Some(map.place(tag.first(chunk)))
    }

    /// Takes slots back, to be given to whoever asks next.
    pub(super) fn give(
        &mut self,
        slots: impl ExactSizeIterator<Item = u64>,
        map: &BlockMap,
        emptied: &mut Vec<PageRange>,
    ) {
        if self.stock.len() + slots.len() <= most_cached(self.class) {
            self.stock.extend(slots);
        } else {
            slots.for_each(|slot| self.put_back(slot, map, emptied));
        }
    }

    /// Puts a slot back where it came from. Pages of spans that are not needed any more are added
    /// to `emptied`.
    fn put_back(&mut self, offset: u64, map: &BlockMap, emptied: &mut Vec<PageRange>) {
        let Some(place) = self.place_of(offset, map) else {
            debug_assert!(false, "{offset:#x} is no slot of {:?}", self.class);
            return;
        };
        let span = &mut self.spans[place as usize];
        span.give(offset);
        // A span that is releasing is looked at again at the end of that.
        let is_empty = span.used == 0 && !span.releasing;
        let listed = span.listed;
        self.used -= 1;
        self.relink(place);
        if !listed {
            self.suspect(place);
        }
        if is_empty {
            self.keep_or_remove(place, map, emptied);
        }
    }

    /// Decides about a span that has no used slot any more.
    fn keep_or_remove(&mut self, place: u32, map: &BlockMap, emptied: &mut Vec<PageRange>) {
        self.empty += 1;
        // A block that comes and goes takes no span along, where that is short.
        if self.empty > 1 || self.class.pages as usize > CHUNK_PAGES {
            emptied.push(self.remove(place, map));
        }
    }

    fn remove(&mut self, place: u32, map: &BlockMap) -> PageRange {
        self.unlink(place);
        self.empty -= 1;
        self.vacant.push(place);
        let listed = self.spans[place as usize].listed;
        let mut nowhere = Span::nowhere(self.class);
        nowhere.listed = listed;
        let span = core::mem::replace(&mut self.spans[place as usize], nowhere);
        self.released -= span.released().count();
        map.clear_span(span.pages);
        span.pages
    }

    /// Notes that a span may have holes.
    #[cold]
    fn suspect(&mut self, place: u32) {
        let span = &mut self.spans[place as usize];
        if !core::mem::replace(&mut span.listed, true) {
            self.suspects.push_back(place);
        }
    }

    /// How many spans there are that may have holes.
    pub(super) fn suspects(&self) -> usize {
        self.suspects.len()
    }

    /// Looks for a span that has holes among the next `most` that may have some, and says at how many it
    /// looked. With `idle_only`, those spans are left for another time of which slots have been handed
    /// out since the last look.
    pub(super) fn begin_release(&mut self, most: usize, idle_only: bool) -> (usize, Option<Holes>) {
        for looks in 1..=most {
            let Some(place) = self.suspects.pop_front() else {
                break;
            };
            let span = &mut self.spans[place as usize];
            span.listed = false;
            if core::mem::take(&mut span.warm) && idle_only {
                self.suspect(place);
                continue;
            }
            let pages = span.holes();
            if !pages.is_empty() {
                self.empty -= u32::from(span.used == 0);
                span.releasing = true;
                self.unlink(place);
                return (looks, Some(Holes { place, pages }));
            }
        }
        (most, None)
    }

    /// Ends what [`begin_release`](Self::begin_release) began, after the pages of `released` have been
    /// released. Pages of a span that is not needed any more are added to `emptied`.
    pub(super) fn finish_release(
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
            self.suspect(place);
        }
        if is_empty {
            self.keep_or_remove(place, map, emptied);
        }
    }

    /// Pages in holes. Takes the longer the more spans have changed since the last look for holes.
    pub(super) fn hole_pages(&mut self) -> usize {
        let spans = &mut self.spans;
        let holes = self.suspects.iter().map(|place| spans[*place as usize].holes().mask.count());
        holes.sum()
    }

    /// Pages of spans that have been released.
    pub(super) fn released_pages(&self) -> usize {
        self.released
    }

    /// Puts back what is kept for others, and gives up spans without a used slot.
    pub(super) fn trim(&mut self, map: &BlockMap, emptied: &mut Vec<PageRange>) {
        for slot in core::mem::take(&mut self.stock) {
            self.put_back(slot, map, emptied);
        }
        self.drop_empty(map, emptied);
    }

    /// Gives up a span that has had no used slot since the last tick, and slots that nobody asked for.
    pub(super) fn tick(&mut self, map: &BlockMap, emptied: &mut Vec<PageRange>) {
        if self.stale {
            self.trim(map, emptied);
        }
        self.stale = self.empty > 0 || !self.stock.is_empty();
    }

    /// Gives up a span without a used slot.
    fn drop_empty(&mut self, map: &BlockMap, emptied: &mut Vec<PageRange>) {
        while self.empty > 0 {
            let mut place = self.heads[0];
            while self.spans[place as usize].used > 0 {
                place = self.spans[place as usize].next;
            }
            emptied.push(self.remove(place, map));
        }
    }

    /// Notes that a program has got the slot at `offset`, or given it back; false if that cannot be.
    pub(super) fn watch(&mut self, offset: u64, live: bool, map: &BlockMap) -> bool {
        let place = self.place_of(offset, map);
        place.is_some_and(|place| self.spans[place as usize].watch(offset, live))
    }

    /// Whether the slot that begins at `offset` is handed out.
    pub(super) fn is_used(&self, offset: u64, map: &BlockMap) -> bool {
        self.place_of(offset, map).is_some_and(|place| self.spans[place as usize].is_used(offset))
    }

    /// Checks all spans and lists, and says how many pages the spans have.
    pub(super) fn check(&self, map: &BlockMap) -> Result<usize, String> {
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
            open += usize::from(Self::list_for(span).is_some());
            released += span.released().count();
            if !span.listed && !span.releasing && span.has_holes() {
                return Err(format!("the holes of span {place} are not noted: {span:?}"));
            }
        }
        let mut suspects: Vec<_> = self.suspects.iter().copied().collect();
        suspects.sort_unstable();
        let mut noted = (0..).zip(&self.spans).filter(|(_, span)| span.listed).map(|(at, _)| at);
        if !suspects.into_iter().eq(noted.by_ref()) {
            return Err(format!("not those may have holes that are listed: {self:?}"));
        }
        let mut listed = 0;
        for (list, head) in self.heads.iter().enumerate() {
            let (mut place, mut previous) = (*head, NONE);
            while place != NONE {
                let span = &self.spans[place as usize];
                let right = Self::list_for(span).map(usize::from) == Some(list);
                if !right || span.list != Self::list_for(span) || span.previous != previous {
                    return Err(format!("in list {list} behind {previous}: {span:?}"));
                }
                listed += 1;
                (previous, place) = (place, span.next);
            }
        }
        if let Some(slot) = self.stock.iter().find(|slot| !self.is_used(**slot, map)) {
            return Err(format!("{slot:#x} is kept for others and free"));
        }
        let found = (used, empty, open, released);
        if found != (self.used, self.empty, listed, self.released) {
            return Err(format!("bin {}: {found:?}, counted {self:?}", self.number));
        }
        Ok(pages)
    }
}
