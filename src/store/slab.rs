//! Slabs of equally large slots, in memory of their own.
//!
//! A slab is 64 KiB and belongs to one size class while any of its slots is in use. A thread takes a slot
//! under a lock. Any thread may free a slot, without a lock: a thread that serves a fault must never wait for
//! that lock, because a signal handler may fault while the thread that it interrupted holds it.
//!
//! Freeing clears the slot's bit, decrements the slab's count of live slots and pushes the slab onto the
//! freed stack, a Treiber stack with one link per slab. Any thread pushes; the thread that holds the lock
//! takes the whole stack. As no thread pops single slabs, the stack has no ABA problem. A slab is on it at
//! most once.

use super::codec::{self, Block, Chunk, MAX_BLOCK};
use crate::prim::Handle;
use crate::prim::sync::{AtomicU32, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering};
use crate::prim::units::index;
use crate::sys::memory::LazySlice;
use crate::sys::{SysError, cpu};
use std::sync::PoisonError;

/// Bytes of a slab. The model checker pays for each word, so it gets the smallest possible slab.
pub(crate) const SLAB_BYTES: usize = if cfg!(loom) { 4 << 10 } else { 64 << 10 };

/// Bytes of a granule, a cache line: slots begin at multiples of it and are multiples of it.
const GRANULE: usize = 64;
const GRANULES_PER_SLAB: usize = SLAB_BYTES / GRANULE;
const WORDS_PER_GRANULE: usize = GRANULE / 8;
/// Words of the bitmap of a slab with the smallest slots.
const BITMAP_WORDS: usize = GRANULES_PER_SLAB / 64;
/// Slots of class `c` have `c` granules.
const CLASSES: usize = MAX_BLOCK / GRANULE;
/// The bit of [`Slabs::classes`] that says that the slab is in the partial list of a class.
const LISTED: u32 = 1 << 31;

/// A slot, by its first granule, counted over all slabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotId(u64);

impl SlotId {
    pub(super) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    pub(super) const fn raw(self) -> u64 {
        self.0
    }

    fn new(slab: u32, class: usize, slot: usize) -> Self {
        Self(u64::from(slab) * GRANULES_PER_SLAB as u64 + (slot * class) as u64)
    }

    fn slab(self) -> usize {
        index(self.0) / GRANULES_PER_SLAB
    }

    fn granule(self) -> usize {
        index(self.0) % GRANULES_PER_SLAB
    }
}

fn slots(class: usize) -> usize {
    GRANULES_PER_SLAB / class
}

#[derive(Debug)]
pub(super) struct Slabs {
    memory: LazySlice<AtomicU64>,
    /// A bit per slot: set while the slot is in use.
    bitmaps: LazySlice<AtomicU64>,
    /// Slots in use, per slab.
    live: LazySlice<AtomicU32>,
    /// The class of each slab, or 0, and [`LISTED`]. Written under the lock. A slab with a live slot keeps
    /// its class, so the thread that frees the slot may read it.
    classes: LazySlice<AtomicU32>,
    /// The freed stack: the link of each slab, or 0 while the slab is not on the stack.
    freed_next: LazySlice<AtomicU32>,
    freed_head: AtomicU32,
    held: AtomicUsize,
    limit: usize,
    lists: Mutex<Lists>,
}

/// The link at the bottom of the freed stack.
const END: u32 = 1;

fn link(slab: u32) -> u32 {
    slab + 2
}

/// The lists from which slots are taken, under the lock.
#[derive(Debug)]
struct Lists {
    /// Per class, the slab from which slots are taken.
    current: [Option<u32>; CLASSES + 1],
    /// Per class, the other slabs with free slots. An entry may be out of date.
    partial: Vec<Vec<u32>>,
    /// Slabs whose memory was discarded.
    discarded: Vec<u32>,
    /// The first slab that was never used. All slabs above it were never used either.
    fresh: u32,
}

