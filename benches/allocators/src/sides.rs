//! The allocators, each behind the same three calls. Callers are generic, so the compiler specializes them
//! for each allocator, as it does a program.

#![allow(unsafe_code)]

use crate::Trouble;
use allocator_api2::alloc::Allocator;
use std::alloc::{GlobalAlloc, Layout, handle_alloc_error};
use std::ptr::NonNull;
use thermocline::{Arena, Swapping, Tracker};

/// An allocator to measure. If it has no memory the process ends.
///
/// # Safety
///
/// A block is aligned and has as many bytes as its layout says. It belongs to the caller of `allocate`
/// until any thread frees it. No call unwinds.
pub(crate) unsafe trait Side: Sync + Sized {
    /// Whether the bytes written to a block are compared when it is freed.
    const CHECKED: bool = false;

    /// Allocates a block, whose size is not zero.
    fn allocate(&self, layout: Layout) -> NonNull<u8>;

    /// # Safety
    ///
    /// The block must have been allocated by this side for `layout`, and not been freed.
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout);

    /// Makes a block larger as a vector does. It keeps its contents, and may move.
    ///
    /// # Safety
    ///
    /// See [`deallocate`](Self::deallocate). `size` must be larger than that of `layout`.
    unsafe fn grow(&self, block: NonNull<u8>, layout: Layout, size: usize) -> NonNull<u8>;

    /// Bytes of the allocator's memory outside the process's private mappings.
    fn shared_bytes(&self) -> u64 {
        0
    }

    /// Words about the side for the report.
    fn about(&self) -> Option<String> {
        None
    }
}

/// An allocator that a program could have as its global one.
#[derive(Debug)]
pub(crate) struct Global<A>(pub(crate) A);

// SAFETY: `GlobalAlloc` has the same contract.
unsafe impl<A: GlobalAlloc + Sync> Side for Global<A> {
    #[inline]
    fn allocate(&self, layout: Layout) -> NonNull<u8> {
        // SAFETY: the layout's size is not zero.
        let block = unsafe { self.0.alloc(layout) };
        NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller keeps the same contract.
        unsafe { self.0.dealloc(block.as_ptr(), layout) }
    }

    #[inline]
    unsafe fn grow(&self, block: NonNull<u8>, layout: Layout, size: usize) -> NonNull<u8> {
        // SAFETY: the caller keeps `realloc`'s contract, and sizes here are far from overflowing.
        let block = unsafe { self.0.realloc(block.as_ptr(), layout, size) };
        NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
    }
}

#[derive(Debug)]
pub(crate) struct InArena(Arena);

impl InArena {
    /// An arena with default options.
    pub(crate) fn new() -> Result<Self, Trouble> {
        Ok(Self(Arena::builder().build()?))
    }

    /// An arena that only allocates. Possible only on kernels that lack a requested feature.
    pub(crate) fn plain() -> Result<Self, Trouble> {
        let arena = Arena::builder().tracker(Tracker::Rwp).plain_memory_fallback(true).build()?;
        match arena.swapping() {
            Swapping::Off(_) => Ok(Self(arena)),
            _ => Err(
                "this kernel has every feature that an arena can request, so none is plain memory"
                    .into(),
            ),
        }
    }
}

// SAFETY: `Arena::allocate` and `Allocator` have the same contract, and neither panics.
unsafe impl Side for InArena {
    #[inline]
    fn allocate(&self, layout: Layout) -> NonNull<u8> {
        self.0.allocate(layout).unwrap_or_else(|_| handle_alloc_error(layout)).cast()
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller keeps the same contract.
        unsafe { self.0.deallocate(block, layout) }
    }

    #[inline]
    unsafe fn grow(&self, block: NonNull<u8>, layout: Layout, size: usize) -> NonNull<u8> {
        let Ok(new) = Layout::from_size_align(size, layout.align()) else {
            handle_alloc_error(layout)
        };
        // SAFETY: the caller keeps the same contract.
        let grown = unsafe { Allocator::grow(&&self.0, block, layout, new) };
        grown.unwrap_or_else(|_| handle_alloc_error(new)).cast()
    }

    fn shared_bytes(&self) -> u64 {
        self.0.stats().memory_bytes
    }

    fn about(&self) -> Option<String> {
        Some(format!("swapping {}", self.0.swapping()))
    }
}

/// A side that checks every block when it is freed.
#[derive(Debug)]
pub(crate) struct Checked<S>(pub(crate) S);

// SAFETY: every call goes to the same allocator.
unsafe impl<S: Side> Side for Checked<S> {
    const CHECKED: bool = true;

    fn allocate(&self, layout: Layout) -> NonNull<u8> {
        let block = self.0.allocate(layout);
        assert!(block.addr().get().is_multiple_of(layout.align()), "{block:?} for {layout:?}");
        block
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller keeps the same contract.
        unsafe { self.0.deallocate(block, layout) }
    }

    unsafe fn grow(&self, block: NonNull<u8>, layout: Layout, size: usize) -> NonNull<u8> {
        // SAFETY: the caller keeps the same contract.
        unsafe { self.0.grow(block, layout, size) }
    }

    fn shared_bytes(&self) -> u64 {
        self.0.shared_bytes()
    }

    fn about(&self) -> Option<String> {
        self.0.about()
    }
}
