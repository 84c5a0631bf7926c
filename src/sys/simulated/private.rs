//! The simulated private memory, and its staging area.

use super::kernel::BASE;
use super::{Call, Entry, Injected, Kernel, Page};
use crate::prim::geometry::REGION_BYTES;
use crate::prim::{PAGE_SIZE, PageIndex, PageRange, REGION_PAGES};
use crate::sys::error::SysError;
use std::sync::Arc;

/// The memory of the only arena of a simulated kernel. The pages of the staging area follow those of the arena.
#[derive(Debug)]
pub(in crate::sys) struct PrivateMemory {
    kernel: Arc<Kernel>,
    len: usize,
}

impl PrivateMemory {
    pub(crate) fn new(len: usize) -> Result<Self, SysError> {
        let kernel = Kernel::current();
        let pages = len / PAGE_SIZE + REGION_PAGES;
        kernel.with(|state| state.pages = vec![Page::HOLE; pages]);
        Ok(Self { kernel, len })
    }

    /// Huge pages are not simulated.
    pub(crate) fn new_region(&self) -> Option<NewRegion<'_>> {
        None
    }

    /// Huge pages are not simulated.
    pub(crate) fn may_be_huge(&self) -> bool {
        false
    }

    pub(crate) fn make_huge(&self, _: PageRange) -> Result<(), SysError> {
        Ok(())
    }

    /// An address at which no memory is.
    pub(crate) fn base(&self) -> *mut u8 {
        core::ptr::without_provenance_mut(BASE)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn staging(&self) -> (u64, usize) {
        ((BASE + self.len) as u64, REGION_BYTES)
    }

    fn staged(&self, range: PageRange) -> PageRange {
        let first = self.len / PAGE_SIZE + range.start.0 % REGION_PAGES;
        PageRange::new(first, first + range.pages())
    }

    pub(crate) fn staged_address(&self, range: PageRange) -> u64 {
        (BASE + self.staged(range).start.offset()) as u64
    }

    fn begin(&self, call: Call, name: &'static str, range: PageRange) -> Result<(), SysError> {
        match self.kernel.begin(call, range) {
            Some(Injected::Errno(errno)) => Err(SysError::new(name, errno)),
            _ => Ok(()),
        }
    }

    fn each(&self, range: PageRange, mut one: impl FnMut(PageIndex, &mut Page)) {
        for page in range.iter() {
            self.kernel.with(|state| one(page, state.page(page)));
        }
    }

    /// Reads the page in two halves, as the program's own code does. No thread could serve a fault on it.
    pub(crate) fn copy_staged(&self, page: PageRange, buf: &mut [u8]) {
        let staged = self.staged(page).start;
        for half in [0, PAGE_SIZE / 2] {
            self.kernel.with(|state| {
                let Some(bytes) = &state.page(staged).bytes else {
                    unreachable!("{page:?} is read in the staging area, and is not there");
                };
                buf[half..half + PAGE_SIZE / 2].copy_from_slice(&bytes[half..half + PAGE_SIZE / 2]);
            });
        }
    }

    pub(crate) fn discard_staged(&self, range: PageRange) -> Result<(), SysError> {
        self.begin(Call::DiscardStaged, "madvise(MADV_DONTNEED)", range)?;
        self.drop_pages(self.staged(range));
        Ok(())
    }

    pub(crate) fn discard(&self, range: PageRange) -> Result<(), SysError> {
        self.begin(Call::Discard, "madvise(MADV_DONTNEED)", range)?;
        self.drop_pages(range);
        Ok(())
    }

    fn drop_pages(&self, range: PageRange) {
        self.kernel.walk(|| {
            self.each(range, |_, page| {
                page.entry = Entry::None;
                page.bytes = None;
            });
        });
    }

    /// Drops the pages too: the page table alone holds them.
    fn map_over(&self, range: PageRange, replaced: bool) {
        self.kernel.exclusively(|state| {
            for page in range.iter() {
                *state.page(page) = Page { replaced, ..Page::HOLE };
            }
        });
    }

    pub(crate) fn map_inaccessible(&self, range: PageRange) -> Result<(), SysError> {
        self.begin(Call::Replace, "mmap(MAP_FIXED)", range)?;
        self.map_over(range, true);
        Ok(())
    }

    pub(crate) fn restore_view(&self, range: PageRange) -> Result<(), SysError> {
        self.begin(Call::Restore, "mmap(MAP_FIXED)", range)?;
        self.map_over(range, false);
        Ok(())
    }

    /// Changes nothing: each region is a mapping of its own.
    pub(crate) fn set_apart(&self, range: PageRange, _: bool) -> Result<(), SysError> {
        self.begin(Call::SetApart, "madvise(MADV_WIPEONFORK)", range)
    }
}

/// A new region of zeros. None is ever made.
#[derive(Debug)]
pub(in crate::sys) struct NewRegion<'a>(std::convert::Infallible, std::marker::PhantomData<&'a ()>);

impl NewRegion<'_> {
    pub(crate) fn address(&self) -> u64 {
        match self.0 {}
    }
}
