//! Free runs of pages, found by their length: two-level segregated fit.
//!
//! Runs of a kind lie in lists by their length: one list for each length below eight, then eight to
//! each power of two, with a bit for each list that is not empty (Masmano and others, "TLSF: a new
//! dynamic memory allocator for real-time systems", 2004). What is known of a run is kept in a table
//! beside the arena, under its first page and its last, so that a run that becomes free finds its
//! neighbours, and nothing has to be allocated for it.

use super::lane::Kind;
use super::map::BlockMap;
use super::node::{Mark, NONE, Nodes, Run};
use crate::prim::PageRange;
use crate::prim::units::index;
use std::sync::Arc;

/// Free runs of one kind, by length.
#[derive(Debug)]
struct Lists {
    /// A bit for each group that has a run.
    groups: u32,
    /// Per group, a bit for each list that has a run.
    filled: [u8; GROUPS],
    heads: [[u64; 8]; GROUPS],
    pages: usize,
}

const GROUPS: usize = 31;

/// Group and list of runs of `len` pages.
const fn place(len: usize) -> (usize, usize) {
    if len < 8 {
        return (0, len);
    }
    let log = len.ilog2();
    ((log - 2) as usize, (len >> (log - 3)) & 7)
}

impl Lists {
    const EMPTY: Self =
        Self { groups: 0, filled: [0; GROUPS], heads: [[NONE; 8]; GROUPS], pages: 0 };

    /// The first list at or after this one that has a run.
    fn from(&self, (group, list): (usize, usize)) -> Option<(usize, usize)> {
        if group == GROUPS {
            return None;
        }
        let here = u32::from(self.filled[group]) >> list << list;
        if here != 0 {
            return Some((group, here.trailing_zeros() as usize));
        }
        let above = self.groups >> group >> 1 << group << 1;
        (above != 0).then(|| {
            let group = above.trailing_zeros() as usize;
            (group, self.filled[group].trailing_zeros() as usize)
        })
    }

    /// The list after this one.
    fn after((group, list): (usize, usize)) -> (usize, usize) {
        if list < 7 { (group, list + 1) } else { (group + 1, 0) }
    }
}

/// All free runs, and a note about each block of pages that is in use.
#[derive(Debug)]
pub(super) struct Runs {
    map: Arc<BlockMap>,
    lists: Box<[Lists; Kind::COUNT]>,
    /// Pages in all lists, and those of them that are dirty.
    free: usize,
    dirty: usize,
}

impl Runs {
    /// No free pages yet.
    pub(super) fn new(map: Arc<BlockMap>) -> Self {
        let lists = Box::new([const { Lists::EMPTY }; Kind::COUNT]);
        Self { map, lists, free: 0, dirty: 0 }
    }

    fn nodes(&self) -> &Nodes {
        self.map.nodes()
    }

    /// Free pages.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// Free pages that have not been released.
    pub(super) fn dirty(&self) -> usize {
        self.dirty
    }

    fn count(&mut self, run: Run, sign: isize) {
        let pages = run.range.pages();
        let dirty = if run.kind.is_dirty() { pages } else { 0 };
        let counters = [&mut self.lists[run.kind.index()].pages, &mut self.free, &mut self.dirty];
        for (counter, pages) in counters.into_iter().zip([pages, pages, dirty]) {
            *counter = if sign < 0 { *counter - pages } else { *counter + pages };
        }
    }

    /// The free run that begins with `page`.
    pub(super) fn starting_at(&self, page: usize) -> Option<Run> {
        let (mark, run) = self.nodes().get(page);
        (mark == Mark::FirstOfFree).then_some(run)
    }

    /// The free run that ends right before `page`.
    fn ending_at(&self, page: usize) -> Option<Run> {
        let last = page.checked_sub(1)?;
        match self.nodes().get(last) {
            (Mark::LastOfFree, run) => self.starting_at(page - run.range.pages()),
            (Mark::FirstOfFree, run) => Some(run),
            _ => None,
        }
    }

