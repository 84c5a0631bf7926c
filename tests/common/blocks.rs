//! Blocks each of whose words names its block and its place.

#![allow(dead_code, unsafe_code, reason = "each test program uses a part of it")]

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use thermocline::Arena;

/// Numbers that look random, the same for the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: usize) -> usize {
        ((self.next() >> 11) % bound as u64) as usize
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

pub fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

/// A block of an arena. Each word holds the block's stamp and its own place, so that no two words of any
/// blocks are equal.
#[derive(Debug)]
pub struct Block {
    pub pointer: NonNull<u8>,
    pub layout: Layout,
    /// Bytes that the allocator returned, at least as many as the layout asks for.
    pub usable: usize,
    stamp: u64,
}

// SAFETY: any thread may use an arena's memory, and one at a time does.
unsafe impl Send for Block {}

impl Block {
    /// Stamps the block that an arena returned for `layout`. The stamp has 40 bits.
    pub fn new(given: NonNull<[u8]>, layout: Layout, stamp: u64) -> Self {
        assert!(given.len() >= layout.size(), "{} bytes for {layout:?}", given.len());
        let pointer = given.cast::<u8>();
        assert!(pointer.addr().get().is_multiple_of(layout.align()), "{pointer:?} for {layout:?}");
        let mut this = Self { pointer, layout, usable: given.len(), stamp };
        this.restamp(stamp);
        this
    }

    /// Allocates one in the default lane.
    pub fn allocate(arena: &Arena, layout: Layout, stamp: u64) -> Self {
        Self::new(arena.allocate(layout).unwrap(), layout, stamp)
    }

    /// Frees it.
    pub fn free(self, arena: &Arena) {
        // SAFETY: allocated with this layout, which `resized` updates; freed once, because `self` is
        // consumed.
        unsafe { arena.deallocate(self.pointer, self.layout) }
    }

    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    pub fn range(&self) -> *const [u8] {
        std::ptr::slice_from_raw_parts(self.pointer.as_ptr(), self.layout.size())
    }

    pub fn address(&self) -> usize {
        self.pointer.addr().get()
    }

    fn word(&self, at: usize) -> [u8; 8] {
        (self.stamp << 24 | at as u64).to_ne_bytes()
    }

    /// Writes all of it with another stamp.
    pub fn restamp(&mut self, stamp: u64) {
        assert!(stamp < 1 << 40 && self.layout.size() / 8 < 1 << 24);
        self.stamp = stamp;
        self.write_from(0);
    }

    /// Writes its words from `first` on.
    fn write_from(&mut self, first: usize) {
        let size = self.layout.size();
        for at in first..size.div_ceil(8) {
            let word = self.word(at);
            let len = (size - at * 8).min(8);
            // SAFETY: `len` bytes within the block, which this value owns.
            unsafe {
                self.pointer.add(at * 8).copy_from_nonoverlapping(NonNull::from(&word).cast(), len);
            }
        }
    }

    /// How many words of the first `bytes` bytes are wrong.
    pub fn wrong_within(&self, bytes: usize) -> u64 {
        let bytes = bytes.min(self.layout.size());
        let mut wrong = 0;
        for at in 0..bytes.div_ceil(8) {
            let len = (bytes - at * 8).min(8);
            let mut found = [0; 8];
            // SAFETY: `len` bytes within the block, to which no thread writes meanwhile.
            unsafe {
                self.pointer
                    .add(at * 8)
                    .copy_to_nonoverlapping(NonNull::from(&mut found).cast(), len);
            }
            wrong += u64::from(found[..len] != self.word(at)[..len]);
        }
        wrong
    }

    /// How many words are wrong.
    pub fn wrong(&self) -> u64 {
        self.wrong_within(self.layout.size())
    }