impl Slabs {
    /// At most `limit` slabs.
    pub(super) fn new(limit: usize) -> Result<Self, SysError> {
        // The bits of a handle limit the number of slabs. Links have 32 bits, enough for more slabs.
        let limit = limit.min((1 << (Handle::BITS - 1)) / GRANULES_PER_SLAB);
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
            lists: Mutex::new(Lists {
                current: [None; CLASSES + 1],
                partial: vec![Vec::new(); CLASSES + 1],
                discarded: Vec::new(),
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

    fn lists(&self) -> MutexGuard<'_, Lists> {
        // A thread that panicked with the lock held leaves the lists usable: each entry is checked.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the block. `None` if that needs more slabs than the limit.
    pub(super) fn put(&self, block: Block<'_>) -> Option<SlotId> {
        let class = block.words().div_ceil(WORDS_PER_GRANULE);
        let mut lists = self.lists();
        let id = self
            .take_slot_of_class(&mut lists, class)
            .or_else(|| self.take_slot_of_new_slab(&mut lists, class))
            // No slab is left, so the block gets a larger slot.
            .or_else(|| {
                (class + 1..=CLASSES).find_map(|c| self.take_slot_of_class(&mut lists, c))
            })?;
        // The store of the handle to the page word publishes these words.
        let slot = &self.memory[self.first_word(id)..];
        slot[0].store(block.header(), Ordering::Relaxed);
        for (to, from) in slot[1..].iter().zip(block.chunks()) {
            to.store(u64::from_ne_bytes(*from), Ordering::Relaxed);
        }
        Some(id)
    }

    fn first_word(&self, id: SlotId) -> usize {
        (id.slab() * GRANULES_PER_SLAB + id.granule()) * WORDS_PER_GRANULE
    }

    /// Takes a slot of a slab that already has the class.
    fn take_slot_of_class(&self, lists: &mut Lists, class: usize) -> Option<SlotId> {
        loop {
            if let Some(slab) = lists.current[class] {
                if let Some(id) = self.take_slot_of_slab(slab, class) {
                    return Some(id);
                }
                lists.current[class] = None;
            }
            let slab = match self.next_partial(lists, class) {
                Some(slab) => slab,
                None => {
                    self.drain_freed(lists);
                    self.next_partial(lists, class)?
                }
            };
            lists.current[class] = Some(slab);
        }
    }

    fn take_slot_of_new_slab(&self, lists: &mut Lists, class: usize) -> Option<SlotId> {
        let slab = match lists.discarded.pop() {
            Some(slab) => slab,
            None if (lists.fresh as usize) < self.limit => {
                lists.fresh += 1;
                lists.fresh - 1
            }
            None => return None,
        };
        // One call is cheaper than sixteen faults. If it fails, the faults happen.
        let words = SLAB_BYTES / 8;
        let _ = self.memory.populate(slab as usize * words, words);
        self.held.fetch_add(1, Ordering::Relaxed);
        let listed = self.classes[slab as usize].load(Ordering::Relaxed) & LISTED;
        self.classes[slab as usize].store(class_word(class) | listed, Ordering::Release);
        lists.current[class] = Some(slab);
        self.take_slot_of_slab(slab, class)
    }

    fn take_slot_of_slab(&self, slab: u32, class: usize) -> Option<SlotId> {
        let bitmap = &self.bitmaps[slab as usize * BITMAP_WORDS..][..BITMAP_WORDS];
        let slots = slots(class);
        for (i, word) in bitmap.iter().enumerate().take(slots.div_ceil(64)) {
            // Acquire: the thread that freed the slot has finished reading it.
            let free = !word.load(Ordering::Acquire);
            let slot = i * 64 + free.trailing_zeros() as usize;
            if free != 0 && slot < slots {
                word.fetch_or(1 << (slot % 64), Ordering::Relaxed);
                self.live[slab as usize].fetch_add(1, Ordering::Relaxed);
                return Some(SlotId::new(slab, class, slot));
            }
        }
        None
    }

    /// Takes a slab off the partial list of the class.
    fn next_partial(&self, lists: &mut Lists, class: usize) -> Option<u32> {
        while let Some(slab) = lists.partial[class].pop() {
            let word = self.classes[slab as usize].load(Ordering::Relaxed) & !LISTED;
            self.classes[slab as usize].store(word, Ordering::Release);
            if word == class_word(class) {
                return Some(slab);
            }
            // Its memory was discarded meanwhile: it has another class now, or none.
            if word != 0 {
                self.add_partial(lists, slab, word as usize);
            }
        }
        None
    }

    fn add_partial(&self, lists: &mut Lists, slab: u32, class: usize) {
        if self.classes[slab as usize].load(Ordering::Relaxed) & LISTED == 0 {
            self.classes[slab as usize].store(class_word(class) | LISTED, Ordering::Release);
            lists.partial[class].push(slab);
        }
    }

    /// Takes the freed stack. Its empty slabs are discarded, the rest go to the partial lists.
    fn drain_freed(&self, lists: &mut Lists) {
        // SeqCst, here and in `free`: either the freeing thread sees that the slab is off the stack and
        // pushes it again, or this thread sees the freed slot.
        let mut next = self.freed_head.swap(END, Ordering::SeqCst);
        while next != END {
            let slab = next - 2;
            next = self.freed_next[slab as usize].swap(0, Ordering::SeqCst);
            let class = (self.classes[slab as usize].load(Ordering::Relaxed) & !LISTED) as usize;
            if class == 0 || lists.current[class] == Some(slab) {
                continue;
            }
            if self.live[slab as usize].load(Ordering::SeqCst) == 0 {
                self.discard(lists, slab);
            } else {
                self.add_partial(lists, slab, class);
            }
        }
    }

    fn discard(&self, lists: &mut Lists, slab: u32) {
        let words = SLAB_BYTES / 8;
        // If the kernel refuses, the slab keeps its memory and is reused all the same.
        let _ = self.memory.discard(slab as usize * words, words);
        let listed = self.classes[slab as usize].load(Ordering::Relaxed) & LISTED;
        self.classes[slab as usize].store(listed, Ordering::Release);
        self.held.fetch_sub(1, Ordering::Relaxed);
        lists.discarded.push(slab);
    }

    /// Discards the memory of every empty slab, including the current slabs.
    pub(super) fn trim(&self) {
        let mut lists = self.lists();
        self.drain_freed(&mut lists);
        for class in 1..=CLASSES {
            if let Some(slab) = lists.current[class]
                && self.live[slab as usize].load(Ordering::SeqCst) == 0
            {
                lists.current[class] = None;
                self.discard(&mut lists, slab);
            }
        }
    }

    /// The header of the block in the slot, or `None` if no slot begins there.
    pub(super) fn header(&self, id: SlotId) -> Option<u64> {
        self.class_of(id)?;
        // The page word, from which the handle was read, orders this load.
        Some(self.memory[self.first_word(id)].load(Ordering::Relaxed))
    }

    /// Copies the block in the slot without its header to `chunks`, and returns the header. `None` if no
    /// slot begins there, or if the slot is shorter than the header says.
    pub(super) fn get(&self, id: SlotId, chunks: &mut [Chunk]) -> Option<u64> {
        let class = self.class_of(id)?;
        let slot = &self.memory[self.first_word(id)..][..class * WORDS_PER_GRANULE];
        // The page word, from which the handle was read, orders this load.
        let header = slot[0].load(Ordering::Relaxed);
        let used = codec::bytes_of(header).div_ceil(8);
        for (to, from) in chunks.iter_mut().zip(slot.get(1..used)?) {
            *to = from.load(Ordering::Relaxed).to_ne_bytes();
        }
        Some(header)
    }

    /// Prefetches the cache lines of the block, as many as most blocks have. A read would first have to load
    /// the header to learn their number.
    pub(super) fn prefetch(&self, id: SlotId) {
        const LINES: usize = 24;
        let start = self.first_word(id);
        let block = self.memory.get(start..start + LINES * WORDS_PER_GRANULE).unwrap_or_default();
        block.iter().step_by(WORDS_PER_GRANULE).for_each(|line| cpu::prefetch(line));
    }

    /// Frees the slot and returns the bytes of its block, or `None` if the slot was not in use.
    pub(super) fn free(&self, id: SlotId) -> Option<usize> {
        let class = self.class_of(id)?;
        let bytes = codec::bytes_of(self.memory[self.first_word(id)].load(Ordering::Relaxed));
        let (slab, slot) = (id.slab(), id.granule() / class);
        let bit = 1 << (slot % 64);
        // Release: this thread has finished reading the block, so the slot may be written again.
        let before =
            self.bitmaps[slab * BITMAP_WORDS + slot / 64].fetch_and(!bit, Ordering::Release);
        debug_assert!(before & bit != 0, "{id:?} freed twice");
        if before & bit == 0 {
            return None;
        }
        self.live[slab].fetch_sub(1, Ordering::SeqCst);
        self.push_freed(slab);
        Some(bytes)
    }

    /// Pushes the slab onto the freed stack, unless it is there.
    fn push_freed(&self, slab: usize) {
        let next = &self.freed_next[slab];
        // The thread that turns 0 into END pushes the slab. It is on the stack for every other thread.
        if next.compare_exchange(0, END, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return;
        }
        // Slab numbers fit, because `new` limits them.
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

    fn class_of(&self, id: SlotId) -> Option<usize> {
        let class = (self.classes.get(id.slab())?.load(Ordering::Acquire) & !LISTED) as usize;
        (class != 0 && id.granule().is_multiple_of(class)).then_some(class)
    }

    /// See [`Store::check`](super::Store::check).
    pub(super) fn check(&self, ids: impl Iterator<Item = SlotId>) -> Result<(), String> {
        let lists = self.lists();
        let mut expected = std::collections::HashMap::new();
        for id in ids {
            let class = self.class_of(id).ok_or_else(|| format!("{id:?} is in no slab"))?;
            let (slab, slot) = (id.slab(), id.granule() / class);
            let word = self.bitmaps[slab * BITMAP_WORDS + slot / 64].load(Ordering::Relaxed);
            if word >> (slot % 64) & 1 == 0 {
                return Err(format!("{id:?} is in use and marked free"));
            }
            *expected.entry(slab).or_insert(0u32) += 1;
        }
        let mut held = 0;
        for slab in 0..lists.fresh as usize {
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
    pub(super) fn corrupt(&self, id: SlotId) {
        self.memory[self.first_word(id) + 1].fetch_xor(1 << 17, Ordering::Relaxed);
    }
}

fn class_word(class: usize) -> u32 {
    // At most CLASSES, 48.
    u32::try_from(class).unwrap_or(0)
}