    /// Pages in free runs of `kind`.
    pub(super) fn pages(&self, kind: Kind) -> usize {
        self.lists[kind.index()].pages
    }

    fn link(&mut self, run: Run) {
        let (start, pages) = (run.range.start.0, run.range.pages());
        if pages == 0 {
            return;
        }
        self.nodes().set(start, Mark::FirstOfFree, run);
        if pages > 1 {
            self.nodes().set(run.range.end.0 - 1, Mark::LastOfFree, run);
        }
        self.count(run, 1);
        let (group, list) = place(pages);
        let lists = &mut self.lists[run.kind.index()];
        let head = lists.heads[group][list];
        lists.heads[group][list] = start as u64;
        lists.filled[group] |= 1 << list;
        lists.groups |= 1 << group;
        self.nodes().set_links(start, head, NONE);
        if head != NONE {
            let (next, _) = self.nodes().links(index(head));
            self.nodes().set_links(index(head), next, start as u64);
        }
    }

    /// Takes a whole free run out.
    pub(super) fn unlink(&mut self, run: Run) {
        let start = run.range.start.0;
        debug_assert_eq!(self.starting_at(start), Some(run));
        self.count(run, -1);
        let (next, previous) = self.nodes().links(start);
        if next != NONE {
            let (after, _) = self.nodes().links(index(next));
            self.nodes().set_links(index(next), after, previous);
        }
        let (group, list) = place(run.range.pages());
        let lists = &mut self.lists[run.kind.index()];
        if previous == NONE {
            lists.heads[group][list] = next;
            if next == NONE {
                lists.filled[group] &= !(1 << list);
                if lists.filled[group] == 0 {
                    lists.groups &= !(1 << group);
                }
            }
        } else {
            let (_, before) = self.nodes().links(index(previous));
            self.nodes().set_links(index(previous), next, before);
        }
        self.nodes().clear(start);
        self.nodes().clear(run.range.end.0 - 1);
    }

    /// Puts a run here, together with the neighbours of its kind, and says what became of it.
    pub(super) fn insert(&mut self, mut run: Run) -> Run {
        if run.range.is_empty() {
            return run;
        }
        if let Some(before) = self.ending_at(run.range.start.0).filter(|b| b.kind == run.kind) {
            self.unlink(before);
            run.range.start = before.range.start;
        }
        if let Some(after) = self.starting_at(run.range.end.0).filter(|a| a.kind == run.kind) {
            self.unlink(after);
            run.range.end = after.range.end;
        }
        self.link(run);
        run
    }

    /// Cuts `range` out of a free run that contains it.
    pub(super) fn cut(&mut self, run: Run, range: PageRange) {
        self.unlink(run);
        self.link(Run { range: PageRange { end: range.start, ..run.range }, ..run });
        self.link(Run { range: PageRange { start: range.end, ..run.range }, ..run });
    }

    /// Takes `pages` pages of `kind`, the first of which lies `phase` behind a multiple of `align`
    /// pages, a power of two.
    pub(super) fn take(
        &mut self,
        kind: Kind,
        pages: usize,
        align: usize,
        phase: usize,
    ) -> Option<PageRange> {
        let (run, range) = self.find(kind, pages, align, phase)?;
        self.cut(run, range);
        Some(range)
    }

    fn find(
        &self,
        kind: Kind,
        pages: usize,
        align: usize,
        phase: usize,
    ) -> Option<(Run, PageRange)> {
        /// Runs of the first list that are looked at before the next ones: they may be too short.
        const PATIENCE: usize = 16;
        let fits = |run: Run| Some((run, fit(run.range, pages, align, phase)?));
        let first = place(pages);
        self.list(kind, first)
            .take(PATIENCE)
            .find_map(fits)
            .or_else(|| {
                // Long enough, all of them; but they may lie wrong.
                let mut at = Lists::after(first);
                while let Some(found) = self.lists[kind.index()].from(at) {
                    if let Some(fit) = self.list(kind, found).find_map(fits) {
                        return Some(fit);
                    }
                    at = Lists::after(found);
                }
                None
            })
            .or_else(|| self.list(kind, first).skip(PATIENCE).find_map(fits))
    }

