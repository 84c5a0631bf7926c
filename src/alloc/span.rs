//! A span of equal slots, and which of them are free.

use super::classes::Class;
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
    /// No word of `free` before this one has a bit.
    hint: usize,
    /// A bit for each slot that a program has, where that is watched.
    live: Box<[u64]>,
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
            hint: 0,
            live: live.into(),
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
    pub(super) fn eighths(&self) -> usize {
        (self.used * 8 / self.class.slots) as usize
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
    pub(super) fn take(&mut self, most: u32, mut out: impl FnMut(u64)) -> (u32, Option<PageRange>) {
        let mut taken = 0;
        while taken < most && self.hint < self.free.len() {
            let word = self.free[self.hint];
            if word == 0 {
                self.hint += 1;
                continue;
            }
            let slot = self.hint * 64 + word.trailing_zeros() as usize;
            self.free[self.hint] = word & (word - 1);
            #[expect(clippy::cast_possible_truncation, reason = "at most 2^13 slots")]
            out(self.offset_of(slot as u32));
            taken += 1;
        }
        if taken > 0 {
            self.used += taken;
            return (taken, None);
        }
        taken = most.min(self.class.slots - self.fresh);
        (self.fresh..self.fresh + taken).for_each(|slot| out(self.offset_of(slot)));
        self.fresh += taken;
        self.used += taken;
        (taken, self.populate())
    }

    /// The pages that slots have been handed out from for the first time.
    fn populate(&mut self) -> Option<PageRange> {
        let needed = (self.fresh as usize * self.class.size as usize).div_ceil(PAGE_SIZE);
        let (from, to) = (self.populated, needed.next_multiple_of(STRIDE));
        let to = to.min(self.pages.pages());
        self.populated = self.populated.max(to);
        let start = self.pages.start.0;
        (to > from).then(|| PageRange::new(start + from, start + to))
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
        Ok(())
    }
}
