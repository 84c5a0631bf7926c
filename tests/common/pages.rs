//! A block of pages of an arena, as raw words that several threads may touch.

#![allow(dead_code, unsafe_code, reason = "each test program uses a part of it")]

use std::alloc::Layout;
use std::thread;
use std::time::{Duration, Instant};
use thermocline::{Arena, Stats};

pub const PAGE: usize = 4096;
/// The same as the statistics count.
pub const PAGE_BYTES: u64 = PAGE as u64;

#[derive(Clone, Copy)]
pub struct Pages<'a> {
    pub arena: &'a Arena,
    pub address: usize,
    pub count: usize,
}

impl<'a> Pages<'a> {
    pub fn new(arena: &'a Arena, count: usize) -> Self {
        let block = arena.allocate_zeroed(Self::layout(count)).unwrap();
        Self { arena, address: block.cast::<u8>().addr().get(), count }
    }

    /// A block of which each page holds [`Self::fill`]'s number.
    pub fn filled(arena: &'a Arena, count: usize) -> Self {
        let pages = Self::new(arena, count);
        pages.fill();
        pages
    }

    fn layout(count: usize) -> Layout {
        Layout::from_size_align(count * PAGE, PAGE).unwrap()
    }

    pub fn word(self, page: usize, word: usize) -> *mut u64 {
        assert!(page < self.count && word < PAGE / 8);
        std::ptr::with_exposed_provenance_mut(self.address + page * PAGE + word * 8)
    }

    pub fn write(self, page: usize, word: usize, value: u64) {
        // SAFETY: within the block; a word has one writer at a time.
        unsafe { self.word(page, word).write_volatile(value) }
    }

    pub fn read(self, page: usize, word: usize) -> u64 {
        // SAFETY: within the block.
        unsafe { self.word(page, word).read_volatile() }
    }

    /// Writes a number of its own to each page, which then compresses but is not the same all over.
    pub fn fill(self) {
        (0..self.count).for_each(|page| self.write(page, 3, page as u64 + 1));
        // A toucher goes on a moment before the handler is done with its pages; this waits for that.
        self.arena.check().unwrap();
    }

    /// Whether the page holds what [`Self::fill`] has written there.
    pub fn is_right(self, page: usize) -> bool {
        self.read(page, 3) == page as u64 + 1
    }

    pub fn verify(self) {
        (0..self.count).for_each(|page| assert!(self.is_right(page), "page {page}"));
    }

    /// All of the block.
    pub fn range(self) -> *const [u64] {
        self.part(0, self.count)
    }

    /// So many pages from `first` on.
    pub fn part(self, first: usize, count: usize) -> *const [u64] {
        assert!(first + count <= self.count);
        let start = std::ptr::with_exposed_provenance(self.address + first * PAGE);
        std::ptr::slice_from_raw_parts(start, count * PAGE / 8)
    }

    pub fn free(self) {
        let block = std::ptr::NonNull::new(self.word(0, 0).cast()).unwrap();
        // SAFETY: allocated with this layout in `new`, and freed once.
        unsafe { self.arena.deallocate(block, Self::layout(self.count)) }
    }
}

/// Evicts until that many pages are stored. Now and then a handler is not done with a page, whose
/// toucher has gone on, so that it stays the first time.
pub fn evict(arena: &Arena, pages: usize) {
    for _ in 0..50 {
        arena.evict_now().unwrap();
        if arena.stats().stored_bytes == pages as u64 * PAGE_BYTES {
            return;
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("not everything goes: {}", arena.stats());
}

/// Waits for what happens in the background. Its own time is no part of what is tested, so the
/// bound is far beyond any that would be right.
pub fn eventually(arena: &Arena, what: &str, holds: impl Fn(&Stats) -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !holds(&arena.stats()) {
        assert!(Instant::now() < end, "{what} did not come to pass: {}", arena.stats());
        thread::sleep(Duration::from_millis(2));
    }
}

/// Numbers the rounds of a test: at least so many, and more until enough has come to pass in the
/// background. How much does in a round is a matter of speed, and too little would test nothing.
pub fn rounds(
    arena: &Arena,
    least: usize,
    what: &str,
    enough: impl Fn(&Stats) -> bool,
) -> impl Iterator<Item = usize> {
    let end = Instant::now() + Duration::from_secs(120);
    (0..).take_while(move |round| {
        if *round < least {
            return true;
        }
        let stats = arena.stats();
        let over = enough(&stats);
        assert!(over || Instant::now() < end, "too little {what}: {stats}");
        !over
    })
}
