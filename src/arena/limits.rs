//! An arena's limits. Every fault reads them, and the program may change them at any time.

use super::{Arena, ArenaError};
use crate::prim::in_library::InLibraryGuard;
use crate::prim::sync::plain::{AtomicUsize, Ordering};
use crate::prim::{BATCH_PAGES, PAGE_SIZE};
use std::time::Duration;

/// The lowest limit, in bytes: a batch of pages.
pub(super) const LEAST: usize = BATCH_PAGES * PAGE_SIZE;

/// The highest value of [`Limits::tolerance`].
const MOST_TOLERATED: usize = (4 << 20) / PAGE_SIZE;

/// The limits in pages. `usize::MAX` means that there is no limit.
#[derive(Debug)]
pub(super) struct Limits {
    resident: AtomicUsize,
    memory: AtomicUsize,
}

fn pages(bytes: Option<usize>) -> usize {
    bytes.map_or(usize::MAX, |bytes| bytes / PAGE_SIZE)
}

impl Limits {
    pub(super) fn new(resident: Option<usize>, memory: Option<usize>) -> Self {
        let [resident, memory] = [resident, memory].map(|bytes| AtomicUsize::new(pages(bytes)));
        Self { resident, memory }
    }

    /// How many pages may be in memory while the store holds `stored` bytes, if there is a limit.
    pub(super) fn resident(&self, stored: usize) -> Option<usize> {
        // Relaxed: no other data depends on the limits. The thread that changes one rings the evictor
        // afterwards.
        let resident = self.resident.load(Ordering::Relaxed);
        let memory = self.memory.load(Ordering::Relaxed);
        if memory == usize::MAX {
            return (resident != usize::MAX).then_some(resident);
        }
        // The arena needs a batch of pages to work with, however full the store is.
        let beside = memory.saturating_sub(stored.div_ceil(PAGE_SIZE)).max(BATCH_PAGES);
        Some(resident.min(beside))
    }

    /// How many pages, and pages' worth of the store's bytes, are above the limits. Unlike
    /// [`resident`](Self::resident) this leaves no room for a batch: pages that the evictor cannot evict count
    /// too.
    pub(super) fn excess(&self, resident: usize, stored: usize) -> usize {
        let memory = self.memory.load(Ordering::Relaxed);
        let together = resident.saturating_add(stored.div_ceil(PAGE_SIZE));
        let above = resident.saturating_sub(self.resident.load(Ordering::Relaxed));
        above.max(together.saturating_sub(memory))
    }

    /// By how many pages the arena may exceed its limits before threads that bring pages in wait for the
    /// evictor: a quarter of the lower limit, but at least a batch and at most 4 MiB.
    pub(super) fn tolerance(&self) -> usize {
        let resident = self.resident.load(Ordering::Relaxed);
        let memory = self.memory.load(Ordering::Relaxed);
        (resident.min(memory) / 4).clamp(BATCH_PAGES, MOST_TOLERATED)
    }

    /// Whether there is a limit at all.
    pub(super) fn are_set(&self) -> bool {
        let unlimited = usize::MAX;
        self.resident.load(Ordering::Relaxed) != unlimited
            || self.memory.load(Ordering::Relaxed) != unlimited
    }

    pub(super) fn set_resident(&self, bytes: Option<usize>) {
        self.resident.store(pages(bytes), Ordering::Relaxed);
    }

    pub(super) fn set_memory(&self, bytes: Option<usize>) {
        self.memory.store(pages(bytes), Ordering::Relaxed);
    }
}

impl Arena {
    /// Changes the [resident limit](crate::Builder::resident_limit); `None` removes it. If the arena
    /// is above the new limit, the evictor begins to evict right after, in the background.
    ///
    /// # Errors
    ///
    /// [`ArenaError::LimitTooLow`] below 256 KiB, [`ArenaError::NotSwapping`] if the arena evicts
    /// nothing, [`ArenaError::ForkedChild`] in a child after fork. The limit is then unchanged.
    pub fn set_resident_limit(&self, bytes: Option<usize>) -> Result<(), ArenaError> {
        self.set_limit(bytes, Limits::set_resident)
    }