    /// The runs of one list.
    fn list(&self, kind: Kind, (group, list): (usize, usize)) -> impl Iterator<Item = Run> {
        let head = self.lists[kind.index()].heads[group][list];
        let present = |page| (page != NONE).then(|| index(page));
        core::iter::successors(present(head), move |page| present(self.nodes().links(*page).0))
            .map(|page| self.nodes().get(page).1)
    }

    /// A run from the list of the longest of `kind`.
    pub(super) fn long(&self, kind: Kind) -> Option<Run> {
        let lists = &self.lists[kind.index()];
        let group = lists.groups.checked_ilog2()? as usize;
        let list = lists.filled[group].ilog2() as usize;
        let page = index(lists.heads[group][list]);
        Some(self.nodes().get(page).1)
    }

    /// Calls `visit` with each block, and checks that every free run is in its list and that none
    /// meets another of its kind.
    pub(super) fn check(&self, mut visit: impl FnMut(Run)) -> Result<(), String> {
        let mut free = [0; Kind::COUNT];
        let mut page = 0;
        let mut before: Option<Run> = None;
        while page < self.nodes().len() {
            let (mark, run) = self.nodes().get(page);
            let end = run.range.end.0;
            let meets =
                |before: &Run| (before.range.end, before.kind) == (run.range.start, run.kind);
            match mark {
                Mark::Nothing => page += 1,
                Mark::FirstOfFree => {
                    if self.ending_at(end) != Some(run) || before.as_ref().is_some_and(meets) {
                        return Err(format!("{run:?} ends wrong, or meets {before:?}"));
                    }
                    free[run.kind.index()] += run.range.pages();
                    before = Some(run);
                    page = end;
                }
                Mark::FirstOfBlock => {
                    visit(run);
                    page = end;
                }
                Mark::LastOfFree => {
                    return Err(format!("page {page} ends a run that does not begin: {run:?}"));
                }
            }
        }
        for kind in Kind::all() {
            let mut listed = 0;
            for (group, heads) in self.lists[kind.index()].heads.iter().enumerate() {
                for (list, head) in heads.iter().enumerate() {
                    let (mut page, mut previous) = (*head, NONE);
                    let filled = self.lists[kind.index()].filled[group] >> list & 1 == 1;
                    if filled != (page != NONE) {
                        return Err(format!("{kind:?}: the bit of list {group}.{list} is wrong"));
                    }
                    while page != NONE {
                        let found = self.starting_at(index(page));
                        let run = found.filter(|run| run.kind == kind).ok_or_else(|| {
                            format!("{kind:?}: page {page} is listed and begins {found:?}")
                        })?;
                        let (next, back) = self.nodes().links(index(page));
                        if place(run.range.pages()) != (group, list) || back != previous {
                            return Err(format!("{run:?} is linked wrong"));
                        }
                        listed += run.range.pages();
                        (previous, page) = (page, next);
                    }
                }
            }
            let counted = self.pages(kind);
            if (counted, listed) != (free[kind.index()], free[kind.index()]) {
                let found = free[kind.index()];
                return Err(format!("{kind:?}: {found} free, {listed} listed, {counted} counted"));
            }
        }
        let dirty: usize = Kind::all().filter(|k| k.is_dirty()).map(|k| free[k.index()]).sum();
        if (self.free, self.dirty) != (free.iter().sum(), dirty) {
            return Err(format!("{} pages free, {} dirty: not {free:?}", self.free, self.dirty));
        }
        Ok(())
    }
}

/// Where `pages` pages lie right in `free`.
fn fit(free: PageRange, pages: usize, align: usize, phase: usize) -> Option<PageRange> {
    debug_assert!(align.is_power_of_two() && phase < align);
    let start = free.start.0 + (phase.wrapping_sub(free.start.0) & (align - 1));
    let end = start.checked_add(pages)?;
    (end <= free.end.0).then(|| PageRange::new(start, end))
}
