//! Tracking without read-write protection: empty the page table, look what came back.
//!
//! The memory is shared, so a page that is taken out of the page table stays in the page cache and
//! is mapped again by the kernel when it is touched; the mapped pages are the touched ones. Ranges
//! registered for write protection are not faulted around, so a touch maps one page alone
//! (`include/linux/userfaultfd_k.h`, `uffd_disable_fault_around`).
//!
//! Pages are held by write protection, which stops writers alone. That is enough: a reader cannot
//! make a copy stale. It covers pages that are in no page table, and outlasts their being swapped
//! out by the kernel, because on shared memory it is kept in a marker (`PTE_MARKER_UFFD_WP`).

use super::{AccessTracker, Gaps, Tracker, protect, scan_pages};
use crate::prim::PageRange;
use crate::sys::SysError;
use crate::sys::backing::Backing;
use crate::sys::pagemap::{PageFilter, Pagemap};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Zap {
    backing: Arc<Backing>,
    pagemap: Pagemap,
}

impl Zap {
    pub(super) fn new(backing: Arc<Backing>, pagemap: Pagemap) -> Self {
        Self { backing, pagemap }
    }

    fn write_protect(&self, range: PageRange, on: bool) -> Result<(), SysError> {
        protect(range, "ioctl(UFFDIO_WRITEPROTECT)", |run| self.backing.write_protect(run, on))
    }
}

impl AccessTracker for Zap {
    fn kind(&self) -> Tracker {
        Tracker::Zap
    }

    fn arm(&self, range: PageRange) -> Result<(), SysError> {
        self.backing.memory().zap(range)
    }

    fn touched(&self, range: PageRange, visit: &mut dyn FnMut(PageRange)) -> Result<(), SysError> {
        scan_pages(&self.backing, &self.pagemap, range, PageFilter::Present, visit)
    }

    fn hold(&self, range: PageRange) -> Result<(), SysError> {
        let held = self.write_protect(range, true);
        if held.is_err() {
            // A part of it may be protected.
            let _ = self.write_protect(range, false);
        }
        held
    }

    fn freeze(&self, _within: PageRange) -> Result<(), SysError> {
        // Writers of held pages wait since `hold`.
        Ok(())
    }

    /// All that is held is safe to drop. What was read since is mapped, and left out because it is
    /// no longer cold.
    fn intact(&self, range: PageRange, visit: &mut dyn FnMut(PageRange)) -> Result<(), SysError> {
        let mut gaps = Gaps::new(range, visit);
        self.touched(range, &mut |run| gaps.except(run))?;
        gaps.finish();
        Ok(())
    }

    fn thaw(&self, _within: PageRange) -> Result<(), SysError> {
        Ok(())
    }

    fn release(&self, range: PageRange) -> Result<(), SysError> {
        self.write_protect(range, false)
    }

    fn lift(&self, range: PageRange) -> Result<(), SysError> {
        self.write_protect(range, false)
    }
}
