//! A block of pages in an arena, as raw words that several threads may touch.

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

    /// A block after [`Self::fill`].
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

    /// Writes a different number to each page. The page then compresses but is not same-filled.
    pub fn fill(self) {
        (0..self.count).for_each(|page| self.write(page, 3, page as u64 + 1));
        // A handler thread owns pages a moment longer than the faulting thread waits. `check` waits for it.
        self.arena.check().unwrap();
    }

    /// Whether the page holds the number of [`Self::fill`].
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

    /// `count` pages from `first` on.
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

/// Evicts until exactly `pages` pages are stored. It may take several attempts, because a handler thread may
/// still own a page.
pub fn evict(arena: &Arena, pages: usize) {
    for _ in 0..50 {
        arena.evict_now().unwrap();
        if arena.stats().stored_bytes == pages as u64 * PAGE_BYTES {
            return;
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("some pages stay resident: {}", arena.stats());
}

/// Waits for a change in the background. The bound is far longer than the change should take, because its
/// speed is not tested.
pub fn eventually(arena: &Arena, what: &str, holds: impl Fn(&Stats) -> bool) -> Stats {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        let stats = arena.stats();
        if holds(&stats) {
            return stats;
        }
        assert!(Instant::now() < end, "waited in vain for {what}: {stats}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The numbers of a test's rounds: at least `least`, and more until `enough` happened in the background. How
/// much happens in a round depends on the machine's speed, and too little would test nothing.
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