    /// Changes the [memory limit](crate::Builder::memory_limit); `None` removes it. If the arena is
    /// above the new limit, the evictor begins to evict right after, in the background.
    ///
    /// A program with a bound on all of its memory, such as a container's, can give the arena the
    /// part that the rest of the program does not use, and adjust the limit from time to time.
    ///
    /// # Errors
    ///
    /// [`ArenaError::LimitTooLow`] below 256 KiB, [`ArenaError::NotSwapping`] if the arena evicts
    /// nothing, [`ArenaError::ForkedChild`] in a child after fork. The limit is then unchanged.
    pub fn set_memory_limit(&self, bytes: Option<usize>) -> Result<(), ArenaError> {
        self.set_limit(bytes, Limits::set_memory)
    }

    /// Changes the [cold age](crate::Builder::cold_age), and with it the default
    /// [tracking budget](crate::Builder::tracking_budget). Waits for the evictor's present work.
    ///
    /// # Errors
    ///
    /// [`ArenaError::ColdAge`] if the age is less than a [scan interval](crate::Builder::scan_interval) or more
    /// than 524287 of them, [`ArenaError::NotSwapping`] if the arena evicts nothing,
    /// [`ArenaError::ForkedChild`] in a child after fork. The cold age is then unchanged.
    pub fn set_cold_age(&self, age: Duration) -> Result<(), ArenaError> {
        let _in_library = InLibraryGuard::enter();
        self.inner.engine()?.set_cold_age(age)
    }

    /// Bytes in memory above the limits at the moment. 0 if there is no limit.
    ///
    /// The evictor works to bring them down, but a program can write memory faster than the evictor
    /// compresses it, and incompressible pages stay. A program with a hard bound above its limit can
    /// call this often: it costs a few loads. While the value is high, the program lets its writers wait. If
    /// the value stays high, the program frees memory.
    #[must_use]
    pub fn excess_bytes(&self) -> u64 {
        self.inner.engine().map_or(0, |engine| (engine.excess() * PAGE_SIZE) as u64)
    }

    fn set_limit(
        &self,
        bytes: Option<usize>,
        set: fn(&Limits, Option<usize>),
    ) -> Result<(), ArenaError> {
        let _in_library = InLibraryGuard::enter();
        let engine = self.inner.engine()?;
        if let Some(given) = bytes.filter(|&bytes| bytes < LEAST) {
            return Err(ArenaError::LimitTooLow { given, least: LEAST });
        }
        engine.change_limits(|limits| set(limits, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_the_store_count_against_the_memory_limit() {
        let mib = 1 << 20;
        assert_eq!(Limits::new(None, None).resident(mib), None);
        let resident = Limits::new(Some(mib), None);
        assert_eq!([0, 2 * mib].map(|stored| resident.resident(stored)), [Some(256); 2]);
        let memory = Limits::new(None, Some(mib));
        let stored = [0, 1, mib / 2, mib, 2 * mib];
        let left = [256, 255, 128, BATCH_PAGES, BATCH_PAGES].map(Some);
        assert_eq!(stored.map(|stored| memory.resident(stored)), left);
        let both = Limits::new(Some(mib / 2), Some(mib));
        assert_eq!([0, 3 * mib / 4].map(|stored| both.resident(stored)), [Some(128), Some(64)]);
        let excess = [(10, 0), (128, mib / 2), (200, mib / 2), (0, 2 * mib)];
        assert_eq!(excess.map(|(pages, stored)| both.excess(pages, stored)), [0, 0, 72, 256]);
        assert_eq!(both.tolerance(), BATCH_PAGES);
        assert_eq!(Limits::new(Some(8 * mib), None).tolerance(), 512);
        assert_eq!(Limits::new(None, Some(1 << 40)).tolerance(), MOST_TOLERATED);
        assert!(both.are_set() && !Limits::new(None, None).are_set());
        both.set_memory(None);
        assert_eq!(both.resident(3 * mib / 4), Some(128));
        both.set_resident(None);
        assert_eq!(both.resident(0), None);
    }
}
