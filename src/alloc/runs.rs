//! Free runs of pages, found by length: two-level segregated fit (Masmano, Ripoll, Crespo and Real,
//! "TLSF: a new dynamic memory allocator for real-time systems", 2004).
//!
//! The runs of a pool lie in lists by length: one list for each length below eight, then eight to each
//! power of two, with a bit for each list that is not empty. Boundary tags (boundary.rs) let a run
//! that becomes free find its neighbours, and hold the links, so freeing allocates nothing.

mod check;

use super::boundary::{Boundaries, Boundary, NONE, Run};
use super::lane::Pool;
use super::map::BlockMap;
use crate::prim::PageRange;
use crate::prim::units::index;
use std::sync::Arc;

/// The free runs of one pool, by length.
#[derive(Debug)]
struct FreeLists {
    /// A bit for each first level that has a run.
    first_bitmap: u32,
    /// Per first level, a bit for each list that has a run.
    second_bitmap: [u8; FIRST_LEVELS],
    /// The first page of each list's first run.
    heads: [[u64; 8]; FIRST_LEVELS],
    pages: usize,
}

const FIRST_LEVELS: usize = 31;

/// The first and second level of the list for runs of `len` pages.
const fn levels(len: usize) -> (usize, usize) {
    if len < 8 {
        return (0, len);
    }
    let log = len.ilog2();
    ((log - 2) as usize, (len >> (log - 3)) & 7)
}

impl FreeLists {
    const EMPTY: Self = Self {
        first_bitmap: 0,
        second_bitmap: [0; FIRST_LEVELS],
        heads: [[NONE; 8]; FIRST_LEVELS],
        pages: 0,
    };

    /// The first list with a run at or after this one.
    fn first_filled(&self, (first, second): (usize, usize)) -> Option<(usize, usize)> {
        if first == FIRST_LEVELS {
            return None;
        }
        let here = u32::from(self.second_bitmap[first]) >> second << second;
        if here != 0 {
            return Some((first, here.trailing_zeros() as usize));
        }
        let above = self.first_bitmap >> first >> 1 << first << 1;
        (above != 0).then(|| {
            let first = above.trailing_zeros() as usize;
            (first, self.second_bitmap[first].trailing_zeros() as usize)
        })
    }

    /// The list after this one.
    fn after((first, second): (usize, usize)) -> (usize, usize) {
        if second < 7 { (first, second + 1) } else { (first + 1, 0) }
    }
}

/// All free runs.
#[derive(Debug)]
pub(super) struct FreeRuns {
    map: Arc<BlockMap>,
    lists: Box<[FreeLists; Pool::COUNT]>,
    /// Pages in all lists, and how many of them are dirty.
    free: usize,
    dirty: usize,
}

impl FreeRuns {
    /// No free pages yet.
    pub(super) fn new(map: Arc<BlockMap>) -> Self {
        let lists = Box::new([const { FreeLists::EMPTY }; Pool::COUNT]);
        Self { map, lists, free: 0, dirty: 0 }
    }

    fn boundaries(&self) -> &Boundaries {
        self.map.boundaries()
    }

    /// How many pages are free.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// How many free pages have not been released.
    pub(super) fn dirty(&self) -> usize {
        self.dirty
    }

    fn count(&mut self, run: Run, sign: isize) {
        let pages = run.range.pages();
        let dirty = if run.pool.is_dirty() { pages } else { 0 };
        let counters = [&mut self.lists[run.pool.index()].pages, &mut self.free, &mut self.dirty];
        for (counter, pages) in counters.into_iter().zip([pages, pages, dirty]) {
            *counter = if sign < 0 { *counter - pages } else { *counter + pages };
        }
    }

    /// The free run that begins with `page`.
    pub(super) fn starting_at(&self, page: usize) -> Option<Run> {
        let (boundary, run) = self.boundaries().get(page);
        (boundary == Boundary::FreeStart).then_some(run)
    }

    /// The free run that ends right before `page`.
    fn ending_at(&self, page: usize) -> Option<Run> {
        let last = page.checked_sub(1)?;
        match self.boundaries().get(last) {
            (Boundary::FreeEnd, run) => self.starting_at(page - run.range.pages()),
            (Boundary::FreeStart, run) => Some(run),
            _ => None,
        }
    }

    /// How many pages `pool` has.
    pub(super) fn pages(&self, pool: Pool) -> usize {
        self.lists[pool.index()].pages
    }

    fn link(&mut self, run: Run) {
        let (start, pages) = (run.range.start.0, run.range.pages());
        if pages == 0 {
            return;
        }
        self.boundaries().set(start, Boundary::FreeStart, run);
        if pages > 1 {
            self.boundaries().set(run.range.end.0 - 1, Boundary::FreeEnd, run);
        }
        self.count(run, 1);
        let (first, second) = levels(pages);
        let lists = &mut self.lists[run.pool.index()];
        let head = lists.heads[first][second];
        lists.heads[first][second] = start as u64;
        lists.second_bitmap[first] |= 1 << second;
        lists.first_bitmap |= 1 << first;
        self.boundaries().set_links(start, head, NONE);
        if head != NONE {
            let (next, _) = self.boundaries().links(index(head));
            self.boundaries().set_links(index(head), next, start as u64);
        }
    }

