//! The spans of one class of one lane.

use super::classes::{CHUNK_PAGES, CLASSES, Class, class};
use super::kind::Lane;
use super::map::BlockMap;
use super::span::{NONE, Span};
use crate::prim::PageRange;
use crate::prim::units::{PAGE_SHIFT, index};

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

    fn list_of(span: &Span) -> Option<usize> {
        (!span.is_full()).then(|| span.eighths())
    }

    fn link(&mut self, place: u32) {
        let Some(list) = Self::list_of(&self.spans[place as usize]) else {
            return;
        };
        let head = self.heads[list];
        self.heads[list] = place;
        if let Some(next) = self.spans.get_mut(head as usize) {
            next.previous = place;
        }
        let span = &mut self.spans[place as usize];
        (span.next, span.previous) = (head, NONE);
    }

    fn unlink(&mut self, place: u32, list: Option<usize>) {
        let Some(list) = list else {
            return;
        };
        let (next, previous) = {
            let span = &self.spans[place as usize];
            (span.next, span.previous)
        };
        if let Some(next) = self.spans.get_mut(next as usize) {
            next.previous = previous;
        }
        match self.spans.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => self.heads[list] = next,
        }
    }

    /// Hands out from one to `most` slots; none if there is none and `pages` has no room for another
    /// span. Says which pages are to be populated.
    pub(super) fn take(
        &mut self,
        most: usize,
        map: &BlockMap,
        mut pages: impl FnMut(usize) -> Option<PageRange>,
        mut out: impl FnMut(u64),
    ) -> (usize, Option<PageRange>) {
        let stocked = self.stock.len().min(most);
        if stocked > 0 {
            self.stock.drain(self.stock.len() - stocked..).for_each(out);
            self.stale = false;
            return (stocked, None);
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
            if fresh.is_some() {
                // What is populated is one run.
                return (taken, fresh);
            }
        }
        (taken, None)
    }

    fn take_from(
        &mut self,
        place: u32,
        most: usize,
        out: &mut impl FnMut(u64),
    ) -> (usize, Option<PageRange>) {
        let span = &mut self.spans[place as usize];
        let before = Self::list_of(span);
        if span.used == 0 {
            self.empty -= 1;
            self.stale = false;
        }
        let (got, fresh) = span.take(u32::try_from(most).unwrap_or(u32::MAX), out);
        self.relink(place, before);
        self.used += got as usize;
        (got as usize, fresh)
    }

    fn relink(&mut self, place: u32, before: Option<usize>) {
        if Self::list_of(&self.spans[place as usize]) != before {
            self.unlink(place, before);
            self.link(place);
        }
    }

    #[cold]
    fn add_span(
        &mut self,
        map: &BlockMap,
        pages: &mut impl FnMut(usize) -> Option<PageRange>,
    ) -> Option<u32> {
        let range = pages(self.class.pages as usize)?;
        let span = Span::new(range, self.class);
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.spans.push(Span::nowhere(self.class));
            u32::try_from(self.spans.len() - 1).unwrap_or(NONE)
        });
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
        let before = Self::list_of(span);
        span.give(offset);
        let is_empty = span.used == 0;
        self.used -= 1;
        self.relink(place, before);
        if is_empty {
            self.empty += 1;
            // A block that comes and goes takes no span along, where that is short.
            if self.empty > 1 || self.class.pages as usize > CHUNK_PAGES {
                emptied.push(self.remove(place, map));
            }
        }
    }

    fn remove(&mut self, place: u32, map: &BlockMap) -> PageRange {
        let list = Self::list_of(&self.spans[place as usize]);
        self.unlink(place, list);
        self.empty -= 1;
        self.vacant.push(place);
        let span = core::mem::replace(&mut self.spans[place as usize], Span::nowhere(self.class));
        map.clear_span(span.pages);
        span.pages
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
        let (mut used, mut pages, mut empty, mut open) = (0, 0, 0, 0);
        for (place, span) in self.spans.iter().enumerate().filter(|(_, s)| !s.pages.is_empty()) {
            span.check()?;
            let known = self.place_of(span.pages.start.offset() as u64, map);
            if known.map(|known| known as usize) != Some(place) {
                return Err(format!("the map has {known:?} for span {place}: {span:?}"));
            }
            used += span.used as usize;
            pages += span.pages.pages();
            empty += u32::from(span.used == 0);
            open += usize::from(!span.is_full());
        }
        let mut listed = 0;
        for (list, head) in self.heads.iter().enumerate() {
            let (mut place, mut previous) = (*head, NONE);
            while place != NONE {
                let span = &self.spans[place as usize];
                if Self::list_of(span) != Some(list) || span.previous != previous {
                    return Err(format!("in list {list} behind {previous}: {span:?}"));
                }
                listed += 1;
                (previous, place) = (place, span.next);
            }
        }
        if let Some(slot) = self.stock.iter().find(|slot| !self.is_used(**slot, map)) {
            return Err(format!("{slot:#x} is kept for others and free"));
        }
        if (used, empty, open) != (self.used, self.empty, listed) {
            let found = (used, empty, open);
            return Err(format!("bin {}: {found:?}, counted {self:?}", self.number));
        }
        Ok(pages)
    }
}
