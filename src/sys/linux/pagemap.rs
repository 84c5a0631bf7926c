//! Which pages are mapped, and which were touched: by `PAGEMAP_SCAN`, or by reading the pagemap file.
//!
//! Linux 6.7 and later have `PAGEMAP_SCAN` (`Documentation/admin-guide/mm/pagemap.rst`). All kernels have
//! the file.

#![allow(unsafe_code)]

use super::descriptor::{Descriptor, read_exact_at};
use crate::prim::geometry::PAGE_SHIFT;
use crate::prim::units::index;
use crate::sys::error::SysError;
use crate::sys::uapi::{
    PAGE_IS_ACCESSED, PAGE_IS_PRESENT, PAGE_IS_SWAPPED, PAGEMAP_PRESENT, PAGEMAP_SCAN, PageRegion,
    PmScanArg,
};
use std::fs::File;

/// Which pages a scan names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageFilter {
    /// Mapped in the page table.
    Present,
    /// Mapped in the page table, or swapped out from there.
    Allocated,
    /// Touched since they were read-write protected, or never protected (Linux 7.3).
    Accessed,
    /// Mapped, read-write protected, and not touched since (Linux 7.3).
    Untouched,
}

/// This process's `/proc/self/pagemap`.
#[derive(Debug)]
pub(crate) struct Pagemap {
    file: Descriptor,
    has_scan: bool,
    has_accessed: bool,
}

impl Pagemap {
    /// Opens the file and finds out which scans the kernel has.
    pub(crate) fn open() -> Result<Self, SysError> {
        let file = File::open("/proc/self/pagemap")
            .map_err(|e| SysError::from_io("open(/proc/self/pagemap)", &e))?;
        let file = Descriptor::new(file.into())?;
        let mut this = Self { file, has_scan: true, has_accessed: true };
        // Scans an empty range: the kernel checks the masks before it walks the range.
        this.has_scan = this.scan_once(0, 0, PageFilter::Present, &mut []).is_ok();
        this.has_accessed =
            this.has_scan && this.scan_once(0, 0, PageFilter::Accessed, &mut []).is_ok();
        Ok(this)
    }

    pub(crate) fn descriptor(&self) -> &Descriptor {
        &self.file
    }

    /// Whether the kernel has `PAGEMAP_SCAN`.
    pub(crate) fn has_scan(&self) -> bool {
        self.has_scan
    }

    /// Whether `PAGEMAP_SCAN` knows `PAGE_IS_ACCESSED`.
    pub(crate) fn has_accessed(&self) -> bool {
        self.has_accessed
    }

    /// Calls `visit(start, end)` for each run of addresses in `[start, end)` whose pages `filter` names, in
    /// order. A run may come in pieces.
    pub(crate) fn scan(
        &self,
        start: u64,
        end: u64,
        filter: PageFilter,
        visit: &mut dyn FnMut(u64, u64),
    ) -> Result<(), SysError> {
        if filter == PageFilter::Present && !self.has_scan {
            return self.scan_file(start, end, visit);
        }
        let mut regions = [PageRegion::default(); 16];
        let mut from = start;
        while from < end {
            let (found, walked) = self.scan_once(from, end, filter, &mut regions)?;
            for region in &regions[..found] {
                visit(region.start, region.end);
            }
            // The scan goes on after the reported regions at least, so that the loop ends.
            from = walked.max(regions[..found].last().map_or(end, |r| r.end));
        }
        Ok(())
    }

