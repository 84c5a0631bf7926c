//! What each page holds: one word in each line of 64 bytes, the index of the word to read next.
//!
//! The pages of a group form a cycle in random order. A walk visits one line in each page of the group,
//! and then another line in each page, until it has visited all lines: the group's lines form one cycle.
//! The line within a page differs from page to page. In a page of no group, each word points to itself.

#![allow(unsafe_code)]

use crate::Trouble;
use crate::common::{PAGE, shuffled};
use allocator_api2::alloc::{AllocError, Allocator, System};
use allocator_api2::vec::Vec as ArenaVec;
use std::alloc::Layout as BlockLayout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use thermocline::Arena;

pub(crate) const WORDS: usize = PAGE / size_of::<u64>();
pub(crate) const LINES: usize = 64;

/// Words per line.
pub(crate) const LINE: usize = WORDS / LINES;

/// The index, in each page, of the word that the load `stride` writes. No line points to it.
pub(crate) const MARK: usize = WORDS - 1;

/// The memory that the load touches.
pub(crate) type Words = ArenaVec<AtomicU64, Memory>;

/// The allocator of that memory.
#[derive(Clone, Debug)]
pub(crate) enum Memory {
    Arena(Arena),
    /// Memory of the system, with the advice to use huge pages.
    Huge,
}

// SAFETY: each kind does as its allocator does, with the same layout for a block in all calls. A clone is of the same
// kind, so it may free the blocks.
unsafe impl Allocator for Memory {
    fn allocate(&self, layout: BlockLayout) -> Result<NonNull<[u8]>, AllocError> {
        let Self::Huge = self else {
            let Self::Arena(arena) = self else { unreachable!("there are two kinds") };
            return Allocator::allocate(&arena, layout);
        };
        let layout = layout.align_to(HUGE_PAGE).map_err(|_| AllocError)?;
        let block = System.allocate(layout)?;
        // SAFETY: the advice changes no contents.
        if unsafe { libc::madvise(block.as_ptr().cast(), block.len(), libc::MADV_HUGEPAGE) } != 0 {
            // SAFETY: just allocated, with this layout.
            unsafe { System.deallocate(block.cast(), layout) };
            return Err(AllocError);
        }
        Ok(block)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: BlockLayout) {
        // SAFETY: the caller's promise; the layouts are those of `allocate`.
        unsafe {
            match self {
                Self::Arena(arena) => Allocator::deallocate(&arena, block, layout),
                Self::Huge => {
                    let layout = layout.align_to(HUGE_PAGE).unwrap_or(layout);
                    System.deallocate(block, layout);
                }
            }
        }
    }
}

const HUGE_PAGE: usize = 2 << 20;

#[derive(Debug)]
pub(crate) struct Layout {
    /// The page after each page in its group's cycle.
    next: Vec<u32>,
    /// The first page of each group.
    starts: Vec<u32>,
}

impl Layout {
    pub(crate) fn new(pages: usize, groups: &[Vec<u32>]) -> Self {
        let mut next: Vec<u32> = (0..page_number(pages)).collect();
        let mut starts = Vec::new();
        for (seed, group) in groups.iter().enumerate() {
            let order: Vec<u32> =
                shuffled(group.len(), seed as u64).into_iter().map(|place| group[place]).collect();
            for (place, page) in order.iter().enumerate() {
                next[*page as usize] = order[(place + 1) % order.len()];
            }
            starts.push(order[0]);
        }
        Self { next, starts }
    }

    pub(crate) fn pages(&self) -> usize {
        self.next.len()
    }

    /// The indexes of the words at which the groups' walks begin.
    pub(crate) fn first_words(&self) -> Vec<usize> {
        self.starts.iter().map(|page| place(*page as usize, 0)).collect()
    }

    /// The word at this index.
    pub(crate) fn word(&self, index: usize) -> u64 {
        let (page, within) = (index / WORDS, index % WORDS);
        if !within.is_multiple_of(LINE) {
            return 0;
        }
        let round = (within / LINE + LINES - spread(page)) % LINES;
        let next = self.next[page];
        let round = if self.starts.contains(&next) { round + 1 } else { round };
        place(next as usize, round) as u64
    }

    /// A block with these words.
    pub(crate) fn fill(&self, memory: Memory) -> Result<Words, Trouble> {
        let mut words: Words = ArenaVec::new_in(memory);
        words.try_reserve_exact(self.pages() * WORDS).map_err(|e| e.to_string())?;
        if !words.as_ptr().addr().is_multiple_of(PAGE) {
            return Err("a large block does not begin on a page".into());
        }
        let mut index = 0;
        words.resize_with(self.pages() * WORDS, || {
            index += 1;
            AtomicU64::new(self.word(index - 1))
        });
        Ok(words)
    }

    /// The number of pages with a wrong word. `mark` is the word that the program wrote to a page.
    pub(crate) fn wrong_pages(&self, words: &[AtomicU64], mark: impl Fn(usize) -> u64) -> usize {
        let pages = words.chunks_exact(WORDS).enumerate();
        let wrong = pages.filter(|(page, words)| {
            words.iter().enumerate().any(|(within, word)| {
                let marked = within == MARK;
                let expected = if marked { mark(*page) } else { self.word(page * WORDS + within) };
                word.load(Ordering::Relaxed) != expected
            })
        });
        wrong.count()
    }
}

/// Reads `count` words along a cycle and returns the index of the next one.
pub(crate) fn walk(words: &[AtomicU64], mut index: usize, count: usize) -> usize {
    for _ in 0..count {
        // A wrong word may point beyond the end. The comparison of all words counts it later.
        index = words.get(index).map_or(0, |word| word.load(Ordering::Relaxed) as usize);
    }
    index
}

pub(crate) fn page_number(page: usize) -> u32 {
    u32::try_from(page).expect("4096 GiB have fewer than 2^32 pages")
}

/// The index of the word that a walk reads in this page in this round.
fn place(page: usize, round: usize) -> usize {
    page * WORDS + (round + spread(page)) % LINES * LINE
}

/// A line of each page, different from page to page.
fn spread(page: usize) -> usize {
    ((page as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize
}
