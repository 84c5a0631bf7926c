//! An arena's private memory, and the staging area to which the evictor moves pages.

#![allow(unsafe_code)]

use super::view::View;
use crate::prim::geometry::REGION_BYTES;
use crate::prim::{PAGE_SIZE, PageRange};
use crate::sys::error::SysError;
use memmap2::{Advice, UncheckedAdvice};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Anonymous private memory, which only this process has.
///
/// Its pages live in the page table alone: a page that leaves the page table without being moved is gone. Where
/// transparent huge pages are `madvise` or `always`, the kernel may back it by huge pages.
///
/// The staging area has room for one region. A page of the arena has its place there at the same offset from the
/// start of the region. New regions are made elsewhere, because the kernel serves a fault on registered memory with
/// small pages.
#[derive(Debug)]
pub(in crate::sys) struct PrivateMemory {
    app: View,
    staging: View,
    /// Room for a new region, at a multiple of its size.
    new_region: View,
    /// A thread uses `new_region`.
    new_region_in_use: AtomicBool,
    /// Whether the system allows huge pages.
    may_be_huge: bool,
}

/// A new region of zeros, which may be a huge page. The thread that has it moves it into the arena.
#[derive(Debug)]
pub(in crate::sys) struct NewRegion<'a>(&'a PrivateMemory);

impl PrivateMemory {
    /// Reserves `len` bytes, a multiple of the page size, without allocating memory.
    pub(crate) fn new(len: usize) -> Result<Self, SysError> {
        let staging = View::private(REGION_BYTES, 0)?;
        // The kernel randomises the staging area's address, and so the arena's. A forked child, whose staging area may
        // lie where its parent's does, gets another address: a pointer into the parent's arena must not reach its own.
        let seed = staging.base().addr() ^ std::process::id() as usize;
        let app = View::low_private(len, seed)?;
        for view in [&app, &staging] {
            let advise =
                |advice, call| view.advise(advice).map_err(|e| SysError::from_io(call, &e));
            // A child has no descriptor that could serve its faults.
            advise(Advice::DontFork, "madvise(MADV_DONTFORK)")?;
            advise(Advice::DontDump, "madvise(MADV_DONTDUMP)")?;
        }
        // EINVAL if the kernel has no huge pages.
        let _ = app.advise(Advice::HugePage);
        let _ = staging.advise(Advice::NoHugePage);
        let new_region = View::private(2 * REGION_BYTES, 0)?;
        let _ = new_region.advise(Advice::HugePage);
        let _ = new_region.advise(Advice::DontFork);
        let _ = new_region.advise(Advice::DontDump);
        Ok(Self {
            app,
            staging,
            new_region,
            new_region_in_use: AtomicBool::new(false),
            may_be_huge: allows_huge_pages(),
        })
    }

    fn new_region_offset(&self) -> usize {
        let start = self.new_region.base().addr();
        start.next_multiple_of(REGION_BYTES) - start
    }