    /// Removes a free run.
    pub(super) fn unlink(&mut self, run: Run) {
        let start = run.range.start.0;
        debug_assert_eq!(self.starting_at(start), Some(run));
        self.count(run, -1);
        let (next, previous) = self.boundaries().links(start);
        if next != NONE {
            let (after, _) = self.boundaries().links(index(next));
            self.boundaries().set_links(index(next), after, previous);
        }
        let (first, second) = levels(run.range.pages());
        let lists = &mut self.lists[run.pool.index()];
        if previous == NONE {
            lists.heads[first][second] = next;
            if next == NONE {
                lists.second_bitmap[first] &= !(1 << second);
                if lists.second_bitmap[first] == 0 {
                    lists.first_bitmap &= !(1 << first);
                }
            }
        } else {
            let (_, before) = self.boundaries().links(index(previous));
            self.boundaries().set_links(index(previous), next, before);
        }
        self.boundaries().clear(start);
        self.boundaries().clear(run.range.end.0 - 1);
    }

    /// Adds a run, merged with its free neighbours in the same pool, and returns the merged run.
    pub(super) fn insert(&mut self, mut run: Run) -> Run {
        if run.range.is_empty() {
            return run;
        }
        if let Some(before) = self.ending_at(run.range.start.0).filter(|b| b.pool == run.pool) {
            self.unlink(before);
            run.range.start = before.range.start;
        }
        if let Some(after) = self.starting_at(run.range.end.0).filter(|a| a.pool == run.pool) {
            self.unlink(after);
            run.range.end = after.range.end;
        }
        self.link(run);
        run
    }

    /// Removes `range` from a free run that contains it, and keeps the rest.
    pub(super) fn cut(&mut self, run: Run, range: PageRange) {
        self.unlink(run);
        self.link(Run { range: PageRange { end: range.start, ..run.range }, ..run });
        self.link(Run { range: PageRange { start: range.end, ..run.range }, ..run });
    }

    /// Takes `pages` pages of `pool`. The first lies `align_offset` pages behind a multiple of `align`
    /// pages, a power of two.
    pub(super) fn take(
        &mut self,
        pool: Pool,
        pages: usize,
        align: usize,
        align_offset: usize,
    ) -> Option<PageRange> {
        let (run, range) = self.find(pool, pages, align, align_offset)?;
        self.cut(run, range);
        Some(range)
    }

    fn find(
        &self,
        pool: Pool,
        pages: usize,
        align: usize,
        align_offset: usize,
    ) -> Option<(Run, PageRange)> {
        /// Runs of the first list to try before the next lists. They may be too short.
        const FIRST_TRIES: usize = 16;
        let fits = |run: Run| Some((run, fit(run.range, pages, align, align_offset)?));
        let first = levels(pages);
        self.list(pool, first)
            .take(FIRST_TRIES)
            .find_map(fits)
            .or_else(|| {
                // All of these are long enough, but may not be aligned.
                let mut at = FreeLists::after(first);
                while let Some(found) = self.lists[pool.index()].first_filled(at) {
                    if let Some(fit) = self.list(pool, found).find_map(fits) {
                        return Some(fit);
                    }
                    at = FreeLists::after(found);
                }
                None
            })
            .or_else(|| self.list(pool, first).skip(FIRST_TRIES).find_map(fits))
    }

    /// The runs of one list.
    fn list(&self, pool: Pool, (first, second): (usize, usize)) -> impl Iterator<Item = Run> {
        let head = self.lists[pool.index()].heads[first][second];
        let present = |page| (page != NONE).then(|| index(page));
        core::iter::successors(present(head), move |page| present(self.boundaries().links(*page).0))
            .map(|page| self.boundaries().get(page).1)
    }

    /// A run from the last list of `pool` that has one: the longest, or nearly.
    pub(super) fn any_longest(&self, pool: Pool) -> Option<Run> {
        let lists = &self.lists[pool.index()];
        let first = lists.first_bitmap.checked_ilog2()? as usize;
        let second = lists.second_bitmap[first].ilog2() as usize;
        let page = index(lists.heads[first][second]);
        Some(self.boundaries().get(page).1)
    }
}

/// The first aligned place for `pages` pages in `free`.
fn fit(free: PageRange, pages: usize, align: usize, align_offset: usize) -> Option<PageRange> {
    debug_assert!(align.is_power_of_two() && align_offset < align);
    let start = free.start.0 + (align_offset.wrapping_sub(free.start.0) & (align - 1));
    let end = start.checked_add(pages)?;
    (end <= free.end.0).then(|| PageRange::new(start, end))
}
