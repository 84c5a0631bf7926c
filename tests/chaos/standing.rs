//! Pages that stay allocated as long as an arena lives. Threads and the signal handlers that interrupt them
//! add to a counter in each page. A write that an eviction loses is missing in the sum.

use super::common::pages::{PAGE, Pages};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use thermocline::Arena;

/// Words of a page that are not constant, among them its number and its counter.
const HEADER: usize = 8;
const NUMBER: usize = 0;
const COUNT: usize = 1;
const WORDS: usize = PAGE / 8;

/// The content of the other words. One page in eight does not compress. One in eight repeats one word,
/// except in its header.
fn content(page: usize, at: usize) -> u64 {
    let mix = |n: u64| {
        let n = (n ^ n >> 31).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (n ^ n >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) ^ n >> 32
    };
    match page % 8 {
        3 => mix((page * WORDS + at) as u64 + 1),
        5 => mix(page as u64) | 1,
        _ => (page as u64) << 32 | (at as u64 / 4),
    }
}

pub static STANDING: Standing = Standing {
    address: AtomicUsize::new(0),
    pages: AtomicUsize::new(0),
    inside: AtomicUsize::new(0),
    added: AtomicU64::new(0),
    checked: AtomicU64::new(0),
    wrong: AtomicU64::new(0),
};

/// A block of standing pages, one at a time. It is in a static, so that a signal handler finds it.
pub struct Standing {
    /// 0 while there is no block.
    address: AtomicUsize,
    pages: AtomicUsize,
    /// Handlers and threads that use the pages now.
    inside: AtomicUsize,
    added: AtomicU64,
    /// Bytes that were compared.
    pub checked: AtomicU64,
    pub wrong: AtomicU64,
}

impl Standing {
    pub fn open(&self, arena: &Arena, pages: usize) {
        let block = Pages::new(arena, pages);
        for page in 0..pages {
            block.write(page, NUMBER, page as u64 + 1);
            (HEADER..WORDS).for_each(|at| block.write(page, at, content(page, at)));
        }
        self.added.store(0, Ordering::SeqCst);
        self.pages.store(pages, Ordering::SeqCst);
        self.address.store(block.address, Ordering::SeqCst);
    }

    pub fn pages(&self) -> usize {
        self.pages.load(Ordering::Relaxed)
    }

    fn word(address: usize, page: usize, at: usize) -> *const AtomicU64 {
        std::ptr::with_exposed_provenance(address + page * PAGE + at * 8)
    }

    pub fn range(&self, pages: Range<usize>) -> *const [u8] {
        assert!(pages.end <= self.pages());
        let start = Self::word(self.address.load(Ordering::Relaxed), pages.start, 0);
        std::ptr::slice_from_raw_parts(start.cast(), pages.len() * PAGE)
    }

    /// The words of a page that never change, as bytes.
    pub fn constant(&self, page: usize) -> *const [u8] {
        let start = Self::word(self.address.load(Ordering::Relaxed), page, HEADER);
        std::ptr::slice_from_raw_parts(start.cast(), (WORDS - HEADER) * 8)
    }

    /// Calls `look` with the address and the number of the pages, if there are any. The pages stay allocated
    /// meanwhile.
    fn enter(&self, look: impl FnOnce(usize, usize)) {
        // SeqCst: either `close` sees this thread inside, or this thread sees that the address is zero.
        self.inside.fetch_add(1, Ordering::SeqCst);
        let address = self.address.load(Ordering::SeqCst);
        if address != 0 {
            look(address, self.pages());
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    fn compare(&self, address: usize, page: usize, at: usize) {
        // SAFETY: within the block, which is allocated.
        let found = unsafe { &*Self::word(address, page, at) }.load(Ordering::Relaxed);
        let wanted = if at == NUMBER { page as u64 + 1 } else { content(page, at) };
        self.checked.fetch_add(8, Ordering::Relaxed);
        if found != wanted {
            self.wrong.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Checks two words of a page and adds to its counter. A signal handler may call it.
    pub fn visit(&self, pick: u64) {
        self.enter(|address, pages| {
            let page = pick as usize % pages;
            self.compare(address, page, NUMBER);
            self.compare(address, page, HEADER + (pick >> 40) as usize % (WORDS - HEADER));
            // SAFETY: as in `compare`.
            unsafe { &*Self::word(address, page, COUNT) }.fetch_add(1, Ordering::Relaxed);
            self.added.fetch_add(1, Ordering::Relaxed);
        });
    }

    /// Checks all constant words of a page.
    pub fn look_through(&self, pick: u64) {
        self.enter(|address, pages| {
            let page = pick as usize % pages;
            self.compare(address, page, NUMBER);
            (HEADER..WORDS).for_each(|at| self.compare(address, page, at));
        });
    }

    /// Checks a copy of the bytes of [`Self::constant`].
    pub fn compare_constant(&self, page: usize, bytes: &[u8]) {
        self.checked.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
        let wrong = words.zip(HEADER..).filter(|(word, at)| *word != content(page, *at)).count();
        self.wrong.fetch_add(wrong as u64, Ordering::Relaxed);
    }

    /// Waits until no thread or signal handler uses the pages, checks all of them and the sum, and frees them.
    pub fn close(&self, arena: &Arena) {
        let (address, count) = (self.address.swap(0, Ordering::SeqCst), self.pages());
        while self.inside.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
        let pages = Pages { arena, address, count };
        for page in 0..count {
            self.compare(address, page, NUMBER);
            (HEADER..WORDS).for_each(|at| self.compare(address, page, at));
        }
        let sum: u64 = (0..count).map(|page| pages.read(page, COUNT)).sum();
        assert_eq!(
            sum,
            self.added.load(Ordering::SeqCst),
            "the sum of the counters: {}",
            arena.stats()
        );
        assert_eq!(self.wrong.load(Ordering::SeqCst), 0, "wrong words: {}", arena.stats());
        pages.free();
    }
}
