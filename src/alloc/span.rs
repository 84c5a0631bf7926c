//! A span of equal slots, and which of them are free.
//!
//! A *hole* is a page that may have memory although every slot that reaches into it is free. The heap
//! releases holes while the rest of the span is in use. Meanwhile the span is *releasing*: its bin
//! allocates none of its slots, but takes freed slots back. A *released* page is no longer a hole. It
//! becomes an ordinary page again, and is populated, when a slot that reaches into it is allocated.
//!
//! Here a slot is *used* if it is not free: the program has it, or a cache.

use super::classes::Class;
use super::set::{Mask, PageSet};
use crate::prim::{PAGE_SIZE, PageRange};

/// No span.
pub(super) const NONE: u32 = u32::MAX;

/// Pages that are populated at a time as slots are allocated for the first time.
const POPULATE_STEP: usize = 4;

/// Whether the heap records which blocks the program has, to find double frees.
pub(super) const TRACK_LIVE: bool = cfg!(debug_assertions);

/// A span's metadata, which lies outside the arena.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) pages: PageRange,
    class: Class,
    /// A bit for each slot below `fresh`: set if it is free.
    free: Box<[u64]>,
    /// How many slots are used.
    pub(super) used: u32,
    /// Slots from this one on have never been allocated.
    fresh: u32,
    /// Pages before this one were populated once.
    populated: usize,
    /// Populated pages that were released since, and into which no used slot reaches.
    released: Mask,
    /// The holes, if computed since the last change.
    holes: Option<Mask>,
    /// Whether a thread is releasing its holes.
    pub(super) releasing: bool,
    /// Whether a slot was allocated since the last search for holes.
    pub(super) active: bool,
    /// Whether its place is in the bin's `candidates`.
    pub(super) is_candidate: bool,
    /// No word of `free` before this one has a bit set.
    hint: usize,
    /// A bit for each slot that the program has; debug builds only.
    live: Box<[u64]>,
    /// The fullness list of the bin that it is in.
    pub(super) list: Option<u8>,
    pub(super) next: u32,
    pub(super) previous: u32,
}

impl Span {
    pub(super) fn new(pages: PageRange, class: Class) -> Self {
        let words = if pages.is_empty() { 0 } else { class.slots.div_ceil(64) as usize };
        let live = if TRACK_LIVE { vec![0; words] } else { Vec::new() };
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
            active: false,
            is_candidate: false,
            hint: 0,
            live: live.into(),
            list: None,
            next: NONE,
            previous: NONE,
        }
    }

    /// Fills a vacant place of the bin: a span without pages.
    pub(super) fn vacant(class: Class) -> Self {
        Self::new(PageRange::new(0, 0), class)
    }

    pub(super) fn is_full(&self) -> bool {
        self.used == self.class.slots
    }

    /// How many eighths of the slots are used, rounded down.
    #[expect(clippy::cast_possible_truncation, reason = "at most eight")]
    pub(super) fn eighths(&self) -> u8 {
        (self.used * 8 / self.class.slots) as u8
    }

    fn offset_of(&self, slot: u32) -> u64 {
        self.pages.start.offset() as u64 + u64::from(slot) * u64::from(self.class.size)
    }

    /// The slot that begins at `offset` of the arena, if one does and was ever allocated.
    fn slot_of(&self, offset: u64) -> Option<u32> {
        let within = u32::try_from(offset.checked_sub(self.pages.start.offset() as u64)?).ok()?;
        let slot = self.class.slot_at(within);
        (slot * self.class.size == within && slot < self.fresh).then_some(slot)
    }

    /// Allocates at most `most` slots: freed ones, or if there are none, slots that were never allocated.
    /// Returns how many, and the pages that the caller must populate.
    pub(super) fn take(&mut self, most: u32, mut out: impl FnMut(u64)) -> (u32, PageSet) {
        debug_assert!(!self.releasing);
        self.active = true;
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

    /// Takes the pages out of `released` into which used slots reach again.
    fn take_released(&mut self) -> Mask {
        if self.released.is_empty() {
            return Mask::NONE;
        }
        let again = self.released - self.unused(self.released);
        self.released = self.released - again;
        again
    }

    /// Slots that were allocated at any time reach into the pages before this one.
    fn pages_used(&self) -> usize {
        (self.fresh as usize * self.class.size as usize).div_ceil(PAGE_SIZE)
    }

    /// Advances `populated`, and returns the pages that the caller must populate.
    fn populate(&mut self) -> Mask {
        let (from, to) = (self.populated, self.pages_used().next_multiple_of(POPULATE_STEP));
        let to = to.min(self.pages.pages()).max(from);
        self.populated = to;
        Mask::of(&(from..to))
    }

    /// Whether no used slot reaches into `page`, counted from the span's first.
    fn is_unused(&self, page: usize) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "spans are shorter than 2^32")]
        let (start, last) = ((page * PAGE_SIZE) as u32, (page * PAGE_SIZE + PAGE_SIZE - 1) as u32);
        // Slots from `fresh` on are not used.
        let end = (self.class.slot_at(last) + 1).min(self.fresh);
        self.are_free(self.class.slot_at(start).min(end), end)
    }

    /// Whether the slots from `start` up to `end`, none above `fresh`, are free.
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

    /// The pages of `pages` into which no used slot reaches.
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

    pub(super) fn holes(&mut self) -> PageSet {
        let holes = self.holes.unwrap_or_else(|| self.find_holes());
        self.holes = Some(holes);
        self.set(holes)
    }

    /// The released pages.
    pub(super) fn released(&self) -> Mask {
        self.released
    }

    /// Ends the releasing state. `holes` were released, and no slot was allocated meanwhile.
    pub(super) fn release(&mut self, holes: Mask) {
        debug_assert!(self.releasing);
        self.releasing = false;
        self.holes = None;
        self.released |= holes;
        // Released pages behind the last slot that was ever allocated count as never populated.
        let (used, populated) = (self.pages_used(), self.populated);
        let behind = Mask::of(&(used.min(populated)..populated)) - self.released;
        self.populated = populated.min(used.max(behind.end()));
        self.released = self.released & Mask::of(&(0..self.populated));
    }

    /// Frees the slot at `offset`.
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

    /// Records that the program got the slot at `offset`, or gave it back; false if no slot begins
    /// there, or if the record says so already.
    pub(super) fn watch(&mut self, offset: u64, live: bool) -> bool {
        let Some(slot) = self.slot_of(offset) else {
            return false;
        };
        let (word, bit) = (&mut self.live[slot as usize / 64], 1 << (slot % 64));
        let was = *word & bit != 0;
        *word = if live { *word | bit } else { *word & !bit };
        was != live
    }

    /// Whether a slot begins at `offset` and is used.
    pub(super) fn is_used(&self, offset: u64) -> bool {
        let free = |slot: u32| self.free[slot as usize / 64] >> (slot % 64) & 1 == 1;
        self.slot_of(offset).is_some_and(|slot| !free(slot))
    }

    pub(super) fn has_holes(&self) -> bool {
        !self.find_holes().is_empty()
    }

    /// Checks the invariants.
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
            return Err(format!("a released page is in use: {self:?}"));
        }
        if self.holes.is_some_and(|holes| holes != self.find_holes()) {
            return Err(format!("the holes are {:?}: {self:?}", self.find_holes()));
        }
        Ok(())
    }
}
