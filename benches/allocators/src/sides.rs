//! The allocators, each behind the same three calls. Whatever calls them is compiled for each of
//! them, as a program is.

#![allow(unsafe_code)]

use crate::Trouble;
use allocator_api2::alloc::Allocator;
use std::alloc::{GlobalAlloc, Layout, handle_alloc_error};
use std::ptr::NonNull;
use thermocline::{Arena, Swapping, Tracker};

/// An allocator that is measured. Where it has no memory the process ends.
///
/// # Safety
///
/// A block is aligned, has as many bytes as its layout says, and belongs to whoever allocated it
/// until any thread frees it. No call unwinds.
pub(crate) unsafe trait Side: Sync + Sized {
    /// Whether what was written to a block is compared when it is freed.
    const CHECKED: bool = false;

    /// Allocates a block, whose size is not zero.
    fn allocate(&self, layout: Layout) -> NonNull<u8>;

    /// # Safety
    ///
    /// The block must have been allocated by this side for `layout`, and not been freed.
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout);

    /// Makes a block larger as a vector does: what is in it stays, where it is may change.
    ///
    /// # Safety
    ///
    /// As for [`deallocate`](Self::deallocate); `size` must be larger than that of `layout`.
    unsafe fn grow(&self, block: NonNull<u8>, layout: Layout, size: usize) -> NonNull<u8>;

    /// Bytes of memory that are the allocator's, but in no private mapping of the process.
    fn shared_bytes(&self) -> u64 {
        0
    }

    /// What is special about it, in words.
    fn about(&self) -> Option<String> {
        None
    }
}

/// What a program could name as its global allocator.
#[derive(Debug)]
pub(crate) struct Global<A>(pub(crate) A);

// SAFETY: it is `GlobalAlloc`'s contract.
unsafe impl<A: GlobalAlloc + Sync> Side for Global<A> {
    #[inline]
    fn allocate(&self, layout: Layout) -> NonNull<u8> {
        // SAFETY: the layout's size is not zero.
        let block = unsafe { self.0.alloc(layout) };
        NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.0.dealloc(block.as_ptr(), layout) }
    }

    #[inline]
    unsafe fn grow(&self, block: NonNull<u8>, layout: Layout, size: usize) -> NonNull<u8> {
        // SAFETY: the caller's promise; sizes here are far from overflowing.
        let block = unsafe { self.0.realloc(block.as_ptr(), layout, size) };
        NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
    }
}

#[derive(Debug)]
pub(crate) struct InArena(Arena);

impl InArena {
    /// An arena as it is without any option.
    pub(crate) fn new() -> Result<Self, Trouble> {
        Ok(Self(Arena::builder().build()?))
    }

    /// An arena that only allocates. It can be had where the kernel lacks what was asked for.
    pub(crate) fn plain() -> Result<Self, Trouble> {
        let arena = Arena::builder().tracker(Tracker::Rwp).plain_memory_fallback(true).build()?;
        match arena.swapping() {
            Swapping::Off(_) => Ok(Self(arena)),
            _ => Err("this kernel has all that arenas can ask for, so none is plain memory".into()),
        }
    }
}

// SAFETY: it is the contract of `Arena::allocate` and of `Allocator`, and neither panics.
unsafe impl Side for InArena {
    #[inline]
    fn allocate(&self, layout: Layout) -> NonNull<u8> {
        self.0.allocate(layout).unwrap_or_else(|_| handle_alloc_error(layout)).cast()
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.0.deallocate(block, layout) }
    }

    #[inline]
    unsafe fn grow(&self, block: NonNull<u8>, layout: Layout, size: usize) -> NonNull<u8> {
        let Ok(new) = Layout::from_size_align(size, layout.align()) else {
            handle_alloc_error(layout)
        };
        // SAFETY: the caller's promise.
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

/// A side of which every block is checked when it is freed.
#[derive(Debug)]
pub(crate) struct Checked<S>(pub(crate) S);

// SAFETY: it is the same allocator.
unsafe impl<S: Side> Side for Checked<S> {
    const CHECKED: bool = true;

    fn allocate(&self, layout: Layout) -> NonNull<u8> {
        let block = self.0.allocate(layout);
        assert!(block.addr().get().is_multiple_of(layout.align()), "{block:?} for {layout:?}");
        block
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.0.deallocate(block, layout) }
    }

    unsafe fn grow(&self, block: NonNull<u8>, layout: Layout, size: usize) -> NonNull<u8> {
        // SAFETY: the caller's promise.
        unsafe { self.0.grow(block, layout, size) }
    }

    fn shared_bytes(&self) -> u64 {
        self.0.shared_bytes()
    }

    fn about(&self) -> Option<String> {
        self.0.about()
    }
}
