//! Tracking by userfaultfd's read-write protection (Linux 7.3,
//! `Documentation/admin-guide/mm/userfaultfd.rst`, "Read-Write Protection").
//!
//! In async mode the kernel lifts the protection of a page that is touched, in place and without a
//! message; `PAGEMAP_SCAN` tells which have lost it. Nobody waits while pages are read and
//! compressed. Only then does `freeze` switch to sync mode; a page that is still protected has
//! not been touched since it was armed, so that the copy made in between is good, and who touches
//! it from there on waits. The switch holds up all watched pages that have the same descriptor,
//! which is why so little is done under it.
//!
//! # What has no protection
//!
//! The kernel keeps this protection in page-table entries of pages that are mapped, and nowhere
//! else. A page of shared memory that is not mapped has none, and loses it when the kernel swaps
//! it out (`mm/rmap.c` keeps a marker for write protection only). So `hold` maps what is not mapped,
//! and locks the pages in memory through the second view: else a page could be swapped out, touched
//! and written between the last look and the hole punch, and nobody would know.

use super::{AccessTracker, Gaps, Tracker, protect, scan_pages};
use crate::prim::PageRange;
use crate::sys::SysError;
use crate::sys::backing::Backing;
use crate::sys::pagemap::{PageFilter, Pagemap};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Rwp {
    backing: Arc<Backing>,
    pagemap: Pagemap,
}

impl Rwp {
    pub(super) fn new(backing: Arc<Backing>, pagemap: Pagemap) -> Result<Self, SysError> {
        backing.uffds().iter().try_for_each(|uffd| uffd.set_rwp_async(true))?;
        Ok(Self { backing, pagemap })
    }

    fn rw_protect(&self, range: PageRange, on: bool) -> Result<(), SysError> {
        protect(range, "ioctl(UFFDIO_RWPROTECT)", |run| self.backing.rw_protect(run, on))
    }

    /// Maps what is in memory but not in the application's page table, and watches it.
    fn map_unmapped(&self, range: PageRange) -> Result<(), SysError> {
        let mut result = Ok(());
        let mut map = |run| {
            let map_and_arm = || {
                self.backing.memory().map_in(run)?;
                self.rw_protect(run, true)
            };
            if result.is_ok() {
                result = map_and_arm();
            }
        };
        let mut gaps = Gaps::new(range, &mut map);
        scan_pages(&self.backing, &self.pagemap, range, PageFilter::Present, &mut |run| {
            gaps.except(run);
        })?;
        gaps.finish();
        result
    }
}

impl AccessTracker for Rwp {
    fn kind(&self) -> Tracker {
        Tracker::Rwp
    }

    fn arm(&self, range: PageRange) -> Result<(), SysError> {
        self.rw_protect(range, true)
    }

    fn touched(&self, range: PageRange, visit: &mut dyn FnMut(PageRange)) -> Result<(), SysError> {
        scan_pages(&self.backing, &self.pagemap, range, PageFilter::Accessed, visit)
    }

    fn hold(&self, range: PageRange) -> Result<(), SysError> {
        let held = self.backing.memory().lock(range).and_then(|()| self.map_unmapped(range));
        if held.is_err() {
            // A lock that fails may have been taken all the same, and only not filled.
            let _ = self.release(range);
        }
        held
    }

    fn freeze(&self, within: PageRange) -> Result<(), SysError> {
        self.backing.set_rwp_async(within, false)
    }

    fn intact(&self, range: PageRange, visit: &mut dyn FnMut(PageRange)) -> Result<(), SysError> {
        scan_pages(&self.backing, &self.pagemap, range, PageFilter::Untouched, visit)
    }

    fn thaw(&self, within: PageRange) -> Result<(), SysError> {
        self.backing.set_rwp_async(within, true)
    }

    fn release(&self, range: PageRange) -> Result<(), SysError> {
        self.backing.memory().unlock(range)
    }

    fn lift(&self, range: PageRange) -> Result<(), SysError> {
        self.rw_protect(range, false)
    }
}
