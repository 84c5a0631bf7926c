//! The library's own tables, whose memory the kernel provides at the first write.

#![allow(unsafe_code)]

use crate::prim::PAGE_SIZE;
use crate::prim::sync::plain::{AtomicU16, AtomicU32, AtomicU64};
use crate::sys::error::SysError;
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use std::ops::Deref;

/// Types for which zero bytes are a valid value, which they may take at any time behind a shared
/// reference.
///
/// # Safety
///
/// Zero bytes must be valid, the type must need no drop, and it must be an atomic (or an array or
/// struct of atomics), so that a concurrent change of its bytes is no data race.
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

// SAFETY: an array of atomics.
unsafe impl<T: ZeroedAtomic, const N: usize> ZeroedAtomic for [T; N] {}

/// A slice of zeros whose memory the kernel provides page by page at the first write.
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
        // With huge pages the first write to an item would allocate 2 MiB.
        let _ = map.advise(Advice::NoHugePage);
        Ok(Self { map, len, _items: core::marker::PhantomData })
    }

    /// Keeps the contents out of forked children and core dumps.
    pub(crate) fn keep_private(&self) -> Result<(), SysError> {
        let advise =
            |advice, call| self.map.advise(advice).map_err(|e| SysError::from_io(call, &e));
        advise(Advice::DontFork, "madvise(MADV_DONTFORK)")?;
        advise(Advice::DontDump, "madvise(MADV_DONTDUMP)")
    }

    /// Allocates the memory of the `len` items from `start` on, so that their first accesses do not
    /// fault. Both ends must lie on page boundaries.
    pub(crate) fn populate(&self, start: usize, len: usize) -> Result<(), SysError> {
        let (at, bytes) = (start * size_of::<T>(), len * size_of::<T>());
        debug_assert!(at % PAGE_SIZE == 0 && bytes % PAGE_SIZE == 0);
        self.map
            .advise_range(Advice::PopulateWrite, at, bytes)
            .map_err(|e| SysError::from_io("madvise(MADV_POPULATE_WRITE)", &e))
    }

    /// Sets the `len` items from `start` on to zero and gives their memory back. Both ends must lie
    /// on page boundaries.
    pub(crate) fn discard(&self, start: usize, len: usize) -> Result<(), SysError> {
        let (at, bytes) = (start * size_of::<T>(), len * size_of::<T>());
        debug_assert!(at % PAGE_SIZE == 0 && bytes % PAGE_SIZE == 0);
        debug_assert!(start + len <= self.len);
        // SAFETY: the items are atomics, for which a change to zero is like any other store.
        unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, at, bytes) }
            .map_err(|e| SysError::from_io("madvise(MADV_DONTNEED)", &e))
    }
}

impl<T: ZeroedAtomic> Deref for LazySlice<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `len` items, is aligned to a page, lives as long as `self`, and
        // zero bytes are valid items; items change only through shared references to atomics.
        unsafe { core::slice::from_raw_parts(self.map.as_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prim::sync::Ordering;

    #[test]
    fn a_lazy_slice_reserves_terabytes_and_discard_zeroes_items() {
        let slice = LazySlice::<AtomicU64>::new(1 << 34).unwrap();
        slice[1 << 33].store(5, Ordering::Relaxed);
        slice.discard(1 << 33, PAGE_SIZE / 8).unwrap();
        assert_eq!(slice[1 << 33].load(Ordering::Relaxed), 0);
    }
}