    /// A region of zeros. None if another thread makes one at the moment, or if the kernel has no memory.
    pub(crate) fn new_region(&self) -> Option<NewRegion<'_>> {
        if self.new_region_in_use.swap(true, Ordering::Acquire) {
            return None;
        }
        let region = NewRegion(self);
        let (start, len) = (self.new_region_offset(), REGION_BYTES);
        self.new_region.advise_range(Advice::PopulateWrite, start, len).ok()?;
        Some(region)
    }

    /// Whether the system allows huge pages.
    pub(crate) fn may_be_huge(&self) -> bool {
        self.may_be_huge
    }

    /// Copies the pages of `range`, a whole region, to a huge page that takes their place. All of them must be in
    /// memory. The kernel refuses if it finds no huge page, or if a page is in use by it.
    pub(crate) fn make_huge(&self, range: PageRange) -> Result<(), SysError> {
        self.app
            .collapse(range.start.offset(), range.bytes())
            .map_err(|e| SysError::from_io("madvise(MADV_COLLAPSE)", &e))
    }

    /// The first byte of the arena.
    pub(crate) fn base(&self) -> *mut u8 {
        self.app.base()
    }

    /// Bytes in the arena.
    pub(crate) fn len(&self) -> usize {
        self.app.len()
    }

    /// The staging area's address and length in bytes.
    pub(crate) fn staging(&self) -> (u64, usize) {
        (self.staging.base().addr() as u64, self.staging.len())
    }

    /// The offset in the staging area of the place of `range`, which lies in one region.
    fn staging_offset(&self, range: PageRange) -> usize {
        let offset = range.start.offset() % REGION_BYTES;
        assert!(range.bytes() <= REGION_BYTES - offset, "{range:?} is in two regions");
        offset
    }

    /// The address of the place of `range`, which lies in one region, in the staging area.
    pub(crate) fn staged_address(&self, range: PageRange) -> u64 {
        (self.staging.base().addr() + self.staging_offset(range)) as u64
    }

    /// Copies the bytes of a page from the staging area. The page must be there, and stay there meanwhile: the
    /// area is registered, so a read of a missing page would wait for a handler thread.
    pub(crate) fn copy_staged(&self, page: PageRange, buf: &mut [u8]) {
        debug_assert_eq!((page.bytes(), buf.len()), (PAGE_SIZE, PAGE_SIZE));
        let from = self.staging.base().wrapping_add(self.staging_offset(page));
        // SAFETY: both are valid for a page. The program has no pointers to the staging area, and the caller
        // makes sure that no other thread moves the page meanwhile, so nothing writes to these bytes.
        unsafe { std::ptr::copy_nonoverlapping(from, buf.as_mut_ptr(), buf.len()) };
    }

    /// Gives the memory in the place of `range` in the staging area back to the system.
    pub(crate) fn discard_staged(&self, range: PageRange) -> Result<(), SysError> {
        Self::drop_pages(&self.staging, self.staging_offset(range), range.bytes())
    }

    /// Gives the memory of `range` back to the system. Afterwards registered memory faults as missing, and other
    /// memory reads as zeros. Wakes no thread. Any thread may call this.
    pub(crate) fn discard(&self, range: PageRange) -> Result<(), SysError> {
        let (start, bytes) = (range.start.offset(), range.bytes());
        match Self::drop_pages(&self.app, start, bytes) {
            // The program has locked the pages. The caller owns them, so they need not stay locked.
            Err(e) if e.errno() == libc::EINVAL => {
                let at = self.app.base().wrapping_add(start);
                // SAFETY: the range lies in the view; unlocking changes no contents.
                if unsafe { libc::munlock(at.cast(), bytes) } != 0 {
                    return Err(SysError::last("munlock"));
                }
                Self::drop_pages(&self.app, start, bytes)
            }
            done => done,
        }
    }

    fn drop_pages(view: &View, start: usize, bytes: usize) -> Result<(), SysError> {
        // SAFETY: the call drops bytes that the program may rely on. By the rule of the page words no byte is
        // lost: the caller owns these pages, and their bytes are in the store, or the program has freed them.
        unsafe { view.unchecked_advise_range(UncheckedAdvice::DontNeed, start, bytes) }
            .map_err(|e| SysError::from_io("madvise(MADV_DONTNEED)", &e))
    }

    /// Makes every access to `range` a SIGBUS: maps an empty file over the range. The range is not registered
    /// any more afterwards. Only the keeper may call this: it has a descriptor table of its own.
    pub(crate) fn map_inaccessible(&self, range: PageRange) -> Result<(), SysError> {
        let empty = super::memory::memfd(c"thermocline-lost")?;
        self.map_over(range, empty.as_raw_fd(), libc::MAP_SHARED)
    }

    /// Maps new memory over a range that [`map_inaccessible`](Self::map_inaccessible) replaced, or over a
    /// poisoned one. The caller must register the range anew.
    pub(crate) fn restore_view(&self, range: PageRange) -> Result<(), SysError> {
        self.map_over(range, -1, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)?;
        for advice in [Advice::DontFork, Advice::DontDump] {
            self.app
                .advise_range(advice, range.start.offset(), range.bytes())
                .map_err(|e| SysError::from_io("madvise", &e))?;
        }
        let _ = self.app.advise_range(Advice::HugePage, range.start.offset(), range.bytes());
        Ok(())
    }

    fn map_over(&self, range: PageRange, number: RawFd, flags: i32) -> Result<(), SysError> {
        // SAFETY: the range lies in the arena, so MAP_FIXED replaces only pages of it, atomically. The view keeps
        // its bounds, so unmapping it later still frees all of it.
        let mapped = unsafe {
            libc::mmap(
                self.base().wrapping_add(range.start.offset()).cast(),
                range.bytes(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_FIXED | libc::MAP_NORESERVE | flags,
                number,
                0,
            )
        };
        if mapped == libc::MAP_FAILED { Err(SysError::last("mmap(MAP_FIXED)")) } else { Ok(()) }
    }

    /// Makes the pages of `range` a mapping of their own if the neighbouring ranges are not `apart`; see
    /// [`super::accessed`]. Children do not inherit the memory, so to wipe it in children changes nothing else.
    pub(crate) fn set_apart(&self, range: PageRange, apart: bool) -> Result<(), SysError> {
        let done = self.app.wipe_on_fork(apart, range.start.offset(), range.bytes());
        done.map_err(|e| SysError::from_io("madvise(MADV_WIPEONFORK)", &e))
    }
}

/// Whether transparent huge pages are `always` or `madvise`. `MADV_COLLAPSE` ignores the setting, the library does
/// not.
fn allows_huge_pages() -> bool {
    std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .is_ok_and(|setting| !setting.contains("[never]"))
}

impl NewRegion<'_> {
    /// The region's address.
    pub(crate) fn address(&self) -> u64 {
        (self.0.new_region.base().addr() + self.0.new_region_offset()) as u64
    }
}

impl Drop for NewRegion<'_> {
    fn drop(&mut self) {
        // Pages that were not moved stay for the next one. They are zeros.
        self.0.new_region_in_use.store(false, Ordering::Release);
    }
}