    fn scan_once(
        &self,
        start: u64,
        end: u64,
        filter: PageFilter,
        regions: &mut [PageRegion],
    ) -> Result<(usize, u64), SysError> {
        let (all, any, inverted) = match filter {
            PageFilter::Present => (PAGE_IS_PRESENT, 0, 0),
            PageFilter::Allocated => (0, PAGE_IS_PRESENT | PAGE_IS_SWAPPED, 0),
            PageFilter::Accessed => (PAGE_IS_ACCESSED, 0, 0),
            PageFilter::Untouched => (PAGE_IS_PRESENT | PAGE_IS_ACCESSED, 0, PAGE_IS_ACCESSED),
        };
        let mut arg = PmScanArg {
            size: size_of::<PmScanArg>() as u64,
            start,
            end,
            vec: regions.as_mut_ptr().addr() as u64,
            vec_len: regions.len() as u64,
            category_inverted: inverted,
            category_mask: all,
            category_anyof_mask: any,
            return_mask: PAGE_IS_PRESENT,
            ..Default::default()
        };
        // If the number refers to another file, the call answers ENOTTY.
        let (number, request) = (self.file.number(), PAGEMAP_SCAN as libc::Ioctl);
        // SAFETY: the argument is the struct that the request names, and `vec` points to
        // `vec_len` regions that are exclusively borrowed for the call.
        let found = unsafe { libc::ioctl(number, request, core::ptr::from_mut(&mut arg)) };
        match usize::try_from(found) {
            Ok(found) => Ok((found.min(regions.len()), arg.walk_end)),
            Err(_) => Err(SysError::last("ioctl(PAGEMAP_SCAN)")),
        }
    }

    fn scan_file(
        &self,
        start: u64,
        end: u64,
        visit: &mut dyn FnMut(u64, u64),
    ) -> Result<(), SysError> {
        // Few, because the fault path calls this too, and its stack may be small.
        const ENTRIES: usize = 64;
        let mut bytes = [0u8; ENTRIES * 8];
        let page = 1u64 << PAGE_SHIFT;
        let name = "pread(/proc/self/pagemap)";
        if !self.file.is_original() {
            return Err(SysError::new(name, libc::EBADF));
        }
        let mut at = start;
        let mut run: Option<u64> = None;
        while at < end {
            let want = index((end - at) >> PAGE_SHIFT).min(ENTRIES);
            let bytes = &mut bytes[..want * 8];
            read_exact_at(self.file.number(), bytes, (at >> PAGE_SHIFT) * 8, name)?;
            for entry in bytes.as_chunks::<8>().0 {
                let present = u64::from_ne_bytes(*entry) & PAGEMAP_PRESENT != 0;
                match (present, run) {
                    (true, None) => run = Some(at),
                    (false, Some(start)) => {
                        visit(start, at);
                        run = None;
                    }
                    _ => {}
                }
                at += page;
            }
        }
        if let Some(start) = run {
            visit(start, end);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prim::{PAGE_SIZE, PageRange};
    use crate::sys::memory::SharedMemory;

    /// Both ways name the same pages.
    #[test]
    fn scan_and_file_agree() {
        let pages = 3000;
        let memory = SharedMemory::new(pages * PAGE_SIZE).unwrap();
        // On a read the kernel would map neighbours too (fault-around), because the memory is not
        // registered. A write to a hole maps one page alone.
        let touched = |page: usize| page.is_multiple_of(7) || (600..700).contains(&page);
        for page in (0..pages).filter(|&p| touched(p)) {
            // SAFETY: within the mapping, which only this test uses.
            unsafe { memory.base().add(page * PAGE_SIZE).write_volatile(1) };
        }
        let pagemap = Pagemap::open().unwrap();
        let all = PageRange::new(0, pages);
        let (start, end) = (memory.address(all), memory.address(all) + all.bytes() as u64);
        let collect = |file: bool| {
            let mut seen = vec![false; pages];
            let mut visit = |s: u64, e: u64| {
                let page = |a: u64| ((a - start) as usize) / PAGE_SIZE;
                seen[page(s)..page(e)].fill(true);
            };
            if file {
                pagemap.scan_file(start, end, &mut visit).unwrap();
            } else {
                pagemap.scan(start, end, PageFilter::Present, &mut visit).unwrap();
            }
            seen
        };
        let expected: Vec<bool> = (0..pages).map(touched).collect();
        assert!(collect(true) == expected, "the pagemap file");
        assert!(
            collect(false) == expected,
            "PAGEMAP_SCAN, or the file if the kernel has no PAGEMAP_SCAN"
        );
    }
}
