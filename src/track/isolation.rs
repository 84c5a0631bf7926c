//! How the evictor makes sure that the copy of a page is good before it drops the page.

use super::moving::Moving;
use crate::prim::{PageIndex, PageRange};
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
/// Only one thread detaches and commits.
#[derive(Debug)]
pub(crate) struct Isolation(Method);

#[derive(Debug)]
enum Method {
    /// The pages stay in place: a protection stops or notices the touches that could make a copy stale.
    InPlace { shared: SharedBacking, protection: Arc<dyn Protection> },
    /// The pages are moved away.
    Moved(Moving),
}

/// How far a run was detached: its first pages, and the error that stopped it. Without an error another thread is at
/// the next page.
pub(crate) type DetachedPages = (usize, Option<SysError>);

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
    pub(crate) fn in_place(shared: SharedBacking, protection: Arc<dyn Protection>) -> Self {
        Self(Method::InPlace { shared, protection })
    }

    pub(crate) fn moved(moving: Moving) -> Self {
        Self(Method::Moved(moving))
    }

    /// Whether the evictor moves pages away.
    pub(crate) fn is_moved(&self) -> bool {
        matches!(self.0, Method::Moved(_))
    }

    /// Detaches the first pages of `run`, which are claimed and in memory, and copies their bytes to `bytes`. A page
    /// that it could not detach is as it was. A protection detaches all of them or none. A page is moved away only if
    /// it is still claimed, as `is_claimed` says.
    pub(crate) fn detach(
        &self,
        run: PageRange,
        bytes: &mut [u8],
        is_claimed: &dyn Fn(PageIndex) -> bool,
    ) -> DetachedPages {
        let (shared, protection) = match &self.0 {
            Method::InPlace { shared, protection } => (shared, protection),
            Method::Moved(moving) => return moving.detach(run, bytes, is_claimed),
        };
        if let Err(error) = protection.hold(run) {
            return (0, Some(error));
        }
        match shared.read(run, bytes) {
            Ok(()) => (run.pages(), None),
            Err(error) => {
                // The caller gets the error of the read.
                let _ = protection.release(run);
                (0, Some(error))
            }
        }
    }

    /// Has `batch` drop those pages of the detached `runs` that are intact. The runs lie in one region. On an
    /// error no page was dropped.
    pub(crate) fn commit(
        &self,
        runs: &[PageRange],
        batch: &mut impl Detached,
    ) -> Result<(), SysError> {
        let (shared, protection) = match &self.0 {
            Method::InPlace { shared, protection } => (shared, protection),
            Method::Moved(moving) => {
                runs.iter().for_each(|run| batch.intact(*run));
                batch.drop_intact(&|run| moving.drop_away(run));
                return Ok(());
            }
        };
        let Some(first) = runs.first() else { return Ok(()) };
        let within = first.start.only();
        protection.freeze(within)?;
        for &run in runs {
            let mut visit = |intact: PageRange| batch.intact(intact.intersection(run));
            if let Err(error) = protection.intact(run, &mut visit) {
                batch.refused(run, error);
            }
        }
        batch.drop_intact(&|run| shared.discard_locked(run));
        if let Err(e) = protection.thaw(within) {
            // Every touch of an armed page would wait for a handler thread from here on.
            event::abort_process("cannot let touches through again", &e);
        }
        Ok(())
    }

    /// Brings a detached page back that stays, before the evictor gives up its claim. From then on other threads
    /// may own the page. A page that stays in place needs nothing.
    pub(crate) fn give_back(&self, page: PageIndex) {
        if let Method::Moved(moving) = &self.0 {
            moving.bring_back(page);
        }
    }

    /// Ends the detachment of `run`, whether its pages were dropped or stay.
    pub(crate) fn cancel(&self, run: PageRange) -> Result<(), SysError> {
        match &self.0 {
            Method::InPlace { protection, .. } => protection.release(run),
            Method::Moved(moving) => {
                run.iter().for_each(|page| _ = moving.bring_back(page));
                Ok(())
            }
        }
    }

    /// Takes arming back: gives access to those pages of `range` that are armed, and wakes their waiters. The caller
    /// need not own them.
    pub(crate) fn lift(&self, range: PageRange) -> Result<(), SysError> {
        match &self.0 {
            Method::InPlace { protection, .. } => protection.lift(range),
            Method::Moved(moving) => moving.lift(range),
        }
    }

    /// Gives access to the pages of `range` and wakes their waiters. The fault path calls this at any time, for
    /// pages that it owns.
    pub(crate) fn admit(&self, range: PageRange) -> Result<(), SysError> {
        match &self.0 {
            Method::InPlace { protection, .. } => protection.lift(range),
            Method::Moved(moving) => moving.admit(range),
        }
    }
}

#[cfg(test)]
#[cfg(not(thermocline_sim))]
impl Isolation {
    pub(crate) fn protection(&self) -> Arc<dyn Protection> {
        match &self.0 {
            Method::InPlace { protection, .. } => Arc::clone(protection),
            Method::Moved(_) => panic!("moved pages have no protection"),
        }
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
