//! Tables of ours, reserved lazily.

#![allow(unsafe_code)]

use crate::prim::PAGE_SIZE;
use crate::prim::sync::plain::{AtomicU16, AtomicU32, AtomicU64};
use crate::sys::error::SysError;
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use std::ops::Deref;

pub(super) fn advise(view: &MmapRaw, advice: Advice, call: &'static str) -> Result<(), SysError> {
    view.advise(advice).map_err(|e| SysError::from_io(call, &e))
}

/// Types for which memory full of zero bytes is a value, and which may change to it at any time
/// under a shared reference.
///
/// # Safety
///
/// All-zero bytes must be valid, the type must need no drop, and it must be an atomic (or an array
/// or struct of atomics), so that a concurrent change of its bytes is no data race.
pub(crate) unsafe trait ZeroedAtomic: Sync {}

// SAFETY: integers; zero is valid; atomic.
unsafe impl ZeroedAtomic for AtomicU16 {}
// SAFETY: integers; zero is valid; atomic.
unsafe impl ZeroedAtomic for AtomicU32 {}
// SAFETY: integers; zero is valid; atomic.
unsafe impl ZeroedAtomic for AtomicU64 {}
#[cfg(thermocline_sim)]
mod scheduled {
    use super::ZeroedAtomic;
    use crate::prim::sync::{AtomicU32, AtomicU64};

    // SAFETY: the same, wrapped.
    unsafe impl ZeroedAtomic for AtomicU32 {}
    // SAFETY: the same, wrapped.
    unsafe impl ZeroedAtomic for AtomicU64 {}
}

// SAFETY: an array of such.
unsafe impl<T: ZeroedAtomic, const N: usize> ZeroedAtomic for [T; N] {}

/// A slice of zeros whose memory the system provides only where it is written.
#[derive(Debug)]
pub(crate) struct LazySlice<T: ZeroedAtomic> {
    map: MmapRaw,
    len: usize,
    _items: core::marker::PhantomData<T>,
}

impl<T: ZeroedAtomic> LazySlice<T> {
    /// Reserves `len` items.
    pub(crate) fn new(len: usize) -> Result<Self, SysError> {
        let map = MmapOptions::new()
            .len((len * size_of::<T>()).max(1))
            .no_reserve_swap()
            .map_anon()
            .map_err(|e| SysError::from_io("mmap(anonymous)", &e))?;
        let map = MmapRaw::from(map);
        // A huge page under the first item that is written would be no lazy reservation.
        let _ = map.advise(Advice::NoHugePage);
        Ok(Self { map, len, _items: core::marker::PhantomData })
    }

    /// Keeps the contents out of children and core dumps.
    pub(crate) fn keep_private(&self) -> Result<(), SysError> {
        advise(&self.map, Advice::DontFork, "madvise(MADV_DONTFORK)")?;
        advise(&self.map, Advice::DontDump, "madvise(MADV_DONTDUMP)")
    }

    /// Gives memory to the items from `start` on, `len` of them, all at once: their first touches are
    /// no faults then. Both ends must lie on page boundaries.
    pub(crate) fn populate(&self, start: usize, len: usize) -> Result<(), SysError> {
        let (at, bytes) = (start * size_of::<T>(), len * size_of::<T>());
        debug_assert!(at % PAGE_SIZE == 0 && bytes % PAGE_SIZE == 0);
        self.map
            .advise_range(Advice::PopulateWrite, at, bytes)
            .map_err(|e| SysError::from_io("madvise(MADV_POPULATE_WRITE)", &e))
    }

    /// Sets the items from `start` on, `len` of them, to zero and gives their memory back. Both
    /// ends must lie on page boundaries.
    pub(crate) fn discard(&self, start: usize, len: usize) -> Result<(), SysError> {
        let (at, bytes) = (start * size_of::<T>(), len * size_of::<T>());
        debug_assert!(at % PAGE_SIZE == 0 && bytes % PAGE_SIZE == 0);
        debug_assert!(start + len <= self.len);
        // SAFETY: the items are atomics, for which turning to zero is a store like any other.
        unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, at, bytes) }
            .map_err(|e| SysError::from_io("madvise(MADV_DONTNEED)", &e))
    }
}

impl<T: ZeroedAtomic> Deref for LazySlice<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `len` items, aligned to a page, valid as zeros, and lives as
        // long as `self`; items are only ever changed through shared references to atomics.
        unsafe { core::slice::from_raw_parts(self.map.as_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prim::sync::Ordering;

    #[test]
    fn a_lazy_slice_costs_nothing_and_forgets() {
        let slice = LazySlice::<AtomicU64>::new(1 << 34).unwrap();
        slice[1 << 33].store(5, Ordering::Relaxed);
        slice.discard(1 << 33, PAGE_SIZE / 8).unwrap();
        assert_eq!(slice[1 << 33].load(Ordering::Relaxed), 0);
    }
}
