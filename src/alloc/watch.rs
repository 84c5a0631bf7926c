//! What is freed twice, or is no block: found before damage is done.

use super::Heap;
use super::classes::{CLASSES, class_of};
use super::span::WATCHED;
use crate::prim::PAGE_SIZE;
use crate::prim::in_library::InLibraryGuard;
use crate::sys::event;
use core::alloc::Layout;

impl Heap {
    /// In debug builds, notes that the program has got the block at `offset`, or is giving it back.
    #[inline]
    pub(crate) fn watch(&self, offset: usize, layout: Layout, live: bool) {
        if WATCHED && self.generation.is_current() {
            self.note(offset, layout, live);
        }
    }

    fn note(&self, offset: usize, layout: Layout, live: bool) {
        let _in_library = InLibraryGuard::enter();
        let is_right = match self.bin_at(offset) {
            Some(bin) => {
                let fits = class_of(layout) == Some(bin % CLASSES);
                fits && self.bin(bin).watch(offset as u64, live, &self.map)
            }
            None => self.map.nodes().watch_block(offset / PAGE_SIZE, live),
        };
        if !is_right {
            bad_free(offset, layout);
        }
    }
}

/// Ends the process because memory is freed that was not allocated so, before damage is done.
#[cold]
pub(crate) fn bad_free(offset: usize, layout: Layout) -> ! {
    event::report(format_args!(
        "memory is freed twice, with another layout, or is no block of this arena: {} bytes at offset \
         {offset:#x}; abort",
        layout.size()
    ));
    std::process::abort()
}