    /// How many words are wrong in the bytes that `peek` returns. The buffer may hold any bytes.
    pub fn wrong_at_a_peek(&self, arena: &Arena, buffer: &mut Vec<u8>) -> u64 {
        // SAFETY: the block's own bytes, all written, to which no thread writes meanwhile.
        let bytes = unsafe { &*self.range() };
        let peeked = arena.peek(bytes, buffer).unwrap();
        assert_eq!(peeked.len(), bytes.len());
        let words = peeked.chunks(8).enumerate();
        words.filter(|(at, found)| **found != self.word(*at)[..found.len()]).count() as u64
    }

    /// Takes over the result of `grow` or `shrink`. Returns how many of the old words are wrong, and writes
    /// the new ones.
    pub fn resized(&mut self, given: NonNull<[u8]>, layout: Layout) -> u64 {
        assert!(given.len() >= layout.size(), "{} bytes for {layout:?}", given.len());
        let kept = self.layout.size().min(layout.size());
        (self.pointer, self.layout, self.usable) = (given.cast(), layout, given.len());
        let aligned = self.address().is_multiple_of(layout.align());
        assert!(aligned, "{:?} for {layout:?}", self.pointer);
        let wrong = self.wrong_within(kept);
        self.write_from(kept / 8);
        wrong
    }
}

/// How many bytes of a block are not zero.
pub fn bytes_not_zero(given: NonNull<[u8]>, from: usize, to: usize) -> u64 {
    // SAFETY: an allocator returned these bytes to the caller, and to no other thread.
    let bytes = unsafe { std::slice::from_raw_parts(given.cast::<u8>().as_ptr(), given.len()) };
    bytes[from..to].iter().filter(|byte| **byte != 0).count() as u64
}

/// The words of an arena that belong to a block. No two blocks may have the same word.
pub struct Claims {
    base: usize,
    words: Vec<AtomicU64>,
}

/// The first address of an arena in which nothing is allocated yet.
pub fn base_of(arena: &Arena) -> usize {
    // A block that takes all of the arena begins at its first address.
    let layout = layout(arena.stats().reserved_bytes as usize, 4096);
    let all = arena.allocate(layout).unwrap().cast::<u8>();
    // SAFETY: just allocated, with this layout.
    unsafe { arena.deallocate(all, layout) };
    arena.trim();
    all.addr().get()
}

impl Claims {
    /// For an arena in which nothing is allocated yet.
    pub fn new(arena: &Arena) -> Self {
        let words = (0..arena.stats().reserved_bytes / 512).map(|_| AtomicU64::new(0)).collect();
        Self { base: base_of(arena), words }
    }

    /// The numbers of the map's words for the block, each with the block's bits.
    fn bits(&self, block: &Block) -> impl Iterator<Item = (usize, u64)> {
        let first = (block.address() - self.base) / 8;
        let end = first + block.layout.size().div_ceil(8);
        (first / 64..end.div_ceil(64)).map(move |word| {
            let (from, to) = (first.max(word * 64), end.min(word * 64 + 64));
            (word, u64::MAX >> (64 - (to - from)) << (from % 64))
        })
    }

    /// Marks the block's words; false if another block has one of them.
    pub fn claim(&self, block: &Block) -> bool {
        let before =
            |(word, bits): (usize, u64)| self.words[word].fetch_or(bits, Ordering::Relaxed) & bits;
        // Mark all words, also after a collision.
        self.bits(block).map(before).fold(0, |all, some| all | some) == 0
    }

    /// Clears the block's words.
    pub fn release(&self, block: &Block) {
        for (word, bits) in self.bits(block) {
            self.words[word].fetch_and(!bits, Ordering::Relaxed);
        }
    }

    /// Whether no word belongs to a block.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| word.load(Ordering::Relaxed) == 0)
    }
}

/// Evicts until no page is resident.
pub fn evict_everything(arena: &Arena) {
    for _ in 0..50 {
        arena.evict_now().unwrap();
        if arena.stats().resident_bytes == 0 {
            return;
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("some pages stay resident: {}", arena.stats());
}
