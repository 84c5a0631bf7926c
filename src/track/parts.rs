//! The parts that eviction and faults share.

use super::{Isolation, Tracker, Watch};
use crate::stats::Counters;
use crate::store::Store;
use crate::sys::SysError;
use crate::sys::backing::{Backing, FaultDelivery, MemoryKind};
use crate::table::PageTable;
use std::sync::Arc;

/// The pages of an arena: their memory, their words, their compressed copies, and how their touches are
/// noticed.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) backing: Arc<Backing>,
    pub(crate) table: PageTable,
    pub(crate) store: Store,
    pub(crate) watch: Arc<dyn Watch>,
    pub(crate) isolation: Isolation,
    pub(crate) counters: Arc<Counters>,
}

impl Core {
    /// Pages in `bytes` of address space, all of them empty. The store takes `store_limit` bytes at most.
    /// Asks the kernel for `features`, a mask of `UFFD_FEATURE_*`, besides those that the tracker needs.
    pub(crate) fn new(
        bytes: usize,
        memory: MemoryKind,
        tracker: Tracker,
        features: u64,
        delivery: FaultDelivery,
        store_limit: usize,
    ) -> Result<Self, SysError> {
        let counters = Arc::new(Counters::default());
        let mut abilities = tracker.abilities(memory);
        abilities.features |= features;
        let backing = Backing::open(bytes, abilities, delivery, Arc::clone(&counters))?;
        let table = PageTable::new(backing.all().pages())?;
        let store = Store::new(store_limit)?;
        let (watch, isolation) = tracker.start(&backing)?;
        Ok(Self { backing, table, store, watch, isolation, counters })
    }
}
