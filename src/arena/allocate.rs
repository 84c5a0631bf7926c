//! Allocates and frees blocks, by pointer.

#![allow(unsafe_code)]

use super::{Arena, Inner};
use crate::alloc::{self, HeapStats, Lane, Presence};
use crate::prim::in_library::InLibraryGuard;
use crate::prim::units::index;
use crate::prim::{PAGE_SIZE, PageIndex, PageRange};
use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;

/// The byte that overwrites freed memory under [`poison_freed`](crate::Builder::poison_freed).
const POISON: u8 = 0xdb;

/// The reserve has no room for the block, or the kernel has no memory for its pages.
///
/// Free blocks in the caches of other threads are not available to this one; see [`Arena::trim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocError;

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the arena has no room for the block")
    }
}

impl std::error::Error for AllocError {}

impl Arena {
    /// Allocates a block. Collections call the `Allocator` trait of the feature `allocator-api2`; this
    /// method needs no feature.
    ///
    /// The block begins on a multiple of the layout's alignment, and may be longer than the layout. For a
    /// layout of zero bytes, it is a pointer to zero bytes.
    ///
    /// # Errors
    ///
    /// [`AllocError`] if the reserve has no room for it, the kernel has no memory for its first
    /// pages, or this process is a fork of the one that built the arena.
    #[inline]
    pub fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.inner.allocate(Lane::Default, layout)
    }

    /// Allocates a block of zeros. It does not touch pages that are zero already.
    ///
    /// # Errors
    ///
    /// As for [`allocate`](Self::allocate).
    pub fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.inner.allocate_zeroed(Lane::Default, layout)
    }

    /// Frees a block of any [lane](Lane). It does not touch the block, so evicted pages stay evicted.
    ///
    /// Free pages keep their memory while allocations need as many of them within an epoch of 32 ms,
    /// up to 128 MiB (or an eighth of the lower limit, if that is less) and a quarter of the memory in
    /// use. Evicted pages that become free give up their place in the store. The arena also gives back
    /// a page of small blocks, once all of them are free and no block near it was allocated for a
    /// while: see [`hole_bytes`](crate::Stats::hole_bytes). The evictor does all this every scan
    /// interval; plain memory has no evictor. [`trim`](Self::trim) does it at once.
    ///
    /// A thread caches 1 to 2 MiB of small blocks and 1 MiB of larger ones. Each of these small blocks
    /// keeps its one or two pages in memory.
    ///
    /// A pointer that is no block of this arena, has another layout, or was freed before ends the process
    /// with a message: always where the check needs no look-up, and in debug builds in all cases.
    ///
    /// # Safety
    ///
    /// The block must have been allocated by this arena for `layout`, and not been freed; nothing
    /// may use it any more.
    #[inline]
    pub unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.inner.deallocate(Lane::Default, block, layout) }
    }

    /// Gives back all free memory at once, and returns its bytes: every page in which no byte belongs to a
    /// block. In plain memory, the bytes include pages that were never touched.
    ///
    /// Other threads give back the blocks in their caches when they next find a cache empty or full.
    pub fn trim(&self) -> u64 {
        if self.inner.generation.is_current() { self.inner.parts.heap.trim() as u64 } else { 0 }
    }

    /// The allocator's statistics, by lane and size; none in a forked child.
    #[must_use]
    pub fn heap_stats(&self) -> Option<HeapStats> {
        let _in_library = InLibraryGuard::enter();
        self.inner.generation.is_current().then(|| self.inner.parts.heap.report())
    }
}

impl Inner {
    #[inline]
    fn pointer(&self, offset: usize, size: usize) -> NonNull<[u8]> {
        let first = self.base.0.wrapping_add(offset);
        // SAFETY: a block lies within the mapping, which does not contain the null address.
        NonNull::slice_from_raw_parts(unsafe { NonNull::new_unchecked(first) }, size)
    }

    /// The offset of an address in the arena.
    #[inline]
    fn offset_of(&self, pointer: NonNull<u8>) -> Option<usize> {
        let offset = pointer.addr().get().wrapping_sub(self.base.0.addr());
        (offset < self.config.reserve).then_some(offset)
    }

    #[inline]
    pub(super) fn allocate(&self, lane: Lane, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if let Some(bin) = alloc::bin_of(lane, layout) {
            if let Some(offset) = alloc::pop_fast(self.heap_number, bin) {
                let offset = index(offset);
                self.parts.heap.watch(offset, layout, true);
                return Ok(self.pointer(offset, alloc::size_of_bin(bin)));
            }
        } else if layout.align() <= PAGE_SIZE
            && let pages = layout.size().div_ceil(PAGE_SIZE)
            && let Some(page) = alloc::take_block_fast(self.heap_number, lane, pages)
        {
            let offset = PageIndex(page).offset();
            self.parts.heap.watch(offset, layout, true);
            return Ok(self.pointer(offset, pages * PAGE_SIZE));
        }
        self.allocate_slow(lane, layout).map(|(block, _)| block)
    }

    /// A block, and whether it is all zeros in empty pages.
    #[cold]
    fn allocate_slow(
        &self,
        lane: Lane,
        layout: Layout,
    ) -> Result<(NonNull<[u8]>, bool), AllocError> {
        if layout.size() == 0 {
            return Ok((empty(layout), true));
        }
        let block = self.parts.heap.allocate(lane, layout).ok_or(AllocError)?;
        self.parts.heap.watch(block.offset, layout, true);
        Ok((self.pointer(block.offset, block.size), block.clean))
    }

