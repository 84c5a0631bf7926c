//! The sizes that more than one room relies on.

/// log2 of [`PAGE_SIZE`].
pub(crate) const PAGE_SHIFT: u32 = 12;

/// Bytes in a page. The library works on kernels whose base page is this large.
pub(crate) const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

/// log2 of [`REGION_PAGES`].
pub(crate) const REGION_SHIFT: u32 = 9;

/// Pages in a region, the unit of scanning: as many as one page table maps.
pub(crate) const REGION_PAGES: usize = 1 << REGION_SHIFT;

/// Bytes in a region: 2 MiB.
pub(crate) const REGION_BYTES: usize = REGION_PAGES * PAGE_SIZE;

/// The most pages that are evicted together. Under `rwp` they are locked in memory meanwhile, and the evictor
/// drops them during a freeze.
pub(crate) const BATCH_PAGES: usize = 64;

/// The most pages that one call brings back.
pub(crate) const READAHEAD_PAGES: usize = 16;
