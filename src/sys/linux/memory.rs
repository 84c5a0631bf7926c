//! An arena's memory: a memfd with two views.

#![allow(unsafe_code)]

use super::descriptor::{Descriptor, read_exact_at};
use super::view::View;
use crate::prim::{PageIndex, PageRange};
use crate::sys::error::SysError;
use memmap2::{Advice, UncheckedAdvice};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::OnceLock;

pub(crate) use super::lazy::LazySlice;

/// A memfd that cannot change its size, mapped twice.
///
/// The program uses the first view. It never gets the second, which is never registered with a
/// userfaultfd; the library locks and drops pages through it (see [`SharedMemory::lock`] and
/// [`SharedMemory::punch`]).
///
/// The evictor reads the bytes through the descriptor and needs no mapping. That was a fifth faster than
/// reading through a second view whose page tables are cold. It makes no page-table entries that a hole
/// punch would have to clear. And because the kernel copies, no Rust reference ever exists to memory that
/// the program may be writing.
///
/// Threads of the program never read or change the file by its number, which may refer to another file.
#[derive(Debug)]
pub(in crate::sys) struct SharedMemory {
    file: Descriptor,
    app: View,
    alias: View,
}

/// The advice that keeps neighbouring mappings apart. It has to change nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Separator {
    /// MADV_HUGEPAGE, against MADV_NOHUGEPAGE. With `shmem_enabled=never`, the kernel's default, nothing else
    /// changes. With other values khugepaged may put a huge page in place of pages, if none of them is missing:
    /// since Linux 6.4 it leaves holes of memory alone that is registered for missing faults
    /// (`collapse_file`). Earlier it filled them with zeros, and evicted pages read as zeros.
    HugePage,
    /// MADV_RANDOM, against MADV_NORMAL. Since Linux 6.3 reclaim ignores the accessed bits of such mappings
    /// (`vma_has_recency`) and would swap them out first.
    Random,
}

static SEPARATOR: OnceLock<Separator> = OnceLock::new();

impl Separator {
    fn of_this_kernel() -> Self {
        // SAFETY: a struct of bytes is valid as zeros, the call writes to it, and the kernel's strings end.
        let release = unsafe {
            let mut name: libc::utsname = std::mem::zeroed();
            libc::uname(&raw mut name);
            CStr::from_ptr(name.release.as_ptr()).to_string_lossy().into_owned()
        };
        Self::of(&release)
    }

    /// The separator for a kernel's release, as in `uname -r`.
    fn of(release: &str) -> Self {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (6, 4) => Self::HugePage,
            _ => Self::Random,
        }
    }
}

