//! Bins: the spans of one class of one lane.

mod check;
mod holes;

pub(super) use holes::Holes;

use super::classes::{CHUNK_PAGES, CLASSES, Class, class};
use super::lane::Lane;
use super::map::BlockMap;
use super::set::PageSet;
use super::span::{NONE, Span};
use crate::prim::PageRange;
use crate::prim::geometry::PAGE_SHIFT;
use crate::prim::units::index;
use std::collections::VecDeque;

/// log2 of the bytes in a chunk.
pub(super) const CHUNK_SHIFT: u32 = PAGE_SHIFT + CHUNK_PAGES.ilog2();

/// Lists of spans that have a free slot, by how many eighths of their slots are used.
const FULLNESS_LISTS: usize = 8;

/// The most slots of `class` in a magazine, and in a bin's transfer cache: 32 KiB of slots, but at least 2
/// and at most 128 slots.
pub(super) const fn magazine_limit(class: Class) -> usize {
    let slots = (32 << 10) / class.size as usize;
    if slots > 128 {
        128
    } else if slots < 2 {
        2
    } else {
        slots
    }
}

/// The spans of one class of one lane, and free slots on their way between threads.
#[derive(Debug)]
pub(super) struct Bin {
    pub(super) number: usize,
    pub(super) class: Class,
    lane: Lane,
    /// Each span's index here is its *place*.
    spans: Vec<Span>,
    /// Indices in `spans` without a span.
    vacant: Vec<u32>,
    /// The first span of each fullness list.
    heads: [u32; FULLNESS_LISTS],
    /// Spans without a used slot. The bin keeps at most one, so that a program that allocates and frees
    /// one block again and again does not create a span each time.
    empty: u32,
    /// Free slots that went from magazines to the bin, for the next magazine that needs some. The spans
    /// count them as used.
    transfer_cache: Vec<u64>,
    /// Slots that the spans count as used.
    used: usize,
    /// Whether the transfer cache or an empty span had slots at the last tick, and no thread has taken any of
    /// them since.
    idle: bool,
    /// Places of spans that may have holes, each once: a slot was freed or pages were populated since the
    /// last search.
    candidates: VecDeque<u32>,
    /// Released pages of all spans.
    released: usize,
}

impl Bin {
    pub(super) fn new(number: usize) -> Self {
        Self {
            number,
            class: class(number % CLASSES),
            lane: Lane::ALL[number / CLASSES],
            spans: Vec::new(),
            vacant: Vec::new(),
            heads: [NONE; FULLNESS_LISTS],
            empty: 0,
            transfer_cache: Vec::new(),
            used: 0,
            idle: false,
            candidates: VecDeque::new(),
            released: 0,
        }
    }

    pub(super) fn lane(&self) -> Lane {
        self.lane
    }

    /// How many spans the bin has.
    pub(super) fn spans(&self) -> usize {
        self.spans.len() - self.vacant.len()
    }

    /// Slots that the spans count as used, and how many of them lie in the transfer cache.
    pub(super) fn used(&self) -> (usize, usize) {
        (self.used, self.transfer_cache.len())
    }

    /// The list that a span belongs in; `None` if the bin may allocate none of its slots.
    fn fullness_list(span: &Span) -> Option<u8> {
        (!span.is_full() && !span.releasing).then(|| span.eighths())
    }

    /// Adds a span that is in no list to the right one.
    fn link(&mut self, place: u32) {
        let span = &mut self.spans[place as usize];
        span.list = Self::fullness_list(span);
        let Some(list) = span.list else {
            return;
        };
        let head = core::mem::replace(&mut self.heads[usize::from(list)], place);
        (span.next, span.previous) = (head, NONE);
        if let Some(next) = self.spans.get_mut(head as usize) {
            next.previous = place;
        }
    }

    /// Removes a span from its list.
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

    /// Moves a span to another list if it is in the wrong one.
    #[inline]
    fn relink(&mut self, place: u32) {
        let span = &self.spans[place as usize];
        if Self::fullness_list(span) != span.list {
            self.relink_slow(place);
        }
    }

    #[cold]
    fn relink_slow(&mut self, place: u32) {
        self.unlink(place);
        self.link(place);
    }

