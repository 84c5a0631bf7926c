//! Which pages were touched, and how an eviction can rely on a page not being touched.
//!
//! Two mechanisms, one contract ([`AccessTracker`]): [`rwp`] asks the kernel's read-write
//! protection (Linux 7.3), [`zap`] reads the page table after emptying it (Linux 5.19).

mod rwp;
mod zap;

use crate::prim::sync::thread;
use crate::prim::{PAGE_SIZE, PageRange};
use crate::sys::backing::Backing;
use crate::sys::pagemap::{PageFilter, Pagemap};
use crate::sys::uffd::Outcome;
use crate::sys::{SysError, uapi};
use std::fmt;
use std::sync::Arc;

/// How touches are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tracker {
    /// userfaultfd's read-write protection, Linux 7.3 and later. A touch of a watched page is
    /// resolved inside the kernel.
    Rwp,
    /// Emptying the page table and looking what came back, Linux 5.19 and later. A touch of a
    /// watched page is a minor fault.
    Zap,
}

impl fmt::Display for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rwp => "rwp",
            Self::Zap => "zap",
        })
    }
}

impl Tracker {
    /// The features that its descriptor must be opened with.
    pub(crate) const fn features(self) -> u64 {
        let shared = uapi::UFFD_FEATURE_MISSING_SHMEM;
        match self {
            Self::Rwp => shared | uapi::UFFD_FEATURE_RWP | uapi::UFFD_FEATURE_RWP_ASYNC,
            Self::Zap => {
                shared
                    | uapi::UFFD_FEATURE_PAGEFAULT_FLAG_WP
                    | uapi::UFFD_FEATURE_WP_HUGETLBFS_SHMEM
            }
        }
    }

    /// The mode that its memory must be registered for.
    pub(crate) const fn register_mode(self) -> u64 {
        uapi::UFFDIO_REGISTER_MODE_MISSING
            | match self {
                Self::Rwp => uapi::UFFDIO_REGISTER_MODE_RWP,
                Self::Zap => uapi::UFFDIO_REGISTER_MODE_WP,
            }
    }

    /// The tracker for memory that was registered for its mode.
    pub(crate) fn start(
        self,
        backing: Arc<Backing>,
        pagemap: Pagemap,
    ) -> Result<Arc<dyn AccessTracker>, SysError> {
        Ok(match self {
            Self::Rwp => Arc::new(rwp::Rwp::new(backing, pagemap)?),
            Self::Zap => Arc::new(zap::Zap::new(backing, pagemap)),
        })
    }
}

/// Notices touches, and holds pages still while they are evicted.
///
/// # How a page is evicted under it
///
/// 1. [`arm`](Self::arm) some time before.
/// 2. The caller claims the pages in the page table, then [`hold`](Self::hold)s them.
/// 3. It reads their bytes.
/// 4. [`freeze`](Self::freeze).
/// 5. [`intact`](Self::intact) names the held pages whose bytes are still those that were read.
///    From here until `thaw`, whoever touches one that could make it differ waits, and comes to
///    the fault path, which decides by the page's word.
/// 6. The caller takes the step to `Dropping` for those it still owns, and drops them.
/// 7. [`thaw`](Self::thaw), then [`release`](Self::release) of everything that was held.
///
/// Only one thread holds and freezes. Others may arm pages that they own.
pub(crate) trait AccessTracker: Send + Sync + fmt::Debug {
    /// Which one this is.
    fn kind(&self) -> Tracker;

    /// Begins to watch the pages of `range` that are in memory. A touch that happens while the
    /// call runs counts as before or as after it.
    fn arm(&self, range: PageRange) -> Result<(), SysError>;

    /// Calls `visit` with each run of pages in `range` that were touched since they were armed, or
    /// brought in unarmed, in order. Accesses by system calls on the application's view count,
    /// those through other views do not.
    fn touched(&self, range: PageRange, visit: &mut dyn FnMut(PageRange)) -> Result<(), SysError>;

