//! Arenas together with a lane.

#![allow(unsafe_code)]

use super::{AllocError, Arena};
use crate::alloc::Lane;
use core::alloc::Layout;
use core::ptr::NonNull;

#[cfg(feature = "allocator-api2")]
use allocator_api2::{alloc::Allocator, boxed::Box, vec::Vec};

/// An arena together with a [lane](Lane): an allocator like [`Arena`], whose blocks lie in that lane.
///
/// A page gets as cold as the warmest object on it: one object that is touched often keeps the whole
/// page in memory. So a program that knows which objects it touches often gives them a lane of their
/// own. Blocks of any lane can be freed by the arena and by any lane of it.
///
/// Like a clone of the arena, a lane costs one atomic increment to make, and keeps the memory alive.
///
/// ```
/// use allocator_api2::{boxed::Box, vec::Vec};
/// use thermocline::Arena;
///
/// # fn main() -> Result<(), std::boxed::Box<dyn std::error::Error>> {
/// let arena = Arena::builder().plain_memory_fallback(true).build()?;
/// let mut counters = Vec::new_in(arena.hot());
/// counters.resize(1000, 0u64);
/// let archive: Vec<[u8; 500], _> = Vec::with_capacity_in(100, arena.cold());
/// # drop(archive);
///
/// // The program turns out to use a value often, and moves it.
/// let value = Box::new_in([7u8; 300], arena.clone());
/// let value = arena.hot().adopt_box(value).expect("room for it");
/// assert_eq!(value[299], 7);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArenaLane {
    pub(super) arena: Arena,
    pub(super) lane: Lane,
}

impl Arena {
    /// The lane for objects that the program is going to touch again and again.
    #[must_use]
    pub fn hot(&self) -> ArenaLane {
        self.lane(Lane::Hot)
    }

    /// The lane for objects that the program is not going to touch for a long time.
    #[must_use]
    pub fn cold(&self) -> ArenaLane {
        self.lane(Lane::Cold)
    }

    /// This arena together with `lane`.
    #[must_use]
    pub fn lane(&self, lane: Lane) -> ArenaLane {
        ArenaLane { arena: self.clone(), lane }
    }
}

impl ArenaLane {
    /// The arena.
    #[must_use]
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// The lane.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Allocates a block, as [`Arena::allocate`] does, in this lane. It is freed by
    /// [`Arena::deallocate`].
    ///
    /// # Errors
    ///
    /// As for [`Arena::allocate`].
    #[inline]
    pub fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.arena.inner.allocate(self.lane, layout)
    }

    /// Allocates a block of zeros, as [`Arena::allocate_zeroed`] does, in this lane.
    ///
    /// # Errors
    ///
    /// As for [`Arena::allocate`].
    pub fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.arena.inner.allocate_zeroed(self.lane, layout)
    }

    /// Moves a block of the arena to this lane: allocates a block, copies the bytes, frees the old block.
    ///
    /// # Errors
    ///
    /// As for [`Arena::allocate`]. The block then stays where it is.
    ///
    /// # Safety
    ///
    /// The block must have been allocated by this arena for `layout`, and not been freed; nothing
    /// may use it any more.
    pub unsafe fn adopt(
        &self,
        block: NonNull<u8>,
        layout: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        let moved = self.allocate(layout)?;
        // SAFETY: both blocks have the layout's bytes, and do not overlap. This thread holds no lock of the
        // library, so the copy may fault.
        unsafe { moved.cast::<u8>().copy_from_nonoverlapping(block, layout.size()) };
        // SAFETY: the caller's promise.
        unsafe { self.arena.deallocate(block, layout) };
        Ok(moved)
    }
}

#[cfg(feature = "allocator-api2")]
impl ArenaLane {
    /// Moves a boxed value to this lane, from another one or from any allocator.
    ///
    /// # Errors
    ///
    /// The box, if the arena has no room: see [`Arena::allocate`].
    pub fn adopt_box<T, A: Allocator>(&self, value: Box<T, A>) -> Result<Box<T, Self>, Box<T, A>> {
        match Box::try_new_uninit_in(self.clone()) {
            Ok(room) => Ok(Box::write(room, Box::into_inner(value))),
            Err(_) => Err(value),
        }
    }

    /// Moves a vector's items to this lane, from another one or from any allocator, into a block of their
    /// exact size.
    ///
    /// # Errors
    ///
    /// The vector, if the arena has no room: see [`Arena::allocate`].
    pub fn adopt_vec<T, A: Allocator>(
        &self,
        mut items: Vec<T, A>,
    ) -> Result<Vec<T, Self>, Vec<T, A>> {
        let mut moved: Vec<T, Self> = Vec::new_in(self.clone());
        if moved.try_reserve_exact(items.len()).is_err() {
            return Err(items);
        }
        let count = items.len();
        // SAFETY: the new vector has room for `count` items, and its block is not the old one's. The old
        // vector gives the items up before the new one owns them, so each has one owner.
        unsafe {
            items.set_len(0);
            moved.as_mut_ptr().copy_from_nonoverlapping(items.as_ptr(), count);
            moved.set_len(count);
        }
        Ok(moved)
    }
}