impl SharedMemory {
    /// Reserves `len` bytes, a multiple of the page size, without allocating memory.
    pub(crate) fn new(len: usize) -> Result<Self, SysError> {
        let file = memfd(c"thermocline")?;
        // Above the limit ftruncate would fail and also send SIGXFSZ.
        if file_size_limit() < len as u64 {
            return Err(SysError::file_too_large("ftruncate(memfd), above RLIMIT_FSIZE"));
        }
        file.set_len(len as u64).map_err(|e| SysError::from_io("ftruncate(memfd)", &e))?;
        let seals = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
        // SAFETY: F_ADD_SEALS takes an integer and accesses no memory of the process.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } == -1 {
            return Err(SysError::last("fcntl(F_ADD_SEALS)"));
        }
        let alias = View::new(file.as_raw_fd(), len)?;
        // The kernel randomises the second view's address, and so the first one's.
        let app = View::low(file.as_raw_fd(), len, alias.base().addr())?;
        for view in [&app, &alias] {
            // A child with this mapping would fill holes with zeros, also for its parent.
            let advise =
                |advice, call| view.advise(advice).map_err(|e| SysError::from_io(call, &e));
            advise(Advice::DontFork, "madvise(MADV_DONTFORK)")?;
            advise(Advice::DontDump, "madvise(MADV_DONTDUMP)")?;
            // EINVAL if the kernel has no huge pages.
            let _ = view.advise(Advice::NoHugePage);
        }
        Ok(Self { file: Descriptor::new(file.into())?, app, alias })
    }

    pub(crate) fn descriptor(&self) -> &Descriptor {
        &self.file
    }

    /// The first byte of the program's view.
    pub(crate) fn base(&self) -> *mut u8 {
        self.app.base()
    }

    /// Bytes in the view.
    pub(crate) fn len(&self) -> usize {
        self.app.len()
    }

    /// The address of the first byte of `range` in the program's view.
    pub(crate) fn address(&self, range: PageRange) -> u64 {
        debug_assert!(range.end.offset() <= self.len());
        (self.base().addr() + range.start.offset()) as u64
    }

    /// The offset in the arena of an address of the program's view.
    pub(crate) fn offset_of(&self, address: usize) -> Option<usize> {
        address.checked_sub(self.base().addr()).filter(|&offset| offset < self.len())
    }

    /// Copies the bytes of `range` to `buf`, which is as long as the range. A hole reads as zeros
    /// and stays a hole. Neither faults nor counts as a touch.
    ///
    /// Only the evictor may call this: it has a descriptor table of its own.
    pub(crate) fn read(&self, range: PageRange, buf: &mut [u8]) -> Result<(), SysError> {
        debug_assert_eq!(range.bytes(), buf.len());
        let name = "pread(memfd)";
        read_exact_at(self.file.checked(name)?, buf, range.start.offset() as u64, name)
    }

    /// Whether the kernel can read the page's bytes. It may have lost them when it swapped the page out.
    ///
    /// Reads one byte by the descriptor's number. None if the number refers to another file in the
    /// calling thread's table. Safe in a signal handler.
    pub(crate) fn try_read(&self, page: PageIndex) -> Option<Result<(), SysError>> {
        let read =
            || read_exact_at(self.file.number(), &mut [0], page.offset() as u64, "pread(memfd)");
        self.file.is_original().then(read)
    }

    /// Gives the memory of `range` back to the system. Afterwards a registered view faults as missing,
    /// and any other view reads zeros. Wakes no thread.
    ///
    /// Any thread may call this: it names the pages by their addresses in the second view.
    pub(crate) fn punch(&self, range: PageRange) -> Result<(), SysError> {
        match self.remove(range) {
            // This call drops no locked pages. `lock` has locked them, or the program has locked all of its
            // memory (`mlockall(2)`). The caller owns them, so they need not stay locked.
            Err(e) if e.errno() == libc::EINVAL => {
                self.unlock(range)?;
                self.remove(range)
            }
            done => done,
        }
    }

    /// `MADV_REMOVE`: a hole punch by address (`madvise(2)`, "equivalent to punching a hole").
    fn remove(&self, range: PageRange) -> Result<(), SysError> {
        loop {
            let (start, bytes) = (range.start.offset(), range.bytes());
            // SAFETY: the call drops bytes that the program may rely on. By the rule of the page words no
            // byte is lost: the caller owns these pages, and their bytes are in the store, or the program
            // has freed them.
            let done =
                unsafe { self.alias.unchecked_advise_range(UncheckedAdvice::Remove, start, bytes) };
            match done.map_err(|e| SysError::from_io("madvise(MADV_REMOVE)", &e)) {
                Err(e) if e.errno() == libc::EINTR => {}
                result => return result,
            }
        }
    }

    /// As [`punch`](Self::punch), but keeps locked pages locked until they are dropped.
    ///
    /// Only the evictor may call this: it has a descriptor table of its own.
    pub(crate) fn punch_locked(&self, range: PageRange) -> Result<(), SysError> {
        let name = "fallocate(PUNCH_HOLE)";
        let number = self.file.checked(name)?;
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let (start, bytes) = (range.start.offset() as i64, range.bytes() as i64);
        loop {
            // SAFETY: as in `remove`; the number refers to the memfd.
            if unsafe { libc::fallocate(number, mode, start, bytes) } == 0 {
                return Ok(());
            }
            match SysError::last(name) {
                e if e.errno() == libc::EINTR => {}
                e => return Err(e),
            }
        }
    }

    /// Takes the pages of `range` out of the program's page table. The page cache keeps the bytes, and
    /// the kernel maps each page again at the next touch.
    pub(crate) fn zap(&self, range: PageRange) -> Result<(), SysError> {
        // SAFETY: on a shared mapping MADV_DONTNEED drops page-table entries, never contents.
        unsafe {
            self.app.unchecked_advise_range(
                UncheckedAdvice::DontNeed,
                range.start.offset(),
                range.bytes(),
            )
        }
        .map_err(|e| SysError::from_io("madvise(MADV_DONTNEED)", &e))
    }

    /// Maps the pages of `range`, all of which are in the page cache, into the program's view.
    pub(crate) fn map_in(&self, range: PageRange) -> Result<(), SysError> {
        self.app
            .advise_range(Advice::PopulateRead, range.start.offset(), range.bytes())
            .map_err(|e| SysError::from_io("madvise(MADV_POPULATE_READ)", &e))
    }

    /// Keeps the kernel from swapping the pages of `range` out until [`unlock`](Self::unlock). They
    /// must be in the page cache. Counts against `RLIMIT_MEMLOCK`.
    pub(crate) fn lock(&self, range: PageRange) -> Result<(), SysError> {
        let at = self.alias.base().wrapping_add(range.start.offset());
        // SAFETY: the range lies in the second view; locking changes no contents.
        if unsafe { libc::mlock(at.cast(), range.bytes()) } == 0 {
            Ok(())
        } else {
            Err(SysError::last("mlock"))
        }
    }

    /// Unlocks the pages of `range` and unmaps them from the second view.
    pub(crate) fn unlock(&self, range: PageRange) -> Result<(), SysError> {
        let at = self.alias.base().wrapping_add(range.start.offset());
        // SAFETY: as in `lock`.
        if unsafe { libc::munlock(at.cast(), range.bytes()) } != 0 {
            return Err(SysError::last("munlock"));
        }
        // SAFETY: as in `zap`. If the pages stayed mapped here, the next `mlock` would take them as locked
        // without the folio lock, and they would count twice in the process's resident size.
        unsafe {
            self.alias.unchecked_advise_range(
                UncheckedAdvice::DontNeed,
                range.start.offset(),
                range.bytes(),
            )
        }
        .map_err(|e| SysError::from_io("madvise(MADV_DONTNEED)", &e))
    }

    /// Bytes of memory or kernel swap that the memfd holds, as the kernel counts them.
    pub(crate) fn allocated_bytes(&self) -> Result<u64, SysError> {
        let meta = self.file.metadata("fstat(memfd)")?;
        Ok(meta.st_blocks.unsigned_abs() * 512)
    }

    /// Makes every access to `range` a SIGBUS, on kernels without `UFFDIO_POISON`: maps an empty file
    /// over the range. The range is not registered any more afterwards.
    ///
    /// Only the keeper may call this: it has a descriptor table of its own. In the program's table the
    /// new file's number could refer to another file before the call that maps it.
    pub(crate) fn map_inaccessible(&self, range: PageRange) -> Result<(), SysError> {
        let empty = memfd(c"thermocline-lost")?;
        self.map_over(range, empty.as_raw_fd(), 0)
    }

    /// Maps the memory again over a poisoned range, or over one that
    /// [`map_inaccessible`](Self::map_inaccessible) replaced. The caller must register the range anew.
    /// Only the keeper may call this.
    ///
    /// The page gets the advice of a range that is not [set apart](Self::set_apart). Within a range that
    /// is, the page becomes a mapping of its own; at the range's edge it joins the neighbouring range.
    pub(crate) fn restore_view(&self, range: PageRange) -> Result<(), SysError> {
        let number = self.file.checked("mmap(MAP_FIXED)")?;
        self.map_over(range, number, range.start.offset())?;
        for advice in [Advice::DontFork, Advice::DontDump] {
            self.app
                .advise_range(advice, range.start.offset(), range.bytes())
                .map_err(|e| SysError::from_io("madvise", &e))?;
        }
        let _ = self.app.advise_range(Advice::NoHugePage, range.start.offset(), range.bytes());
        Ok(())
    }

    /// Makes the pages of `range` a mapping of their own if the neighbouring ranges are not `apart`, so
    /// that `/proc/self/smaps` counts the accessed bits of each range (see [`super::accessed`]).
    ///
    /// The kernel merges neighbouring mappings that have the same flags, so ranges that are `apart` get another
    /// advice; see [`Separator`].
    ///
    /// The error is ENOMEM if the process has as many mappings as it may have (`vm.max_map_count`).
    pub(crate) fn set_apart(&self, range: PageRange, apart: bool) -> Result<(), SysError> {
        let separator = *SEPARATOR.get_or_init(Separator::of_this_kernel);
        match self.separate(range, apart, separator) {
            // This kernel has no huge pages.
            Err(e) if e.errno() == libc::EINVAL => self.separate(range, apart, Separator::Random),
            done => done,
        }
    }

    fn separate(
        &self,
        range: PageRange,
        apart: bool,
        separator: Separator,
    ) -> Result<(), SysError> {
        let (advice, call) = match (separator, apart) {
            (Separator::HugePage, true) => (Advice::HugePage, "madvise(MADV_HUGEPAGE)"),
            (Separator::HugePage, false) => (Advice::NoHugePage, "madvise(MADV_NOHUGEPAGE)"),
            (Separator::Random, true) => (Advice::Random, "madvise(MADV_RANDOM)"),
            (Separator::Random, false) => (Advice::Normal, "madvise(MADV_NORMAL)"),
        };
        let done = self.app.advise_range(advice, range.start.offset(), range.bytes());
        done.map_err(|e| SysError::from_io(call, &e))
    }

    fn map_over(&self, range: PageRange, number: RawFd, offset: usize) -> Result<(), SysError> {
        // SAFETY: the range lies in the program's view, so MAP_FIXED replaces only pages of that view,
        // atomically. The view keeps its bounds, so unmapping it later still frees all of it.
        let mapped = unsafe {
            libc::mmap(
                self.base().wrapping_add(range.start.offset()).cast(),
                range.bytes(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_NORESERVE,
                number,
                offset as i64,
            )
        };
        if mapped == libc::MAP_FAILED { Err(SysError::last("mmap(MAP_FIXED)")) } else { Ok(()) }
    }
}

