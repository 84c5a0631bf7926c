//! A span of equal slots, and which of them are free.
//!
//! A *hole* is a page of a span that may have memory though no slot that reaches into it is handed out.
//! Holes can be released while the rest of the span is in use. While that happens the span is
//! *releasing*: its bin hands out none of its slots, and takes slots back as always. A released page is
//! no hole any more. It becomes an ordinary page again, and is populated, when a slot that reaches
//! into it is handed out.

use super::classes::Class;
use super::set::{Mask, PageSet};
use crate::prim::{PAGE_SIZE, PageRange};

/// No span.
pub(super) const NONE: u32 = u32::MAX;

/// Pages that are populated at a time as a span's slots are handed out for the first time.
const STRIDE: usize = 4;

/// Whether it is noted which slots a program has, in order to find those that it frees twice.
pub(super) const WATCHED: bool = cfg!(debug_assertions);

/// What is known of a span. All of it lies outside the arena.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) pages: PageRange,
    class: Class,
    /// A bit for each slot below `fresh` that is free.
    free: Box<[u64]>,
    /// Slots that are not free.
    pub(super) used: u32,
    /// Slots from here on have never been handed out.
    fresh: u32,
    /// Pages from the first on that need not be populated any more.
    populated: usize,
    /// Pages among those populated that have been released since, and have no slot that is handed out.
    released: Mask,
    /// The holes, while it is known which they are.
    holes: Option<Mask>,
    /// Whether its holes are being released.
    pub(super) releasing: bool,
    /// Whether slots have been handed out since the last look for holes.
    pub(super) warm: bool,
    /// Whether its place is in the bin's list of spans that may have holes.
    pub(super) listed: bool,
    /// No word of `free` before this one has a bit.
    hint: usize,
    /// A bit for each slot that a program has, where that is watched.
    live: Box<[u64]>,
    /// The list of the bin that it is in.
    pub(super) list: Option<u8>,
    pub(super) next: u32,
    pub(super) previous: u32,
}

impl Span {
    pub(super) fn new(pages: PageRange, class: Class) -> Self {
        let words = if pages.is_empty() { 0 } else { class.slots.div_ceil(64) as usize };
        let live = if WATCHED { vec![0; words] } else { Vec::new() };
        Self {
            pages,
            class,
            free: vec![0; words].into(),
            used: 0,
            fresh: 0,
            populated: 0,
            released: Mask::NONE,
            holes: None,
            releasing: false,
            warm: false,
            listed: false,
            hint: 0,
            live: live.into(),
            list: None,
            next: NONE,
            previous: NONE,
        }
    }

    /// A span that has no pages.
    pub(super) fn nowhere(class: Class) -> Self {
        Self::new(PageRange::new(0, 0), class)
    }

    pub(super) fn is_full(&self) -> bool {
        self.used == self.class.slots
    }

    /// Eighths of the slots that are not free, rounded down.
    #[expect(clippy::cast_possible_truncation, reason = "at most eight")]
    pub(super) fn eighths(&self) -> u8 {
        (self.used * 8 / self.class.slots) as u8
    }

    fn offset_of(&self, slot: u32) -> u64 {
        self.pages.start.offset() as u64 + u64::from(slot) * u64::from(self.class.size)
    }

    /// The slot that begins at `offset` of the arena; none if none does.
    fn slot_of(&self, offset: u64) -> Option<u32> {
        let within = u32::try_from(offset.checked_sub(self.pages.start.offset() as u64)?).ok()?;
        let slot = self.class.slot_at(within);
        (slot * self.class.size == within && slot < self.fresh).then_some(slot)
    }

    /// Hands out at most `most` slots: those that have been in use before, or else, if there are none,
    /// some that have not. Says how many, and which pages are to be populated.
    pub(super) fn take(&mut self, most: u32, mut out: impl FnMut(u64)) -> (u32, PageSet) {
        debug_assert!(!self.releasing);
        self.warm = true;
        self.holes = None;
        let mut taken = 0;
        while taken < most && self.hint < self.free.len() {
            let word = self.free[self.hint];
            if word == 0 {
                self.hint += 1;
                continue;
            }
            #[expect(clippy::cast_possible_truncation, reason = "at most 2^13 slots")]
            let slot = (self.hint * 64) as u32 + word.trailing_zeros();
            self.free[self.hint] = word & (word - 1);
            out(self.offset_of(slot));
            taken += 1;
        }
        if taken > 0 {
            self.used += taken;
            let again = self.take_released();
            return (taken, self.set(again));
        }
        taken = most.min(self.class.slots - self.fresh);
        (self.fresh..self.fresh + taken).for_each(|slot| out(self.offset_of(slot)));
        self.fresh += taken;
        self.used += taken;
        let mut pages = self.take_released();
        pages |= self.populate();
        (taken, self.set(pages))
    }

    fn set(&self, mask: Mask) -> PageSet {
        PageSet { first: self.pages.start, mask }
    }

    /// The released pages that are in use again, and are ordinary pages from now on.
    fn take_released(&mut self) -> Mask {
        if self.released.is_empty() {
            return Mask::NONE;
        }
        let again = self.released - self.unused(self.released);
        self.released = self.released - again;
        again
    }

