//! How the evictor makes sure that the copy of a page is good before it drops the page.

use crate::prim::PageRange;
use crate::sys::backing::SharedBacking;
use crate::sys::{SysError, event};
use std::fmt;
use std::sync::Arc;

/// Makes the pages of a batch unreachable, or known to be unchanged, while they are evicted.
///
/// 1. The evictor claims the pages in their page words, and [detaches](Self::detach) them run by run.
/// 2. It compresses the copied bytes.
/// 3. It [commits](Self::commit) the runs. A page stays if its bytes may have changed since the copy.
/// 4. It [cancels](Self::cancel) every detached run. From then on the program can touch the pages that stay.
///
/// The pages stay in place meanwhile: a [`Protection`] stops or notices the touches that could make a copy
/// stale. Only one thread detaches and commits.
#[derive(Debug)]
pub(crate) struct Isolation {
    shared: SharedBacking,
    protection: Arc<dyn Protection>,
}

/// A batch whose detached pages are being committed.
pub(crate) trait Detached {
    /// The pages of `run` are as they were when they were detached, and stay so until they are dropped.
    fn intact(&mut self, run: PageRange);

    /// The kernel could not tell which pages of a detached run are intact.
    fn refused(&mut self, run: PageRange, error: SysError);

    /// Publishes the copies of the intact pages, and drops these pages by `discard`.
    fn drop_intact(&mut self, discard: &dyn Fn(PageRange) -> Result<(), SysError>);
}

impl Isolation {
    pub(crate) fn new(shared: SharedBacking, protection: Arc<dyn Protection>) -> Self {
        Self { shared, protection }
    }

    /// Detaches `run`, pages that are claimed and in memory, and copies their bytes to `bytes`. On an error
    /// the run is as it was.
    pub(crate) fn detach(&self, run: PageRange, bytes: &mut [u8]) -> Result<(), SysError> {
        self.protection.hold(run)?;
        let read = self.shared.read(run, bytes);
        if read.is_err() {
            // The caller gets the error of the read.
            let _ = self.protection.release(run);
        }
        read
    }

    /// Has `batch` drop those pages of the detached `runs` that are intact. The runs lie in one region. On an
    /// error no page was dropped.
    pub(crate) fn commit(
        &self,
        runs: &[PageRange],
        batch: &mut impl Detached,
    ) -> Result<(), SysError> {
        let Some(first) = runs.first() else { return Ok(()) };
        let within = first.start.only();
        self.protection.freeze(within)?;
        for &run in runs {
            let mut visit = |intact: PageRange| batch.intact(intact.intersection(run));
            if let Err(error) = self.protection.intact(run, &mut visit) {
                batch.refused(run, error);
            }
        }
        batch.drop_intact(&|run| self.shared.discard_locked(run));
        if let Err(e) = self.protection.thaw(within) {
            // Every touch of an armed page would wait for a handler thread from here on.
            event::abort_process("cannot let touches through again", &e);
        }
        Ok(())
    }

    /// Ends the detachment of `run`, whether its pages were dropped or stay.
    pub(crate) fn cancel(&self, run: PageRange) -> Result<(), SysError> {
        self.protection.release(run)
    }

    /// Gives access to the pages of `range` and wakes their waiters. The fault path calls this at any time, for
    /// pages that it owns.
    pub(crate) fn admit(&self, range: PageRange) -> Result<(), SysError> {
        self.protection.lift(range)
    }
}

#[cfg(test)]
#[cfg(not(thermocline_sim))]
impl Isolation {
    pub(crate) fn protection(&self) -> Arc<dyn Protection> {
        Arc::clone(&self.protection)
    }
}

/// Stops or notices touches of pages in place.
pub(crate) trait Protection: Send + Sync + fmt::Debug {
    /// Holds `range`, pages that are claimed and in memory, so that the evictor can read and drop them.
    /// Holds none of them if it fails.
    fn hold(&self, range: PageRange) -> Result<(), SysError>;

    /// Makes sure that no held page of `within` can be changed unnoticed until `thaw`. From here on a touch of
    /// such a page may be a fault; the fault path then decides by the page's word whether the thread waits.
    fn freeze(&self, within: PageRange) -> Result<(), SysError>;

    /// Calls `visit` with each run of held pages in `range` that the program has not touched since they
    /// were armed. Their bytes have not changed since `hold`. Leaves out a page that lost its protection.
    fn intact(&self, range: PageRange, visit: &mut dyn FnMut(PageRange)) -> Result<(), SysError>;

    /// Ends the freeze.
    fn thaw(&self, within: PageRange) -> Result<(), SysError>;

    /// Ends the hold, both of dropped pages and of pages that stay.
    fn release(&self, range: PageRange) -> Result<(), SysError>;

    /// Gives access to the pages of `range` and wakes their waiters.
    fn lift(&self, range: PageRange) -> Result<(), SysError>;
}
