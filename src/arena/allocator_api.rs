//! `allocator_api2::alloc::Allocator` for arenas and their lanes: a thin adapter.

#![allow(unsafe_code)]

use super::{Arena, ArenaLane, Inner};
use crate::alloc::Lane;
use allocator_api2::alloc::{AllocError, Allocator};
use core::alloc::Layout;
use core::ptr::NonNull;

/// Moves a block, for `grow` and `shrink` where the block cannot stay.
///
/// # Safety
///
/// The block must have been allocated by this arena for `old`, and not been freed.
unsafe fn relocate(
    inner: &Inner,
    lane: Lane,
    pointer: NonNull<u8>,
    old: Layout,
    new: Layout,
    zeroed: bool,
) -> Result<NonNull<[u8]>, AllocError> {
    let moved = if zeroed { inner.allocate_zeroed(lane, new) } else { inner.allocate(lane, new) };
    let moved = moved.map_err(|_| AllocError)?;
    let bytes = old.size().min(new.size());
    // SAFETY: both blocks have at least `bytes` bytes, and do not overlap. This thread holds no lock of
    // the library, so the copy may fault.
    unsafe { moved.cast::<u8>().copy_from_nonoverlapping(pointer, bytes) };
    // SAFETY: the caller's promise.
    unsafe { inner.deallocate(lane, pointer, old) };
    Ok(moved)
}

macro_rules! allocator {
    ($type:ty, $this:ident => $inner:expr, $lane:expr) => {
        // SAFETY: a block stays where it is until it is freed, because the arena's memory lives as long
        // as any clone. Moving the allocator moves a pointer to the arena. A clone is the same arena
        // and lane, so it can free the blocks.
        unsafe impl Allocator for $type {
            #[inline]
            fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
                let $this = self;
                $inner.allocate($lane, layout).map_err(|_| AllocError)
            }

            fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
                let $this = self;
                $inner.allocate_zeroed($lane, layout).map_err(|_| AllocError)
            }

            #[inline]
            unsafe fn deallocate(&self, pointer: NonNull<u8>, layout: Layout) {
                let $this = self;
                // SAFETY: the caller's promise.
                unsafe { $inner.deallocate($lane, pointer, layout) }
            }

            unsafe fn grow(
                &self,
                pointer: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, AllocError> {
                let $this = self;
                // SAFETY: the caller's promise.
                let grown = unsafe { $inner.grow_in_place(pointer, old, new, false) };
                match grown {
                    Some(block) => Ok(block),
                    // SAFETY: the caller's promise.
                    None => unsafe { relocate(&$inner, $lane, pointer, old, new, false) },
                }
            }

            unsafe fn grow_zeroed(
                &self,
                pointer: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, AllocError> {
                let $this = self;
                // SAFETY: the caller's promise.
                let grown = unsafe { $inner.grow_in_place(pointer, old, new, true) };
                match grown {
                    Some(block) => Ok(block),
                    // SAFETY: the caller's promise.
                    None => unsafe { relocate(&$inner, $lane, pointer, old, new, true) },
                }
            }

            unsafe fn shrink(
                &self,
                pointer: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, AllocError> {
                let $this = self;
                // SAFETY: the caller's promise.
                let shrunk = unsafe { $inner.shrink_in_place(pointer, old, new) };
                match shrunk {
                    Some(block) => Ok(block),
                    // SAFETY: the caller's promise.
                    None => unsafe { relocate(&$inner, $lane, pointer, old, new, false) },
                }
            }
        }
    };
}

allocator!(Arena, this => this.inner, Lane::Default);
allocator!(ArenaLane, this => this.arena.inner, this.lane);
