//! Free runs of pages: the smallest that fits is taken, and neighbours grow together.

use crate::prim::units::PAGE_SHIFT;
use crate::prim::{PAGE_SIZE, PageRange};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub(super) struct Runs {
    /// Length by first page.
    by_start: BTreeMap<usize, usize>,
    /// (Length, first page).
    by_len: BTreeSet<(usize, usize)>,
}

impl Runs {
    /// Pages `0..pages`, all free.
    pub(super) fn new(pages: usize) -> Self {
        let mut this = Self { by_start: BTreeMap::new(), by_len: BTreeSet::new() };
        this.insert(0, pages);
        this
    }

    fn insert(&mut self, start: usize, len: usize) {
        if len > 0 {
            self.by_start.insert(start, len);
            self.by_len.insert((len, start));
        }
    }

    fn remove(&mut self, start: usize, len: usize) {
        self.by_start.remove(&start);
        self.by_len.remove(&(len, start));
    }

    /// Takes `pages` pages such that `base` plus the first one's offset is a multiple of `align`,
    /// a power of two that is at least a page.
    pub(super) fn take(&mut self, pages: usize, align: usize, base: usize) -> Option<PageRange> {
        // The first page at or after `start` that lies right.
        let aligned = |start: usize| {
            let address = base.checked_add(start << PAGE_SHIFT)?;
            Some((address.checked_next_multiple_of(align)? - base) >> PAGE_SHIFT)
        };
        let (len, start, at) = self.by_len.range((pages, 0)..).find_map(|&(len, start)| {
            let at = aligned(start)?;
            (at.checked_add(pages)? <= start + len).then_some((len, start, at))
        })?;
        self.remove(start, len);
        self.insert(start, at - start);
        self.insert(at + pages, start + len - at - pages);
        Some(PageRange::new(at, at + pages))
    }

    /// Takes these pages, if all of them are free.
    pub(super) fn take_exactly(&mut self, range: PageRange) -> bool {
        if range.is_empty() {
            return true;
        }
        let (from, to) = (range.start.0, range.end.0);
        let Some((&start, &len)) = self.by_start.range(..=from).next_back() else {
            return false;
        };
        if start + len < to {
            return false;
        }
        self.remove(start, len);
        self.insert(start, from - start);
        self.insert(to, start + len - to);
        true
    }

    /// Gives pages back.
    pub(super) fn give(&mut self, range: PageRange) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut len) = (range.start.0, range.pages());
        if let Some((&before, &before_len)) = self.by_start.range(..start).next_back() {
            debug_assert!(before + before_len <= start, "{range:?} freed twice");
            if before + before_len == start {
                self.remove(before, before_len);
                (start, len) = (before, before_len + len);
            }
        }
        if let Some((&after, &after_len)) = self.by_start.range(start..).next() {
            debug_assert!(start + len <= after, "{range:?} freed twice");
            if start + len == after {
                self.remove(after, after_len);
                len += after_len;
            }
        }
        self.insert(start, len);
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let mut end = None;
        for (&start, &len) in &self.by_start {
            if len == 0 || end.is_some_and(|end| start <= end) {
                return Err(format!("free run {start}+{len} meets the one before it"));
            }
            if !self.by_len.contains(&(len, start)) {
                return Err(format!("free run {start}+{len} is not found by its length"));
            }
            end = Some(start + len);
        }
        if self.by_len.len() == self.by_start.len() {
            Ok(())
        } else {
            Err(format!("{} runs by length, {}", self.by_len.len(), self.by_start.len()))
        }
    }
}

const _: () = assert!(PAGE_SIZE.is_power_of_two());
