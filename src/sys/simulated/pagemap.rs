//! The simulated `PAGEMAP_SCAN`.

use super::kernel::BASE;
use super::{Call, Entry, Injected, Kernel};
use crate::prim::units::index;
use crate::prim::{PAGE_SIZE, PageRange};
use crate::sys::error::SysError;
use std::sync::Arc;

/// Which pages a scan names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageFilter {
    Present,
    Allocated,
    Accessed,
    Untouched,
}

#[derive(Debug)]
pub(crate) struct Pagemap(Arc<Kernel>);

impl Pagemap {
    pub(crate) fn open() -> Result<Self, SysError> {
        Ok(Self(Kernel::current()))
    }

    pub(crate) fn descriptor(&self) -> &super::descriptor::Descriptor {
        &super::descriptor::Descriptor
    }

    pub(crate) fn has_scan(&self) -> bool {
        true
    }

    pub(crate) fn has_accessed(&self) -> bool {
        true
    }

    /// Reads one page after the other. Other threads may run in between.
    pub(crate) fn scan(
        &self,
        start: u64,
        end: u64,
        filter: PageFilter,
        visit: &mut dyn FnMut(u64, u64),
    ) -> Result<(), SysError> {
        let range = PageRange::within(index(start) - BASE, index(end - start));
        if let Some(Injected::Errno(errno)) = self.0.begin(Call::Scan, range) {
            return Err(SysError::new("ioctl(PAGEMAP_SCAN)", errno));
        }
        for page in range.iter() {
            let (entry, has_bytes) = self.0.with(|state| {
                let page = state.page(page);
                (page.entry, page.bytes.is_some())
            });
            let found = match (filter, entry) {
                (PageFilter::Present, Entry::Present { .. }) => true,
                (PageFilter::Allocated, _) => has_bytes,
                (PageFilter::Accessed, Entry::Present { read_write, .. }) => !read_write,
                (PageFilter::Untouched, Entry::Present { read_write, .. }) => read_write,
                _ => false,
            };
            if found {
                let at = (BASE + page.offset()) as u64;
                visit(at, at + PAGE_SIZE as u64);
            }
        }
        Ok(())
    }
}