    pub(super) fn allocate_zeroed(
        &self,
        lane: Lane,
        layout: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // Small blocks share pages, which have memory or will have it soon.
        let (block, clean) = if layout.size() < PAGE_SIZE {
            (self.allocate(lane, layout)?, false)
        } else {
            self.allocate_slow(lane, layout)?
        };
        if !clean {
            // SAFETY: the block is new, and this call has the only pointer to it.
            unsafe { self.write(block, 0, |presence| presence != Presence::Empty) };
        }
        Ok(block)
    }

    /// Writes `value` to all pages of a block whose presence is `wanted`.
    ///
    /// # Safety
    ///
    /// The bytes must be a block or a part of one, and only the caller may use them.
    unsafe fn write(&self, block: NonNull<[u8]>, value: u8, wanted: impl Fn(Presence) -> bool) {
        let first = block.cast::<u8>();
        let Some(offset) = self.offset_of(first).filter(|_| !block.is_empty()) else {
            return;
        };
        for page in PageRange::touching(offset, block.len()).iter() {
            if wanted(self.parts.heap.presence(page)) {
                let start = page.offset().max(offset);
                let end = PageIndex(page.0 + 1).offset().min(offset + block.len());
                // SAFETY: the caller promises that this part of the page is part of the block. This
                // thread holds no lock of the library, so the write may fault.
                unsafe { first.add(start - offset).write_bytes(value, end - start) };
            }
        }
    }

    /// # Safety
    ///
    /// The block must have been allocated by this arena for `layout`, most probably in `lane`, and not
    /// been freed.
    #[inline]
    pub(super) unsafe fn deallocate(&self, lane: Lane, pointer: NonNull<u8>, layout: Layout) {
        if let Some(bin) = alloc::bin_of(lane, layout)
            && let Some(offset) = self.offset_of(pointer)
        {
            self.parts.heap.watch(offset, layout, false);
            // The code compares the bin of the look-up with `bin`, and uses `bin`: the processor predicts
            // that they are equal, and goes on before the look-up ends.
            if self.parts.heap.bin_at(offset) == Some(bin)
                && alloc::push_fast(self.heap_number, bin, offset as u64)
            {
                return;
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.deallocate_slow(pointer, layout) }
    }

    /// # Safety
    ///
    /// As for [`deallocate`](Self::deallocate).
    #[cold]
    unsafe fn deallocate_slow(&self, pointer: NonNull<u8>, layout: Layout) {
        if layout.size() == 0 || !self.generation.is_current() {
            return;
        }
        if alloc::bin_of(Lane::Default, layout).is_none()
            && let Some(offset) = self.offset_of(pointer)
        {
            self.parts.heap.watch(offset, layout, false);
        }
        let Some(offset) = self.offset_of(pointer) else {
            alloc::bad_free(pointer.addr().get().wrapping_sub(self.base.0.addr()), layout)
        };
        if self.parts.heap.poisons() {
            let block = self.pointer(offset, alloc::usable_size(layout));
            // SAFETY: the caller gave the block up, and no thread can allocate it before `free`. Evicted
            // pages stay evicted.
            unsafe { self.write(block, POISON, |presence| presence == Presence::Resident) };
        }
        self.parts.heap.free(offset, layout);
    }

    /// Makes a block larger in place, if possible.
    ///
    /// # Safety
    ///
    /// As for [`deallocate`](Self::deallocate); `new` must not be smaller than `old`.
    pub(super) unsafe fn grow_in_place(
        &self,
        pointer: NonNull<u8>,
        old: Layout,
        new: Layout,
        zeroed: bool,
    ) -> Option<NonNull<[u8]>> {
        let offset = self.movable(pointer, old, new)?;
        let (was, is) = (alloc::usable_size(old), alloc::usable_size(new));
        let added = if was == is { None } else { Some(self.parts.heap.grow(offset, old, new)?) };
        if zeroed {
            // SAFETY: the bytes from the old size to the end of the block's slot or last page belong to
            // the block.
            unsafe { pointer.add(old.size()).write_bytes(0, was.min(is) - old.size()) };
            if let Some((pages, false)) = added {
                let block = self.pointer(pages.start.offset(), pages.bytes());
                // SAFETY: `grow` has added these pages to the block.
                unsafe { self.write(block, 0, |presence| presence != Presence::Empty) };
            }
        }
        Some(NonNull::slice_from_raw_parts(pointer, is))
    }

    /// Makes a block smaller in place, if possible.
    ///
    /// # Safety
    ///
    /// As for [`deallocate`](Self::deallocate); `new` must not be larger than `old`.
    pub(super) unsafe fn shrink_in_place(
        &self,
        pointer: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Option<NonNull<[u8]>> {
        let offset = self.movable(pointer, old, new)?;
        let (was, is) = (alloc::usable_size(old), alloc::usable_size(new));
        (was == is || self.parts.heap.shrink(offset, old, new))
            .then(|| NonNull::slice_from_raw_parts(pointer, is))
    }

    /// The offset of a block that can have both layouts in the same place.
    fn movable(&self, pointer: NonNull<u8>, old: Layout, new: Layout) -> Option<usize> {
        let same_kind = alloc::same_place(old, new) && self.generation.is_current();
        (same_kind && pointer.addr().get().is_multiple_of(new.align()))
            .then(|| self.offset_of(pointer))?
    }
}

/// A well-aligned pointer to no bytes.
fn empty(layout: Layout) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(layout.dangling_ptr(), 0)
}