    /// Prepares `range`, pages that are claimed and in memory, for being read and dropped. Holds
    /// none of them where it fails.
    fn hold(&self, range: PageRange) -> Result<(), SysError>;

    /// Makes sure that no held page of `within` can be changed unseen.
    fn freeze(&self, within: PageRange) -> Result<(), SysError>;

    /// Calls `visit` with each run of held pages in `range` that nobody has touched since they
    /// were armed. Their bytes are what they were at any time since `hold`. Pages whose watch was
    /// lost are left out.
    fn intact(&self, range: PageRange, visit: &mut dyn FnMut(PageRange)) -> Result<(), SysError>;

    /// Ends what `freeze` began. Touches are let through again.
    fn thaw(&self, within: PageRange) -> Result<(), SysError>;

    /// Ends what `hold` began, for pages that were dropped as for those that were not.
    fn release(&self, range: PageRange) -> Result<(), SysError>;

    /// Gives access to the pages of `range` and wakes whoever waits for them. Called from faults,
    /// at any time.
    fn lift(&self, range: PageRange) -> Result<(), SysError>;
}

/// Makes a protection call on `range`, again for as long as the address space changes under it.
///
/// On older kernels (6.1 for one) a call must stay within one mapping, and the program may have cut ours to
/// pieces (see [`Outcome::Gone`]); then the call is made on shorter runs.
fn protect(
    range: PageRange,
    name: &'static str,
    call: impl Fn(PageRange) -> Result<Outcome, SysError>,
) -> Result<(), SysError> {
    let mut left = range;
    let mut most = range.pages();
    while !left.is_empty() {
        let run = PageRange::new(left.start.0, left.end.0.min(left.start.0 + most));
        match call(run)? {
            Outcome::Done => left.start = run.end,
            Outcome::Partial(bytes) => left.start.0 += bytes / PAGE_SIZE,
            Outcome::Again => thread::yield_now(),
            Outcome::Gone if run.pages() > 1 => most = run.pages().div_ceil(2),
            Outcome::NoMemory => return Err(SysError::no_memory(name)),
            // Protection fills no pages, so the only other answer is that the range is gone.
            _ => return Err(SysError::range_gone(name)),
        }
    }
    Ok(())
}

/// Turns the runs that a scan names into those that it leaves out.
struct Gaps<'a> {
    range: PageRange,
    next: usize,
    visit: &'a mut dyn FnMut(PageRange),
}

impl<'a> Gaps<'a> {
    fn new(range: PageRange, visit: &'a mut dyn FnMut(PageRange)) -> Self {
        Self { range, next: range.start.0, visit }
    }

    fn except(&mut self, run: PageRange) {
        if run.start.0 > self.next {
            (self.visit)(PageRange::new(self.next, run.start.0));
        }
        self.next = self.next.max(run.end.0);
    }

    fn finish(self) {
        if self.next < self.range.end.0 {
            (self.visit)(PageRange::new(self.next, self.range.end.0));
        }
    }
}

/// Scans `range` in the application's view, in pages rather than addresses.
fn scan_pages(
    backing: &Backing,
    pagemap: &Pagemap,
    range: PageRange,
    looking: PageFilter,
    visit: &mut dyn FnMut(PageRange),
) -> Result<(), SysError> {
    if range.is_empty() {
        return Ok(());
    }
    let start = backing.memory().address(range);
    let end = start + range.bytes() as u64;
    pagemap.scan(start, end, looking, &mut |from, to| {
        // The kernel reports addresses within the range that it was given.
        if let (Some(from), Some(last)) = (backing.page_of(from), backing.page_of(to - 1)) {
            visit(PageRange::new(from.0, last.0 + 1));
        }
    })
}

#[cfg(test)]
#[cfg(not(thermocline_sim))]
mod conformance;
