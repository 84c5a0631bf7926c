//! Slabs of equally large slots, in memory of their own.
//!
//! A slab is 64 KiB and belongs to one size class while any of its slots is in use. Slots are taken
//! by one thread at a time, under a lock. They are freed by anybody, without one: a fault must
//! never wait for a lock, and a signal handler may fault while its thread holds it.
//!
//! Freeing clears the slot's bit, counts the slab's live slots down and leaves the slab on a list
//! of slabs to look at: a Treiber stack linked through a word per slab, pushed by many and taken
//! whole by the one who holds the lock, so that the usual trouble of such stacks, a node that
//! comes back while somebody holds on to it, cannot arise. A slab is on it at most once.

use super::codec::{self, Block, Chunk, MAX_BLOCK};
use crate::prim::Handle;
use crate::prim::sync::{AtomicU32, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering};
use crate::prim::units::index;
use crate::sys::memory::LazySlice;
use crate::sys::{SysError, cpu};
use std::sync::PoisonError;

/// Bytes of a slab. A model checker, to which each word costs something, gets the smallest there can be.
pub(crate) const SLAB_BYTES: usize = if cfg!(loom) { 4 << 10 } else { 64 << 10 };

/// Slots begin on multiples of this, and are multiples of it: a cache line.
const UNIT: usize = 64;
const UNITS_PER_SLAB: usize = SLAB_BYTES / UNIT;
const WORDS_PER_UNIT: usize = UNIT / 8;
/// Words of the bitmap of a slab with the smallest slots.
const BITMAP_WORDS: usize = UNITS_PER_SLAB / 64;
/// Class `c` has slots of `c` units.
const CLASSES: usize = MAX_BLOCK / UNIT;
/// A class number and this bit share a word; it says that the slab is in its class's list.
const LISTED: u32 = 1 << 31;

/// A slot: which unit of all slabs it begins at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u64);

impl Place {
    pub(super) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    pub(super) const fn raw(self) -> u64 {
        self.0
    }

    fn new(slab: u32, class: usize, slot: usize) -> Self {
        Self(u64::from(slab) * UNITS_PER_SLAB as u64 + (slot * class) as u64)
    }

    fn slab(self) -> usize {
        index(self.0) / UNITS_PER_SLAB
    }

    fn unit(self) -> usize {
        index(self.0) % UNITS_PER_SLAB
    }
}

fn slots(class: usize) -> usize {
    UNITS_PER_SLAB / class
}

#[derive(Debug)]
pub(super) struct Slabs {
    memory: LazySlice<AtomicU64>,
    /// A bit per slot that is in use.
    bitmaps: LazySlice<AtomicU64>,
    /// Slots in use, per slab.
    live: LazySlice<AtomicU32>,
    /// The class of each slab, none being 0. Written under the lock; a slab that has a live slot
    /// keeps its class, so who frees that slot may read it.
    classes: LazySlice<AtomicU32>,
    /// Slabs in which something was freed: 0 where the slab is not on the stack.
    freed_next: LazySlice<AtomicU32>,
    freed_head: AtomicU32,
    held: AtomicUsize,
    limit: usize,
    placing: Mutex<Placing>,
}

/// End of the stack of slabs to look at.
const END: u32 = 1;

fn link(slab: u32) -> u32 {
    slab + 2
}

/// What only the one who places blocks needs.
#[derive(Debug)]
struct Placing {
    /// Per class, the slab that is being filled.
    current: [Option<u32>; CLASSES + 1],
    /// Per class, slabs with free slots. An entry may be out of date.
    partial: Vec<Vec<u32>>,
    /// Slabs that were given back.
    spare: Vec<u32>,
    /// Slabs from this one on were never used.
    fresh: u32,
}

