//! Tracking by the processor's accessed bits alone, region by region.
//!
//! The evictor learns from the accessed bits which regions are idle ([`super::References`]). Private memory without
//! read-write protection has no way to notice the touch of a page: a page-table entry that is emptied loses the
//! page. So all pages of an idle region have the region's age.

use super::{Tracker, Watch};
use crate::prim::PageRange;
use crate::sys::SysError;

#[derive(Debug)]
pub(super) struct Accessed;

impl Watch for Accessed {
    fn tracker(&self) -> Tracker {
        Tracker::Accessed
    }

    fn sees_pages(&self) -> bool {
        false
    }

    fn arm(&self, _range: PageRange) -> Result<(), SysError> {
        Ok(())
    }

    /// Misses all touches. Without accessed bits the evictor therefore evicts each page once it has been in memory
    /// for the cold age, and the fault of its next touch brings it back.
    fn touched(
        &self,
        _range: PageRange,
        _visit: &mut dyn FnMut(PageRange),
    ) -> Result<(), SysError> {
        Ok(())
    }
}
