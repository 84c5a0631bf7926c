//! Detects invalid frees before they corrupt the heap.

use super::Heap;
use super::classes::{CLASSES, class_of};
use super::span::TRACK_LIVE;
use crate::prim::PAGE_SIZE;
use crate::prim::in_library::InLibraryGuard;
use crate::sys::event;
use core::alloc::Layout;

impl Heap {
    /// In debug builds, records that the program got the block at `offset`, or gives it back. Aborts if
    /// the record says so already.
    #[inline]
    pub(crate) fn watch(&self, offset: usize, layout: Layout, live: bool) {
        if TRACK_LIVE && self.generation.is_current() {
            self.record_owner(offset, layout, live);
        }
    }

    fn record_owner(&self, offset: usize, layout: Layout, live: bool) {
        let _in_library = InLibraryGuard::enter();
        let is_right = match self.bin_at(offset) {
            Some(bin) => {
                let fits = class_of(layout) == Some(bin % CLASSES);
                fits && self.bin(bin).watch(offset as u64, live, &self.map)
            }
            None => self.map.boundaries().watch_block(offset / PAGE_SIZE, live),
        };
        if !is_right {
            bad_free(offset, layout);
        }
    }
}

/// Aborts the process: the program frees memory that it does not have, or frees it with another layout.
#[cold]
pub(crate) fn bad_free(offset: usize, layout: Layout) -> ! {
    event::report(format_args!(
        "memory is freed twice, with another layout, or is no block of this arena: {} bytes at offset \
         {offset:#x}; abort",
        layout.size()
    ));
    std::process::abort()
}
