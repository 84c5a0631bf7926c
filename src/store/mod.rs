//! Stores pages: `put` takes a page's bytes and returns a handle, `get` takes the handle and returns the
//! bytes.
//!
//! The store knows nothing of page states. It keeps a same-filled page in the handle itself, and any
//! other page as a block in a slab, with a checksum that `get` verifies. `get` and `free` take no lock
//! and allocate nothing. `put` takes a lock, which no thread holds while it runs code of the program.

mod codec;
mod lz4;
mod slab;

pub(crate) use codec::{Compressor, Decompressor};
pub(crate) use slab::SLAB_BYTES;

use crate::prim::pack::Field;
use crate::prim::sync::{AtomicUsize, Ordering};
use crate::prim::{Handle, PAGE_SIZE};
use crate::sys::SysError;
use codec::Compressed;
use slab::Slabs;

/// The result of [`Store::put`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Put {
    /// The handle holds the page. It takes no memory of the store.
    SameFilled(Handle),
    /// The page is a block in a slab.
    Compressed(Handle),
    /// The page's block is longer than the store takes.
    Incompressible,
    /// The store has reached its limit.
    Full,
}

/// The store's copy of a page is damaged, or belongs to another page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Corrupt;

/// Compressed pages, up to a limit.
#[derive(Debug)]
pub(crate) struct Store {
    slabs: Slabs,
    payload: AtomicUsize,
}

/// A handle: its kind, then the repeated word or the slot.
const KIND: Field = Field::lowest(1);
const PATTERN: Field = KIND.then(32);
const SLOT: Field = KIND.then(Handle::BITS - 1);
/// The kind of a handle with a slot.
const IN_SLAB: u64 = 1;

impl Store {
    /// A store that takes at most `limit` bytes of memory, rounded down to whole slabs.
    pub(crate) fn new(limit: usize) -> Result<Self, SysError> {
        Ok(Self { slabs: Slabs::new(limit / SLAB_BYTES)?, payload: AtomicUsize::new(0) })
    }

    /// Stores a page. [`get`](Self::get) fails with another `tag`, so no page ever gets the bytes of
    /// another page. A same-filled page has no tag: its handle is its content.
    pub(crate) fn put(&self, compressor: &mut Compressor, page: &[u8], tag: u64) -> Put {
        match compressor.compress(page, tag) {
            Compressed::SameFilled(word) => {
                Put::SameFilled(Handle::from_raw(PATTERN.set(0, u64::from(word))))
            }
            Compressed::Incompressible => Put::Incompressible,
            Compressed::Block(block) => match self.slabs.put(block) {
                Some(slot) => {
                    self.payload.fetch_add(block.bytes(), Ordering::Relaxed);
                    let raw = SLOT.set(KIND.set(0, IN_SLAB), slot.raw());
                    Put::Compressed(Handle::from_raw(raw))
                }
                None => Put::Full,
            },
        }
    }

    /// Decodes the page to `out`, and verifies that the bytes are those that were stored. After an error,
    /// the content of `out` is unspecified.
    ///
    /// [`put`](Self::put) must have returned the handle, and it must not have been freed.
    pub(crate) fn get(
        &self,
        handle: Handle,
        tag: u64,
        scratch: &mut Decompressor,
        out: &mut [u8],
    ) -> Result<(), Corrupt> {
        debug_assert_eq!(out.len(), PAGE_SIZE);
        match Self::slot(handle) {
            None => {
                codec::fill(out, PATTERN.get_u32(handle.raw()));
                Ok(())
            }
            Some(slot) => {
                let header = self.slabs.get(slot, scratch.chunks()).ok_or(Corrupt)?;
                scratch.decompress(header, tag, out)
            }
        }
    }

    /// Whether `page` holds the bytes that were stored: by the checksum of a block, or word by word for a
    /// same-filled page.
    pub(crate) fn is_copy(&self, handle: Handle, tag: u64, page: &[u8]) -> bool {
        let Ok(page) = page.try_into() else { return false };
        match Self::slot(handle) {
            None => codec::same_filled(page) == Some(PATTERN.get_u32(handle.raw())),
            Some(slot) => {
                self.slabs.header(slot).is_some_and(|header| codec::is_copy(header, tag, page))
            }
        }
    }

    /// Prefetches the memory that [`get`](Self::get) will read. Does not wait.
    pub(crate) fn prefetch(&self, handle: Handle) {
        if let Some(slot) = Self::slot(handle) {
            self.slabs.prefetch(slot);
        }
    }

    /// Frees the handle. Lock-free.
    pub(crate) fn free(&self, handle: Handle) {
        if let Some(slot) = Self::slot(handle)
            && let Some(bytes) = self.slabs.free(slot)
        {
            self.payload.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Discards the memory of empty slabs.
    pub(crate) fn trim(&self) {
        self.slabs.trim();
    }

    /// Bytes of all blocks, before they are rounded up to slots.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.payload.load(Ordering::Relaxed)
    }

    /// Bytes of memory that the store holds.
    pub(crate) fn held_bytes(&self) -> usize {
        self.slabs.held() * SLAB_BYTES
    }

    /// Bytes of memory that the store may hold.
    pub(crate) fn limit(&self) -> usize {
        self.slabs.limit() * SLAB_BYTES
    }

    fn slot(handle: Handle) -> Option<slab::SlotId> {
        (KIND.get(handle.raw()) == IN_SLAB).then(|| slab::SlotId::from_raw(SLOT.get(handle.raw())))
    }

    /// Checks the counts of the slabs, and that the slots of `handles` are those in use. This finds a
    /// handle that was lost or freed twice. No other thread may use the store meanwhile.
    pub(crate) fn check(&self, handles: impl Iterator<Item = Handle>) -> Result<(), String> {
        self.slabs.check(handles.filter_map(Self::slot))
    }

    /// Flips a bit of a block.
    #[cfg(test)]
    pub(crate) fn corrupt(&self, handle: Handle) {
        self.slabs.corrupt(Self::slot(handle).expect("a handle with a slot"));
    }
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod lz4_reference;
#[cfg(test)]
mod lz4_tests;
#[cfg(test)]
mod tests;
