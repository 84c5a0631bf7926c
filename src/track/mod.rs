//! Which pages the program touched, and how pages become unreachable while they are evicted.
//!
//! A [`Watch`] notices touches. An [`Isolation`] keeps pages unchanged while the evictor drops them, or finds
//! out that they have changed; for that it uses a [`Protection`]. Each [`Tracker`] has its own kind of watch
//! and of protection: `rwp` uses the kernel's read-write protection (Linux 7.3), `zap` empties the page table
//! and reads it later (Linux 5.19).

mod accessed;
mod isolation;
mod moving;
mod parts;
mod references;
mod rwp;
mod zap;

pub(crate) use isolation::{Detached, DetachedPages, Isolation, Protection};
pub(crate) use parts::Core;
pub(crate) use references::References;

use crate::prim::PageRange;
use crate::sys::backing::{Abilities, Backing, MemoryKind};
use crate::sys::{SysError, uapi};
use moving::Moving;
use std::fmt;
use std::sync::Arc;

/// How the library notices touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tracker {
    /// userfaultfd's read-write protection, Linux 7.3 and later. The kernel resolves a touch of an armed page
    /// by itself.
    Rwp,
    /// Emptying the page table and scanning later for mapped pages, Linux 5.19 and later. A touch of an armed
    /// page is a minor fault. Works on shared memory.
    Zap,
    /// The processor's accessed bits alone, region by region. Works on private memory, and costs the program no
    /// faults. All pages of a region have the same age.
    Accessed,
}

impl fmt::Display for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rwp => "rwp",
            Self::Zap => "zap",
            Self::Accessed => "accessed",
        })
    }
}

impl Tracker {
    /// What the backing of an arena with this tracker and this kind of memory must be able to do.
    pub(crate) const fn abilities(self, memory: MemoryKind) -> Abilities {
        let (tracking, mode) = match self {
            Self::Rwp => (
                uapi::UFFD_FEATURE_RWP | uapi::UFFD_FEATURE_RWP_ASYNC,
                uapi::UFFDIO_REGISTER_MODE_RWP,
            ),
            Self::Zap => (
                uapi::UFFD_FEATURE_PAGEFAULT_FLAG_WP | uapi::UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
                uapi::UFFDIO_REGISTER_MODE_WP,
            ),
            Self::Accessed => (0, 0),
        };
        let kind = match memory {
            MemoryKind::Shared => uapi::UFFD_FEATURE_MISSING_SHMEM,
            MemoryKind::Private => uapi::UFFD_FEATURE_MOVE,
        };
        Abilities {
            memory,
            features: kind | tracking,
            mode: uapi::UFFDIO_REGISTER_MODE_MISSING | mode,
        }
    }

    /// Starts the tracker on a backing that has its [abilities](Self::abilities).
    pub(crate) fn start(
        self,
        backing: &Arc<Backing>,
    ) -> Result<(Arc<dyn Watch>, Isolation), SysError> {
        if let Some(private) = backing.private() {
            let watch: Arc<dyn Watch> = match self {
                Self::Rwp => Arc::new(rwp::PrivateRwp::new(private.clone())?),
                Self::Accessed => Arc::new(accessed::Accessed),
                Self::Zap => return Err(SysError::unsuited("the zap tracker on private memory")),
            };
            let moving = Moving::new(private, self == Self::Rwp);
            return Ok((watch, Isolation::moved(moving)));
        }
        let Some(shared) = backing.shared() else { unreachable!("there are two kinds of memory") };
        Ok(match self {
            Self::Rwp => {
                let rwp = Arc::new(rwp::Rwp::new(shared.clone())?);
                (Arc::clone(&rwp) as _, Isolation::in_place(shared, rwp))
            }
            Self::Zap => {
                let zap = Arc::new(zap::Zap::new(shared.clone()));
                (Arc::clone(&zap) as _, Isolation::in_place(shared, zap))
            }
            Self::Accessed => {
                return Err(SysError::unsuited("the accessed-bits tracker on shared memory"));
            }
        })
    }

    /// Whether an arena with this tracker may have this kind of memory.
    pub(crate) const fn works_on(self, memory: MemoryKind) -> bool {
        matches!(
            (self, memory),
            (Self::Rwp, _)
                | (Self::Zap, MemoryKind::Shared)
                | (Self::Accessed, MemoryKind::Private)
        )
    }
}

/// Notices touches.
///
/// A watch may miss a touch. Before the evictor drops a page, the [`Isolation`] makes sure that its copy is
/// good.
pub(crate) trait Watch: Send + Sync + fmt::Debug {
    /// The tracker that this watch belongs to.
    fn tracker(&self) -> Tracker;

    /// Whether it notices touches page by page.
    fn sees_pages(&self) -> bool {
        true
    }

    /// Arms the pages of `range` that are in memory. A touch during the call counts as before or as after it.
    fn arm(&self, range: PageRange) -> Result<(), SysError>;

    /// Calls `visit` with each run of pages in `range` that were touched since they were armed, or that came
    /// into memory unarmed, in order. System calls on the program's view count as touches.
    fn touched(&self, range: PageRange, visit: &mut dyn FnMut(PageRange)) -> Result<(), SysError>;
}

/// Turns the runs that a scan names into the runs between them.
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

#[cfg(test)]
#[cfg(not(thermocline_sim))]
mod conformance;