    /// Pages from the first on that slots reach into that have been handed out at any time.
    fn pages_used(&self) -> usize {
        (self.fresh as usize * self.class.size as usize).div_ceil(PAGE_SIZE)
    }

    /// The pages that slots have been handed out from for the first time.
    fn populate(&mut self) -> Mask {
        let (from, to) = (self.populated, self.pages_used().next_multiple_of(STRIDE));
        let to = to.min(self.pages.pages()).max(from);
        self.populated = to;
        Mask::of(&(from..to))
    }

    /// Whether no slot is handed out that reaches into `page`, counted from the span's first.
    fn is_unused(&self, page: usize) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "spans are shorter than 2^32")]
        let (start, last) = ((page * PAGE_SIZE) as u32, (page * PAGE_SIZE + PAGE_SIZE - 1) as u32);
        // Slots from `fresh` on are not handed out.
        let end = (self.class.slot_at(last) + 1).min(self.fresh);
        self.are_free(self.class.slot_at(start).min(end), end)
    }

    /// Whether the slots from `start` up to `end` are free, all of which have been handed out once.
    fn are_free(&self, start: u32, end: u32) -> bool {
        let mut at = start;
        while at < end {
            let stop = end.min((at / 64 + 1) * 64);
            let bits = u64::MAX >> (64 - (stop - at)) << (at % 64);
            if self.free[at as usize / 64] & bits != bits {
                return false;
            }
            at = stop;
        }
        true
    }

    /// Those of `pages` that no slot reaches into that is handed out.
    fn unused(&self, pages: Mask) -> Mask {
        let mut unused = Mask::NONE;
        for page in pages.iter().filter(|page| self.is_unused(*page)) {
            unused |= Mask::of(&(page..page + 1));
        }
        unused
    }

    fn find_holes(&self) -> Mask {
        self.unused(Mask::of(&(0..self.populated)) - self.released)
    }

    /// The holes.
    pub(super) fn holes(&mut self) -> PageSet {
        let holes = self.holes.unwrap_or_else(|| self.find_holes());
        self.holes = Some(holes);
        self.set(holes)
    }

    /// Pages that have been released, while others of the span may be in use.
    pub(super) fn released(&self) -> Mask {
        self.released
    }

    /// Notes that holes have been released, in which nothing was handed out meanwhile.
    pub(super) fn release(&mut self, holes: Mask) {
        debug_assert!(self.releasing);
        self.releasing = false;
        self.holes = None;
        self.released |= holes;
        // Behind what was ever handed out pages are populated ahead, several at a time.
        let (used, populated) = (self.pages_used(), self.populated);
        let behind = Mask::of(&(used.min(populated)..populated)) - self.released;
        self.populated = populated.min(used.max(behind.end()));
        self.released = self.released & Mask::of(&(0..self.populated));
    }

    /// Takes a slot back.
    pub(super) fn give(&mut self, offset: u64) {
        let Some(slot) = self.slot_of(offset) else {
            debug_assert!(false, "{offset:#x} is no slot of {self:?}");
            return;
        };
        let word = slot as usize / 64;
        debug_assert!(self.free[word] >> (slot % 64) & 1 == 0, "{offset:#x} was free");
        self.free[word] |= 1 << (slot % 64);
        self.hint = self.hint.min(word);
        self.used -= 1;
        self.holes = None;
    }

    /// Notes that a program has got the slot at `offset`, or given it back; false if that cannot be:
    /// no slot begins there, or it had it already, or had it not.
    pub(super) fn watch(&mut self, offset: u64, live: bool) -> bool {
        let Some(slot) = self.slot_of(offset) else {
            return false;
        };
        let (word, bit) = (&mut self.live[slot as usize / 64], 1 << (slot % 64));
        let was = *word & bit != 0;
        *word = if live { *word | bit } else { *word & !bit };
        was != live
    }

    /// Whether the slot that begins at `offset` is handed out, to a program or a cache.
    pub(super) fn is_used(&self, offset: u64) -> bool {
        let free = |slot: u32| self.free[slot as usize / 64] >> (slot % 64) & 1 == 1;
        self.slot_of(offset).is_some_and(|slot| !free(slot))
    }

    /// Whether there is a hole.
    pub(super) fn has_holes(&self) -> bool {
        !self.find_holes().is_empty()
    }

    /// Checks the sums.
    pub(super) fn check(&self) -> Result<(), String> {
        let free: u32 = self.free.iter().map(|word| word.count_ones()).sum();
        let hidden = self.free[..self.hint].iter().any(|word| *word != 0);
        let live: u32 = self.live.iter().map(|word| word.count_ones()).sum();
        if self.fresh > self.class.slots
            || self.used + free != self.fresh
            || hidden
            || live > self.used
        {
            return Err(format!("{free} slots free, {live} live: {self:?}"));
        }
        if self.unused(self.released) != self.released || self.released.end() > self.populated {
            return Err(format!("a page was released and is in use: {self:?}"));
        }
        if self.holes.is_some_and(|holes| holes != self.find_holes()) {
            return Err(format!("the holes are {:?}: {self:?}", self.find_holes()));
        }
        Ok(())
    }
}