pub(super) fn memfd(name: &core::ffi::CStr) -> Result<File, SysError> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // Without MFD_NOEXEC_SEAL, Linux 6.3 and later write a warning to their log. Older kernels refuse it.
    for flags in [flags | libc::MFD_NOEXEC_SEAL, flags] {
        // SAFETY: the name is a C string; the call returns a descriptor or -1.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        if fd >= 0 {
            // SAFETY: the descriptor is new, so nothing else owns it.
            return Ok(unsafe { File::from_raw_fd(fd) });
        }
        if io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL) {
            break;
        }
    }
    Err(SysError::last("memfd_create"))
}

/// The largest file that this process may make, in bytes.
fn file_size_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one struct.
    match unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) } {
        0 => limit.rlim_cur,
        _ => u64::MAX,
    }
}

/// Bytes in a base page of the running kernel.
pub(crate) fn system_page_size() -> usize {
    // SAFETY: takes and returns integers.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prim::PAGE_SIZE;
    use crate::sys::uffd::Uffd;

    fn write(memory: &SharedMemory, offset: usize, value: u8) {
        assert!(offset < memory.len());
        // SAFETY: within the mapping, which only this test uses.
        unsafe { memory.base().add(offset).write_volatile(value) }
    }

    fn load(memory: &SharedMemory, offset: usize) -> u8 {
        assert!(offset < memory.len());
        // SAFETY: within the mapping, which only this test uses.
        unsafe { memory.base().add(offset).read_volatile() }
    }

    #[test]
    fn reading_a_hole_gives_zeros_and_takes_no_memory() {
        let memory = SharedMemory::new(8 * PAGE_SIZE).unwrap();
        write(&memory, PAGE_SIZE, 7);
        let mut buf = vec![1; 2 * PAGE_SIZE];
        memory.read(PageRange::new(0, 2), &mut buf).unwrap();
        assert_eq!((buf[0], buf[PAGE_SIZE]), (0, 7));
        assert_eq!(memory.allocated_bytes().unwrap(), PAGE_SIZE as u64);
    }

    #[test]
    fn a_zap_keeps_the_bytes_and_a_punch_drops_them() {
        let memory = SharedMemory::new(4 * PAGE_SIZE).unwrap();
        write(&memory, 0, 7);
        memory.zap(PageRange::new(0, 4)).unwrap();
        assert_eq!(load(&memory, 0), 7);
        memory.punch(PageRange::new(0, 1)).unwrap();
        assert_eq!(memory.allocated_bytes().unwrap(), 0);
        assert_eq!(load(&memory, 0), 0);
    }

    #[test]
    fn both_ways_to_punch_drop_locked_pages() {
        let memory = SharedMemory::new(4 * PAGE_SIZE).unwrap();
        let all = PageRange::new(0, 4);
        for punch in [SharedMemory::punch, SharedMemory::punch_locked] {
            write(&memory, PAGE_SIZE, 7);
            memory.lock(all).unwrap();
            punch(&memory, PageRange::new(1, 2)).unwrap();
            assert_eq!(memory.allocated_bytes().unwrap(), 3 * PAGE_SIZE as u64);
            assert_eq!(load(&memory, PAGE_SIZE), 0);
            memory.unlock(all).unwrap();
        }
    }

    #[test]
    fn the_size_of_the_file_is_sealed() {
        let memory = SharedMemory::new(4 * PAGE_SIZE).unwrap();
        for bytes in [0, 8 * PAGE_SIZE as i64] {
            // SAFETY: takes integers; the seals keep the file unchanged.
            assert_eq!(unsafe { libc::ftruncate(memory.file.number(), bytes) }, -1);
        }
    }

    #[test]
    fn a_restored_view_is_readable_with_its_old_bytes() {
        let memory = SharedMemory::new(4 * PAGE_SIZE).unwrap();
        write(&memory, PAGE_SIZE, 9);
        memory.map_inaccessible(PageRange::new(1, 2)).unwrap();
        memory.restore_view(PageRange::new(1, 2)).unwrap();
        assert_eq!(load(&memory, PAGE_SIZE), 9);
    }
    #[test]
    fn the_separator_depends_on_the_release() {
        for release in ["6.4.0", "6.12.117+deb13-amd64", "7.3.4", "10.0"] {
            assert_eq!(Separator::of(release), Separator::HugePage, "{release}");
        }
        for release in ["6.3.13", "5.14.0-427.el9.x86_64", "6.1.0-44-cloud-amd64", "", "six.4"] {
            assert_eq!(Separator::of(release), Separator::Random, "{release}");
        }
    }

    /// MADV_COLLAPSE (Linux 6.1) does at once what khugepaged does by and by.
    #[test]
    fn a_collapse_fills_no_page_that_is_missing() {
        use crate::prim::REGION_PAGES;
        use crate::prim::geometry::REGION_BYTES;
        use crate::sys::uapi::{UFFD_FEATURE_MISSING_SHMEM, UFFDIO_REGISTER_MODE_MISSING};
        let memory = SharedMemory::new(3 * REGION_BYTES).unwrap();
        let uffd = Uffd::open(UFFD_FEATURE_MISSING_SHMEM)
            .or_else(|_| Uffd::open_for_user_mode(UFFD_FEATURE_MISSING_SHMEM))
            .unwrap();
        let all = PageRange::within(0, memory.len());
        uffd.register(memory.address(all), memory.len(), UFFDIO_REGISTER_MODE_MISSING).unwrap();
        let range = PageRange::new(REGION_PAGES, 2 * REGION_PAGES);
        for page in range.iter().step_by(2) {
            uffd.copy(memory.address(page.only()), &[7; PAGE_SIZE], true).unwrap();
        }
        let before = memory.allocated_bytes().unwrap();
        for apart in [true, false] {
            memory.set_apart(range, apart).unwrap();
            let at = memory.base().wrapping_add(range.start.offset()).cast();
            // SAFETY: the range lies in the view; a collapse changes no contents. It may be refused.
            unsafe { libc::madvise(at, range.bytes(), libc::MADV_COLLAPSE) };
            assert_eq!(memory.allocated_bytes().unwrap(), before, "apart: {apart}");
        }
    }
}
