//! Tracking without read-write protection: empty the page table, and scan later for mapped pages.
//!
//! The memory is shared, so a page that leaves the page table stays in the page cache. The kernel maps it again
//! when the program touches it, so the mapped pages are the touched ones. The kernel does not fault around in
//! ranges that are registered for write protection, so a touch maps one page alone
//! (`include/linux/userfaultfd_k.h`, `uffd_disable_fault_around`).
//!
//! `hold` write-protects pages. That stops writers only, which is enough: a reader cannot make a copy stale.
//! The protection covers pages that are in no page table. It also outlasts a swap-out by the kernel, because
//! on shared memory the kernel keeps it in a marker (`PTE_MARKER_UFFD_WP`).

use super::{Gaps, Protection, Tracker, Watch};
use crate::prim::PageRange;
use crate::sys::SysError;
use crate::sys::backing::SharedBacking;
use crate::sys::pagemap::PageFilter;

#[derive(Debug)]
pub(super) struct Zap(SharedBacking);

impl Zap {
    pub(super) fn new(shared: SharedBacking) -> Self {
        Self(shared)
    }
}

impl Watch for Zap {
    fn tracker(&self) -> Tracker {
        Tracker::Zap
    }

    fn arm(&self, range: PageRange) -> Result<(), SysError> {
        self.0.empty_page_table(range)
    }

    fn touched(&self, range: PageRange, visit: &mut dyn FnMut(PageRange)) -> Result<(), SysError> {
        self.0.scan(range, PageFilter::Present, visit)
    }
}

impl Protection for Zap {
    fn hold(&self, range: PageRange) -> Result<(), SysError> {
        let held = self.0.write_protect(range, true);
        if held.is_err() {
            // A part of the range may be protected.
            let _ = self.0.write_protect(range, false);
        }
        held
    }

    fn freeze(&self, _within: PageRange) -> Result<(), SysError> {
        // Writers of held pages have been waiting since `hold`.
        Ok(())
    }

    /// Every held page would be safe to drop. A page that was read since it was armed is mapped. This leaves
    /// such a page out, because it is no longer cold.
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
        self.0.write_protect(range, false)
    }

    fn lift(&self, range: PageRange) -> Result<(), SysError> {
        self.0.write_protect(range, false)
    }
}
