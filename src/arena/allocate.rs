//! Allocating and freeing, in pointers.

#![allow(unsafe_code)]

use super::{Arena, Inner};
use crate::alloc::{self, HeapStats, Lane, Presence};
use crate::prim::in_library::InLibraryGuard;
use crate::prim::units::index;
use crate::prim::{PAGE_SIZE, PageIndex, PageRange};
use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;

/// What freed memory is overwritten with, where that was [asked for](crate::Builder::poison_freed).
const POISON: u8 = 0xdb;

/// There is no room left in the reserve for the block, or no memory for its pages.
///
/// Free blocks that other threads keep for themselves are room that this one does not have; see
/// [`Arena::trim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocError;

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the arena has no room for the block")
    }
}

impl std::error::Error for AllocError {}

impl Arena {
    /// Allocates a block. Collections do this by the `Allocator` trait, for which the feature
    /// `allocator-api2` is needed; this works without.
    ///
    /// The block begins on a multiple of the layout's alignment, whatever that is, and may be longer
    /// than was asked for. A layout without bytes gives a pointer to none.
    ///
    /// # Errors
    ///
    /// [`AllocError`] if the reserve has no room for it, the kernel has no memory for its first
    /// pages, or this process is a fork of the one that built the arena.
    #[inline]
    pub fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.inner.allocate(Lane::Default, layout)
    }

    /// Allocates a block that holds nothing but zeros. Pages that are zero already are not touched.
    ///
    /// # Errors
    ///
    /// As for [`allocate`](Self::allocate).
    pub fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.inner.allocate_zeroed(Lane::Default, layout)
    }

    /// Frees a block, of whatever [lane](Lane). It is not touched: if it was evicted it stays so.
    ///
    /// Pages that become free keep their memory while it is needed again within a tenth of a second,
    /// up to 128 MiB of it and a quarter of what is in use; what was evicted gives up its place in
    /// the store. A page that small blocks share is given back too when none of its bytes belongs to a
    /// block any more and nothing was allocated near it for a while: see
    /// [`hole_bytes`](crate::Stats::hole_bytes). The evictor's thread looks for free memory every scan
    /// interval; plain memory has no such thread. [`trim`](Self::trim) gives all of it back now.
    ///
    /// A thread keeps 1 to 2 MiB of small blocks and 1 MiB of larger ones for itself. Each of these small
    /// blocks keeps the one or two pages in memory that it lies on.
    ///
    /// What is no block of this arena, or not one for such a layout, or was freed before, ends the
    /// process with a message: always where nothing has to be looked up for that, in debug builds
    /// in any case.
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

    /// Gives back all memory that is free, instead of after a while, and says how many bytes that was:
    /// every page in which no byte belongs to a block, whatever else lies near it. In plain memory, pages
    /// count too that were never touched.
    ///
    /// What other threads keep for themselves follows when they next need more of it, or have no room
    /// for more.
    pub fn trim(&self) -> u64 {
        if self.inner.generation.is_current() { self.inner.parts.heap.trim() as u64 } else { 0 }
    }

    /// What the allocator holds, lane by lane and size by size; none in a forked child.
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
        // SAFETY: blocks lie within a mapping, which begins at no null address and does not wrap.
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

    /// A block, and whether it holds nothing but zeros in empty pages.
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
        // Small blocks share their pages, which have memory or are going to.
        let (block, clean) = if layout.size() < PAGE_SIZE {
            (self.allocate(lane, layout)?, false)
        } else {
            self.allocate_slow(lane, layout)?
        };
        if !clean {
            // SAFETY: the block is the caller's, who has not got to see it yet.
            unsafe { self.write(block, 0, |presence| presence != Presence::Empty) };
        }
        Ok(block)
    }

    /// Writes `value` to all of a block, but for the pages whose bytes are not where they are `wanted`.
    ///
    /// # Safety
    ///
    /// The bytes must be a block's, or part of one, that nobody else uses.
    unsafe fn write(&self, block: NonNull<[u8]>, value: u8, wanted: impl Fn(Presence) -> bool) {
        let first = block.cast::<u8>();
        let Some(offset) = self.offset_of(first).filter(|_| !block.is_empty()) else {
            return;
        };
        for page in PageRange::touching(offset, block.len()).iter() {
            if wanted(self.parts.heap.presence(page)) {
                let start = page.offset().max(offset);
                let end = PageIndex(page.0 + 1).offset().min(offset + block.len());
                // SAFETY: this part of the page is part of the block, the caller promises. No
                // lock of ours is held, so it may fault.
                unsafe { first.add(start - offset).write_bytes(value, end - start) };
            }
        }
    }

    /// # Safety
    ///
    /// The block must have been allocated by this arena, most probably in `lane`, for `layout`, and not
    /// been freed.
    #[inline]
    pub(super) unsafe fn deallocate(&self, lane: Lane, pointer: NonNull<u8>, layout: Layout) {
        if let Some(bin) = alloc::bin_of(lane, layout)
            && let Some(offset) = self.offset_of(pointer)
        {
            self.parts.heap.watch(offset, layout, false);
            // Where the block was looked up is compared, not used: the processor guesses that it is
            // the lane that it nearly always is, and need not wait for the look-up to go on.
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
            // SAFETY: the block is nobody's any more, and nobody else has got it yet. What was
            // evicted stays so.
            unsafe { self.write(block, POISON, |presence| presence == Presence::Resident) };
        }
        self.parts.heap.free(offset, layout);
    }

    /// Makes a block larger without moving it, if that can be.
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
            // SAFETY: the bytes from the old size to the end of the old block's last slot or page
            // are the caller's.
            unsafe { pointer.add(old.size()).write_bytes(0, was.min(is) - old.size()) };
            if let Some((pages, false)) = added {
                let block = self.pointer(pages.start.offset(), pages.bytes());
                // SAFETY: these pages are the block's from now on.
                unsafe { self.write(block, 0, |presence| presence != Presence::Empty) };
            }
        }
        Some(NonNull::slice_from_raw_parts(pointer, is))
    }

    /// Makes a block smaller without moving it, if that can be.
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

    /// The offset of a block for which both layouts can be had where it is.
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