    /// Takes up to `most` slots, and returns how many and the pages that the caller must populate. Takes
    /// none only if the bin has none and `pages` finds no room for another span.
    pub(super) fn take(
        &mut self,
        most: usize,
        map: &BlockMap,
        mut pages: impl FnMut(usize) -> Option<PageRange>,
        mut out: impl FnMut(u64),
    ) -> (usize, PageSet) {
        let cached = self.transfer_cache.len().min(most);
        if cached > 0 {
            self.transfer_cache.drain(self.transfer_cache.len() - cached..).for_each(out);
            self.idle = false;
            return (cached, PageSet::NONE);
        }
        let mut taken = 0;
        while taken < most {
            // The fullest first, so that emptier spans can become empty.
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
                // A `PageSet` holds pages of one span.
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
            self.idle = false;
        }
        let before = span.released();
        let (got, fresh) = span.take(u32::try_from(most).unwrap_or(u32::MAX), out);
        self.released -= (before - span.released()).count();
        self.relink(place);
        self.used += got as usize;
        if !fresh.is_empty() {
            self.add_candidate(place);
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
            self.spans.push(Span::vacant(self.class));
            u32::try_from(self.spans.len() - 1).unwrap_or(NONE)
        });
        span.is_candidate = self.spans[place as usize].is_candidate;
        self.spans[place as usize] = span;
        map.set_span(range, self.number, place);
        self.empty += 1;
        self.link(place);
        Some(place)
    }

    /// The place of the span that holds this slot of the bin.
    fn place_of(&self, offset: u64, map: &BlockMap) -> Option<u32> {
        let chunk = index(offset >> CHUNK_SHIFT);
        let tag = map.tag(chunk).filter(|tag| tag.bin() == self.number)?;
        Some(map.place(tag.first(chunk)))
    }

    /// Takes slots back from a magazine: into the transfer cache if they fit, else to their spans.
    pub(super) fn give(
        &mut self,
        slots: impl ExactSizeIterator<Item = u64>,
        map: &BlockMap,
        emptied: &mut Vec<PageRange>,
    ) {
        if self.transfer_cache.len() + slots.len() <= magazine_limit(self.class) {
            self.transfer_cache.extend(slots);
        } else {
            slots.for_each(|slot| self.free(slot, map, emptied));
        }
    }

    /// Frees a slot in its span. Adds the pages of removed spans to `emptied`.
    fn free(&mut self, offset: u64, map: &BlockMap, emptied: &mut Vec<PageRange>) {
        let Some(place) = self.place_of(offset, map) else {
            debug_assert!(false, "{offset:#x} is no slot of {:?}", self.class);
            return;
        };
        let span = &mut self.spans[place as usize];
        span.give(offset);
        // `finish_release` decides about a span that is releasing.
        let is_empty = span.used == 0 && !span.releasing;
        let is_candidate = span.is_candidate;
        self.used -= 1;
        self.relink(place);
        if !is_candidate {
            self.add_candidate(place);
        }
        if is_empty {
            self.keep_or_remove(place, map, emptied);
        }
    }

    /// Keeps or removes a span that has lost its last used slot.
    fn keep_or_remove(&mut self, place: u32, map: &BlockMap, emptied: &mut Vec<PageRange>) {
        self.empty += 1;
        // The bin keeps one empty span (see `empty`), but none that is longer than a chunk.
        if self.empty > 1 || self.class.pages as usize > CHUNK_PAGES {
            emptied.push(self.remove(place, map));
        }
    }

    fn remove(&mut self, place: u32, map: &BlockMap) -> PageRange {
        self.unlink(place);
        self.empty -= 1;
        self.vacant.push(place);
        let mut vacant = Span::vacant(self.class);
        vacant.is_candidate = self.spans[place as usize].is_candidate;
        let span = core::mem::replace(&mut self.spans[place as usize], vacant);
        self.released -= span.released().count();
        map.clear_span(span.pages);
        span.pages
    }

    /// Empties the transfer cache, and removes spans without a used slot.
    pub(super) fn trim(&mut self, map: &BlockMap, emptied: &mut Vec<PageRange>) {
        for slot in core::mem::take(&mut self.transfer_cache) {
            self.free(slot, map, emptied);
        }
        self.remove_empty(map, emptied);
    }

    /// Trims the bin if nothing was taken from its transfer cache and its empty span since the last tick.
    pub(super) fn tick(&mut self, map: &BlockMap, emptied: &mut Vec<PageRange>) {
        if self.idle {
            self.trim(map, emptied);
        }
        self.idle = self.empty > 0 || !self.transfer_cache.is_empty();
    }

    fn remove_empty(&mut self, map: &BlockMap, emptied: &mut Vec<PageRange>) {
        while self.empty > 0 {
            let mut place = self.heads[0];
            while self.spans[place as usize].used > 0 {
                place = self.spans[place as usize].next;
            }
            emptied.push(self.remove(place, map));
        }
    }

    /// Records that the program got the slot at `offset`, or gave it back; false if no slot begins there,
    /// or if the record says so already.
    pub(super) fn watch(&mut self, offset: u64, live: bool, map: &BlockMap) -> bool {
        let place = self.place_of(offset, map);
        place.is_some_and(|place| self.spans[place as usize].watch(offset, live))
    }

    /// Whether a slot begins at `offset` and its span counts it as used.
    pub(super) fn is_used(&self, offset: u64, map: &BlockMap) -> bool {
        self.place_of(offset, map).is_some_and(|place| self.spans[place as usize].is_used(offset))
    }
}
