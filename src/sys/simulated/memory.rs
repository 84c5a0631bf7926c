//! The simulated memfd, and the program's view of it.

use super::kernel::BASE;
use super::{Call, Entry, Injected, Kernel, Page};
use crate::prim::{PAGE_SIZE, PageIndex, PageRange};
use crate::sys::error::SysError;
use std::sync::Arc;

pub(crate) use super::lazy::LazySlice;

/// The memory of the only arena of a simulated kernel.
#[derive(Debug)]
pub(in crate::sys) struct SharedMemory {
    kernel: Arc<Kernel>,
    len: usize,
}

impl SharedMemory {
    pub(crate) fn new(len: usize) -> Result<Self, SysError> {
        let kernel = Kernel::current();
        kernel.with(|state| state.pages = vec![Page::HOLE; len / PAGE_SIZE]);
        Ok(Self { kernel, len })
    }

    pub(crate) fn descriptor(&self) -> &super::descriptor::Descriptor {
        &super::descriptor::Descriptor
    }

    /// An address at which no memory is.
    pub(crate) fn base(&self) -> *mut u8 {
        core::ptr::without_provenance_mut(BASE)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn address(&self, range: PageRange) -> u64 {
        debug_assert!(range.end.offset() <= self.len());
        (BASE + range.start.offset()) as u64
    }

    pub(crate) fn offset_of(&self, address: usize) -> Option<usize> {
        address.checked_sub(BASE).filter(|&offset| offset < self.len())
    }

    /// Begins a call, which fails with an injected error. A punch repeats an interrupted call itself, so
    /// it ignores EINTR.
    fn begin(&self, call: Call, name: &'static str, range: PageRange) -> Result<(), SysError> {
        match self.kernel.begin(call, range) {
            Some(Injected::Errno(libc::EINTR)) if call == Call::Punch => Ok(()),
            Some(Injected::Errno(errno)) => Err(SysError::new(name, errno)),
            _ => Ok(()),
        }
    }

    fn each(&self, range: PageRange, mut one: impl FnMut(PageIndex, &mut Page)) {
        for page in range.iter() {
            self.kernel.with(|state| one(page, state.page(page)));
        }
    }

    fn map_over(&self, range: PageRange, replaced: bool) {
        self.kernel.exclusively(|state| {
            for page in range.iter() {
                let page = state.page(page);
                let entry = Entry::None;
                *page = Page { replaced, entry, owner: None, referenced: false, ..page.clone() };
            }
        });
    }

    /// Reads each page in two halves. The page may change between them.
    pub(crate) fn read(&self, range: PageRange, buf: &mut [u8]) -> Result<(), SysError> {
        self.begin(Call::ReadBytes, "pread(memfd)", range)?;
        for (page, buf) in range.iter().zip(buf.chunks_mut(PAGE_SIZE)) {
            for half in [0, PAGE_SIZE / 2] {
                let buf = &mut buf[half..half + PAGE_SIZE / 2];
                self.kernel.with(|state| match &state.page(page).bytes {
                    Some(bytes) => buf.copy_from_slice(&bytes[half..half + buf.len()]),
                    None => buf.fill(0),
                });
            }
        }
        Ok(())
    }

    pub(crate) fn try_read(&self, page: PageIndex) -> Option<Result<(), SysError>> {
        Some(self.begin(Call::TryRead, "pread(memfd)", page.only()))
    }

    /// Unmaps and drops each page in one step, because in the kernel a thread that finds the page unmapped
    /// waits until it is dropped (`shmem_falloc_wait`).
    pub(crate) fn punch(&self, range: PageRange) -> Result<(), SysError> {
        self.begin(Call::Punch, "fallocate(PUNCH_HOLE)", range)?;
        self.each(range, |_, page| {
            page.entry = page.entry.unmapped();
            page.bytes = None;
        });
        Ok(())
    }

    pub(crate) fn punch_locked(&self, range: PageRange) -> Result<(), SysError> {
        self.punch(range)
    }

    /// Also removes poison, which is a marker like any other.
    pub(crate) fn zap(&self, range: PageRange) -> Result<(), SysError> {
        self.begin(Call::Zap, "madvise(MADV_DONTNEED)", range)?;
        self.kernel.walk(|| {
            self.each(range, |_, page| {
                page.entry = match page.entry {
                    Entry::Poison => Entry::None,
                    entry => entry.unmapped(),
                };
            });
        });
        Ok(())
    }

    /// The kernel itself touches the pages, so a missing page needs a handler thread.
    pub(crate) fn map_in(&self, range: PageRange) -> Result<(), SysError> {
        let name = "madvise(MADV_POPULATE_READ)";
        self.begin(Call::MapIn, name, range)?;
        for page in range.iter() {
            self.kernel.read(page, |_| ()).map_err(|_| SysError::new(name, libc::EFAULT))?;
        }
        Ok(())
    }

    /// Fills holes with zeros, as every access through the second view does.
    pub(crate) fn lock(&self, range: PageRange) -> Result<(), SysError> {
        self.begin(Call::Lock, "mlock", range)?;
        self.each(range, |_, page| {
            page.bytes.get_or_insert_with(|| vec![0; PAGE_SIZE].into());
            page.locked = true;
        });
        Ok(())
    }

    pub(crate) fn unlock(&self, range: PageRange) -> Result<(), SysError> {
        self.begin(Call::Unlock, "munlock", range)?;
        self.each(range, |_, page| page.locked = false);
        Ok(())
    }

    pub(crate) fn allocated_bytes(&self) -> Result<u64, SysError> {
        let held = |page: &&Page| page.bytes.is_some();
        let pages = self.kernel.with(|state| state.pages.iter().filter(held).count());
        Ok((pages * PAGE_SIZE) as u64)
    }

    /// Changes nothing: each region is a mapping of its own.
    pub(crate) fn set_apart(&self, range: PageRange, _: bool) -> Result<(), SysError> {
        self.begin(Call::SetApart, "madvise(MADV_HUGEPAGE)", range)
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
}

/// Bytes in a base page of the simulated kernel.
pub(crate) fn system_page_size() -> usize {
    PAGE_SIZE
}
