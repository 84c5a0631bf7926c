//! Tracking by userfaultfd's read-write protection (Linux 7.3,
//! `Documentation/admin-guide/mm/userfaultfd.rst`, "Read-Write Protection").
//!
//! In async mode the kernel lifts the protection of a touched page in place, without a message;
//! `PAGEMAP_SCAN` tells which pages have lost it. No thread waits while the evictor reads and compresses pages.
//! Only then does `freeze` switch to sync mode. A page that is still protected has not been touched since it
//! was armed, so its copy is good. A thread that touches it from here on waits. In sync mode touches
//! of all armed pages with the same descriptor wait, so the evictor does little before it switches back.
//!
//! # Pages without protection
//!
//! The kernel keeps this protection in page-table entries of mapped pages, and nowhere else. A page of shared
//! memory that is not mapped has none, and a page loses it when the kernel swaps it out (`mm/rmap.c` keeps a
//! marker for write protection only). Such a page could be swapped out, touched and written between the last
//! scan and the hole punch, and the write would be lost. So `hold` maps the unmapped pages, and locks the pages
//! in memory through the second view.

use super::{Gaps, Protection, Tracker, Watch};
use crate::prim::PageRange;
use crate::sys::SysError;
use crate::sys::backing::{PrivateBacking, SharedBacking};
use crate::sys::pagemap::PageFilter;

#[derive(Debug)]
pub(super) struct Rwp(SharedBacking);

impl Rwp {
    pub(super) fn new(shared: SharedBacking) -> Result<Self, SysError> {
        shared.uffds().iter().try_for_each(|uffd| uffd.set_rwp_async(true))?;
        Ok(Self(shared))
    }

    /// Maps and arms the pages that are in memory but not in the program's page table.
    fn map_unmapped(&self, range: PageRange) -> Result<(), SysError> {
        let mut result = Ok(());
        let mut map = |run| {
            let map_and_arm = || {
                self.0.map_in(run)?;
                self.0.rw_protect(run, true)
            };
            if result.is_ok() {
                result = map_and_arm();
            }
        };
        let mut gaps = Gaps::new(range, &mut map);
        self.0.scan(range, PageFilter::Present, &mut |run| gaps.except(run))?;
        gaps.finish();
        result
    }
}

impl Watch for Rwp {
    fn tracker(&self) -> Tracker {
        Tracker::Rwp
    }

    fn arm(&self, range: PageRange) -> Result<(), SysError> {
        self.0.rw_protect(range, true)
    }

    fn touched(&self, range: PageRange, visit: &mut dyn FnMut(PageRange)) -> Result<(), SysError> {
        self.0.scan(range, PageFilter::Accessed, visit)
    }
}

/// The watch of private memory. The evictor moves pages away ([`super::moving`]), so it needs no protection to
/// evict them: the kernel stays in async mode.
#[derive(Debug)]
pub(super) struct PrivateRwp(PrivateBacking);

impl PrivateRwp {
    pub(super) fn new(private: PrivateBacking) -> Result<Self, SysError> {
        private.uffds().iter().try_for_each(|uffd| uffd.set_rwp_async(true))?;
        Ok(Self(private))
    }
}

impl Watch for PrivateRwp {
    fn tracker(&self) -> Tracker {
        Tracker::Rwp
    }

    fn arm(&self, range: PageRange) -> Result<(), SysError> {
        self.0.rw_protect(range, true)
    }

    fn touched(&self, range: PageRange, visit: &mut dyn FnMut(PageRange)) -> Result<(), SysError> {
        self.0.scan(range, PageFilter::Accessed, visit)
    }
}

impl Protection for Rwp {
    fn hold(&self, range: PageRange) -> Result<(), SysError> {
        let held = self.0.lock(range).and_then(|()| self.map_unmapped(range));
        if held.is_err() {
            // A failed `mlock` may have locked the range without filling it.
            let _ = self.release(range);
        }
        held
    }

    fn freeze(&self, within: PageRange) -> Result<(), SysError> {
        self.0.set_rwp_async(within, false)
    }

    fn intact(&self, range: PageRange, visit: &mut dyn FnMut(PageRange)) -> Result<(), SysError> {
        self.0.scan(range, PageFilter::Untouched, visit)
    }

    fn thaw(&self, within: PageRange) -> Result<(), SysError> {
        self.0.set_rwp_async(within, true)
    }

    fn release(&self, range: PageRange) -> Result<(), SysError> {
        self.0.unlock(range)
    }

    fn lift(&self, range: PageRange) -> Result<(), SysError> {
        self.0.rw_protect(range, false)
    }
}