impl Slabs {
    /// At most `limit` slabs.
    pub(super) fn new(limit: usize) -> Result<Self, SysError> {
        // What a handle can tell apart; links, of 32 bits, reach further.
        let limit = limit.min((1 << (Handle::BITS - 1)) / UNITS_PER_SLAB);
        let memory = LazySlice::new(limit * SLAB_BYTES / 8)?;
        memory.keep_private()?;
        Ok(Self {
            memory,
            bitmaps: LazySlice::new(limit * BITMAP_WORDS)?,
            live: LazySlice::new(limit)?,
            classes: LazySlice::new(limit)?,
            freed_next: LazySlice::new(limit)?,
            freed_head: AtomicU32::new(END),
            held: AtomicUsize::new(0),
            limit,
            placing: Mutex::new(Placing {
                current: [None; CLASSES + 1],
                partial: vec![Vec::new(); CLASSES + 1],
                spare: Vec::new(),
                fresh: 0,
            }),
        })
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Slabs that hold memory.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn placing(&self) -> MutexGuard<'_, Placing> {
        // Whoever panicked with the lock held left only lists behind, whose entries are checked.
        self.placing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the block, unless that would take more slabs than there may be.
    pub(super) fn put(&self, block: Block<'_>) -> Option<Place> {
        let class = block.words().div_ceil(WORDS_PER_UNIT);
        let mut placing = self.placing();
        let place = self
            .place_in(&mut placing, class)
            .or_else(|| self.place_in_new(&mut placing, class))
            // A larger slot that is there is better than none.
            .or_else(|| (class + 1..=CLASSES).find_map(|c| self.place_in(&mut placing, c)))?;
        // Published with the handle, by the step that puts it into the page's word.
        let slot = &self.memory[self.first_word(place)..];
        slot[0].store(block.header(), Ordering::Relaxed);
        for (to, from) in slot[1..].iter().zip(block.chunks()) {
            to.store(u64::from_ne_bytes(*from), Ordering::Relaxed);
        }
        Some(place)
    }

    fn first_word(&self, place: Place) -> usize {
        (place.slab() * UNITS_PER_SLAB + place.unit()) * WORDS_PER_UNIT
    }

    /// A slot of a slab that has the class already.
    fn place_in(&self, placing: &mut Placing, class: usize) -> Option<Place> {
        loop {
            if let Some(slab) = placing.current[class] {
                if let Some(place) = self.take_slot(slab, class) {
                    return Some(place);
                }
                placing.current[class] = None;
            }
            let slab = match self.next_partial(placing, class) {
                Some(slab) => slab,
                None => {
                    self.look_at_freed(placing);
                    self.next_partial(placing, class)?
                }
            };
            placing.current[class] = Some(slab);
        }
    }

    fn place_in_new(&self, placing: &mut Placing, class: usize) -> Option<Place> {
        let slab = match placing.spare.pop() {
            Some(slab) => slab,
            None if (placing.fresh as usize) < self.limit => {
                placing.fresh += 1;
                placing.fresh - 1
            }
            None => return None,
        };
        // One call is cheaper than sixteen faults. Should it fail, they happen.
        let words = SLAB_BYTES / 8;
        let _ = self.memory.populate(slab as usize * words, words);
        self.held.fetch_add(1, Ordering::Relaxed);
        let listed = self.classes[slab as usize].load(Ordering::Relaxed) & LISTED;
        self.classes[slab as usize].store(class_word(class) | listed, Ordering::Release);
        placing.current[class] = Some(slab);
        self.take_slot(slab, class)
    }

    fn take_slot(&self, slab: u32, class: usize) -> Option<Place> {
        let bitmap = &self.bitmaps[slab as usize * BITMAP_WORDS..][..BITMAP_WORDS];
        let slots = slots(class);
        for (i, word) in bitmap.iter().enumerate().take(slots.div_ceil(64)) {
            // Acquire: who freed the slot has read its bytes.
            let free = !word.load(Ordering::Acquire);
            let slot = i * 64 + free.trailing_zeros() as usize;
            if free != 0 && slot < slots {
                word.fetch_or(1 << (slot % 64), Ordering::Relaxed);
                self.live[slab as usize].fetch_add(1, Ordering::Relaxed);
                return Some(Place::new(slab, class, slot));
            }
        }
        None
    }

    /// A slab of the class that may have room.
    fn next_partial(&self, placing: &mut Placing, class: usize) -> Option<u32> {
        while let Some(slab) = placing.partial[class].pop() {
            let word = self.classes[slab as usize].load(Ordering::Relaxed) & !LISTED;
            self.classes[slab as usize].store(word, Ordering::Release);
            if word == class_word(class) {
                return Some(slab);
            }
            // It was given back since, and has another class now, or none.
            if word != 0 {
                self.list(placing, slab, word as usize);
            }
        }
        None
    }

    fn list(&self, placing: &mut Placing, slab: u32, class: usize) {
        if self.classes[slab as usize].load(Ordering::Relaxed) & LISTED == 0 {
            self.classes[slab as usize].store(class_word(class) | LISTED, Ordering::Release);
            placing.partial[class].push(slab);
        }
    }

    /// Sorts the slabs in which something was freed: to be filled again, or given back.
    fn look_at_freed(&self, placing: &mut Placing) {
        // SeqCst, here and in `free`: either who frees sees the slab taken off the stack and puts
        // it there again, or we see the slot freed.
        let mut next = self.freed_head.swap(END, Ordering::SeqCst);
        while next != END {
            let slab = next - 2;
            next = self.freed_next[slab as usize].swap(0, Ordering::SeqCst);
            let class = (self.classes[slab as usize].load(Ordering::Relaxed) & !LISTED) as usize;
            if class == 0 || placing.current[class] == Some(slab) {
                continue;
            }
            if self.live[slab as usize].load(Ordering::SeqCst) == 0 {
                self.give_back(placing, slab);
            } else {
                self.list(placing, slab, class);
            }
        }
    }

    fn give_back(&self, placing: &mut Placing, slab: u32) {
        let words = SLAB_BYTES / 8;
        // Should the kernel refuse, the slab is reused all the same; it only keeps its memory.
        let _ = self.memory.discard(slab as usize * words, words);
        let listed = self.classes[slab as usize].load(Ordering::Relaxed) & LISTED;
        self.classes[slab as usize].store(listed, Ordering::Release);
        self.held.fetch_sub(1, Ordering::Relaxed);
        placing.spare.push(slab);
    }

    /// Gives back the memory of every slab that is empty, those being filled included.
    pub(super) fn trim(&self) {
        let mut placing = self.placing();
        self.look_at_freed(&mut placing);
        for class in 1..=CLASSES {
            if let Some(slab) = placing.current[class]
                && self.live[slab as usize].load(Ordering::SeqCst) == 0
            {
                placing.current[class] = None;
                self.give_back(&mut placing, slab);
            }
        }
    }

    /// The header of the block at `place`, or nothing where there cannot be a block.
    pub(super) fn header(&self, place: Place) -> Option<u64> {
        self.class_of(place)?;
        // Ordered by the page's word, through which the handle came.
        Some(self.memory[self.first_word(place)].load(Ordering::Relaxed))
    }

    /// Copies what follows the header of the block at `place` to `chunks` and gives the header, or
    /// nothing where there cannot be a block.
    pub(super) fn get(&self, place: Place, chunks: &mut [Chunk]) -> Option<u64> {
        let class = self.class_of(place)?;
        let slot = &self.memory[self.first_word(place)..][..class * WORDS_PER_UNIT];
        // Ordered by the page's word, through which the handle came.
        let header = slot[0].load(Ordering::Relaxed);
        let used = codec::bytes_of(header).div_ceil(8);
        for (to, from) in chunks.iter_mut().zip(slot.get(1..used)?) {
            *to = from.load(Ordering::Relaxed).to_ne_bytes();
        }
        Some(header)
    }

    /// Begins to load the block at `place`: as many cache lines as most blocks have, all at once, where
    /// reading it would learn from the first how many there are.
    pub(super) fn prefetch(&self, place: Place) {
        const LINES: usize = 24;
        let start = self.first_word(place);
        let block = self.memory.get(start..start + LINES * WORDS_PER_UNIT).unwrap_or_default();
        block.iter().step_by(WORDS_PER_UNIT).for_each(|line| cpu::prefetch(line));
    }

    /// Frees the slot and says how many bytes its block had, if there was one.
    pub(super) fn free(&self, place: Place) -> Option<usize> {
        let class = self.class_of(place)?;
        let bytes = codec::bytes_of(self.memory[self.first_word(place)].load(Ordering::Relaxed));
        let (slab, slot) = (place.slab(), place.unit() / class);
        let bit = 1 << (slot % 64);
        // Release: the block has been read; its slot may be written again.
        let before =
            self.bitmaps[slab * BITMAP_WORDS + slot / 64].fetch_and(!bit, Ordering::Release);
        debug_assert!(before & bit != 0, "{place:?} freed twice");
        if before & bit == 0 {
            return None;
        }
        self.live[slab].fetch_sub(1, Ordering::SeqCst);
        self.leave_for_a_look(slab);
        Some(bytes)
    }

    fn leave_for_a_look(&self, slab: usize) {
        let next = &self.freed_next[slab];
        // Whoever turns 0 into END puts the slab on the stack; all others find it there.
        if next.compare_exchange(0, END, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return;
        }
        // Slab numbers fit: `limit` was cut to that in `new`.
        let link = link(u32::try_from(slab).unwrap_or(u32::MAX - 2));
        let mut head = self.freed_head.load(Ordering::SeqCst);
        loop {
            next.store(head, Ordering::SeqCst);
            match self.freed_head.compare_exchange_weak(
                head,
                link,
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
                Ok(_) => return,
                Err(found) => head = found,
            }
        }
    }

    fn class_of(&self, place: Place) -> Option<usize> {
        let class = (self.classes.get(place.slab())?.load(Ordering::Acquire) & !LISTED) as usize;
        (class != 0 && place.unit().is_multiple_of(class)).then_some(class)
    }

    /// See [`Store::check`](super::Store::check).
    pub(super) fn check(&self, places: impl Iterator<Item = Place>) -> Result<(), String> {
        let placing = self.placing();
        let mut expected = std::collections::HashMap::new();
        for place in places {
            let class = self.class_of(place).ok_or_else(|| format!("{place:?} is in no slab"))?;
            let (slab, slot) = (place.slab(), place.unit() / class);
            let word = self.bitmaps[slab * BITMAP_WORDS + slot / 64].load(Ordering::Relaxed);
            if word >> (slot % 64) & 1 == 0 {
                return Err(format!("{place:?} is in use and marked free"));
            }
            *expected.entry(slab).or_insert(0u32) += 1;
        }
        let mut held = 0;
        for slab in 0..placing.fresh as usize {
            let bitmap = &self.bitmaps[slab * BITMAP_WORDS..][..BITMAP_WORDS];
            let marked: u32 = bitmap.iter().map(|w| w.load(Ordering::Relaxed).count_ones()).sum();
            let live = self.live[slab].load(Ordering::Relaxed);
            let used = expected.get(&slab).copied().unwrap_or(0);
            if marked != live || live != used {
                return Err(format!("slab {slab}: {marked} marked, {live} counted, {used} used"));
            }
            held += usize::from(self.classes[slab].load(Ordering::Relaxed) & !LISTED != 0);
        }
        if held == self.held() {
            Ok(())
        } else {
            Err(format!("{} slabs counted, {held} held", self.held()))
        }
    }

    #[cfg(test)]
    pub(super) fn corrupt(&self, place: Place) {
        self.memory[self.first_word(place) + 1].fetch_xor(1 << 17, Ordering::Relaxed);
    }
}

fn class_word(class: usize) -> u32 {
    // At most CLASSES, 48.
    u32::try_from(class).unwrap_or(0)
}
