//! Allocating and freeing, in pointers.

#![allow(unsafe_code)]

use super::{Arena, Inner};
use crate::alloc::{Block, Heap};
use crate::prim::PageRange;
use crate::prim::own::AtWork;
use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;

/// Pages of a large block that are populated when it is allocated: 2 MiB. What lies behind is
/// populated when it is touched, ahead of a program that writes from one end to the other; a block
/// that is touched here and there takes no more memory than what is touched.
const POPULATED: usize = 512;

/// There is no room left in the reserve for the block, or no memory for its pages.
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
    pub fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.inner.allocate(layout)
    }

    /// Allocates a block that holds nothing but zeros. Pages that are zero already are not touched.
    ///
    /// # Errors
    ///
    /// As for [`allocate`](Self::allocate).
    pub fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.inner.allocate_zeroed(layout)
    }

    /// Frees a block. Pages that become free give their memory, or their place in the store, back at
    /// once.
    ///
    /// # Safety
    ///
    /// The block must have been allocated by this arena for `layout`, and not been freed; nothing
    /// may use it any more.
    pub unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.inner.deallocate(block, layout) }
    }
}

impl Inner {
    fn pointer(&self, block: Block) -> NonNull<[u8]> {
        let first = self.parts.memory.base().wrapping_add(block.offset);
        // The view begins at no null address and the block lies within it.
        let first = NonNull::new(first).unwrap_or(NonNull::dangling());
        NonNull::slice_from_raw_parts(first, block.size)
    }

    fn populate(&self, range: PageRange) -> Result<(), AllocError> {
        let Some(engine) = &self.parts.engine else {
            return Ok(());
        };
        engine.populate(range).map_err(|_| AllocError)
    }

    /// Releases pages of a freed block and lets others have them.
    fn release(&self, pages: PageRange) {
        let released = match &self.parts.engine {
            Some(engine) => engine.release(pages),
            None => self.parts.memory.punch(pages),
        };
        match released {
            Ok(()) => self.heap().give_back(pages),
            // The pages keep their bytes, so nobody may have them as if they were empty.
            Err(e) => crate::sys::event::say(format_args!("{pages:?} cannot be released: {e}")),
        }
    }

    pub(super) fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.allocate_block(layout)
            .map(|block| block.map_or_else(|| empty(layout), |b| self.pointer(b)))
    }

    pub(super) fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let Some(block) = self.allocate_block(layout)? else {
            return Ok(empty(layout));
        };
        let pointer = self.pointer(block);
        if !block.is_zeroed() {
            // SAFETY: the block is the caller's, which nobody has got to see yet, and as long as
            // the slice says. No lock of ours is held.
            unsafe { pointer.cast::<u8>().write_bytes(0, block.size) };
        }
        Ok(pointer)
    }

    /// A block, or none for a layout without bytes.
    fn allocate_block(&self, layout: Layout) -> Result<Option<Block>, AllocError> {
        if layout.size() == 0 {
            return Ok(None);
        }
        if !self.generation.is_current() {
            return Err(AllocError);
        }
        let _at_work = AtWork::enter();
        let block = self.heap().allocate(layout).ok_or(AllocError)?;
        if let Some(fresh) = block.fresh {
            let first = PageRange::new(fresh.start.0, fresh.end.0.min(fresh.start.0 + POPULATED));
            if let Err(e) = self.populate(first) {
                self.free(block.offset, layout);
                return Err(e);
            }
        }
        Ok(Some(block))
    }

    /// # Safety
    ///
    /// The block must have been allocated by this arena for `layout`, and not been freed.
    pub(super) unsafe fn deallocate(&self, pointer: NonNull<u8>, layout: Layout) {
        // In a forked child there is nothing to free, and the heap's lock may be held for ever.
        if layout.size() == 0 || !self.generation.is_current() {
            return;
        }
        let offset = self.parts.memory.offset_of(pointer.addr().get());
        debug_assert!(offset.is_some(), "not a block of this arena");
        if let Some(offset) = offset {
            self.free(offset, layout);
        }
    }

    fn free(&self, offset: usize, layout: Layout) {
        let _at_work = AtWork::enter();
        let pages = self.heap().free(offset, layout);
        if let Some(pages) = pages {
            self.release(pages);
        }
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
        let (was, is) = (Heap::usable_size(old), Heap::usable_size(new));
        if was != is {
            let _at_work = AtWork::enter();
            let added = self.heap().grow(offset, old, new)?;
            // Should there be no memory for it now, a touch will ask again.
            let _ = self.populate(PageRange::new(
                added.start.0,
                added.end.0.min(added.start.0 + POPULATED),
            ));
        }
        if zeroed {
            let end = was.min(is);
            // SAFETY: the bytes from the old size to the end of the old block's last slot or page
            // are the caller's; those of added pages are zero already.
            unsafe { pointer.add(old.size()).write_bytes(0, end - old.size()) };
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
        if Heap::usable_size(old) != Heap::usable_size(new) {
            let _at_work = AtWork::enter();
            let tail = self.heap().shrink(offset, old, new)?;
            self.release(tail);
        }
        Some(NonNull::slice_from_raw_parts(pointer, Heap::usable_size(new)))
    }

    /// The offset of a block for which both layouts can be had where it is.
    fn movable(&self, pointer: NonNull<u8>, old: Layout, new: Layout) -> Option<usize> {
        let same_kind = Heap::same_place(old, new) && self.generation.is_current();
        (same_kind && pointer.addr().get().is_multiple_of(new.align()))
            .then(|| self.parts.memory.offset_of(pointer.addr().get()))?
    }
}

/// A well-aligned pointer to no bytes.
fn empty(layout: Layout) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(layout.dangling_ptr(), 0)
}
