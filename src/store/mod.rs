//! Bytes in, handle out, bytes back.
//!
//! The store knows nothing of pages' states. It keeps a page as a repeated word inside the handle
//! itself, or compressed in a slab, with a checksum that is verified before the bytes are given
//! back. Giving back takes no lock and allocates nothing; only putting in takes one, which no
//! application code ever holds.

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

/// What became of a page that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Put {
    /// It is in the store, at the handle's cost alone.
    SameFilled(Handle),
    /// It is in the store.
    Compressed(Handle),
    /// It would not have become small enough to be worth it.
    Incompressible,
    /// The store may not grow any more.
    Full,
}

/// The store's copy is not what was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Corrupt;

/// Compressed pages, up to a limit.
#[derive(Debug)]
pub(crate) struct Store {
    slabs: Slabs,
    payload: AtomicUsize,
}

/// A handle's kind, then the repeated word or the place in the slabs.
const KIND: Field = Field::lowest(1);
const PATTERN: Field = KIND.then(32);
const PLACE: Field = KIND.then(Handle::BITS - 1);
const SLAB: u64 = 1;

impl Store {
    /// A store that takes at most `limit` bytes of memory, rounded down to whole slabs.
    pub(crate) fn new(limit: usize) -> Result<Self, SysError> {
        Ok(Self { slabs: Slabs::new(limit / SLAB_BYTES)?, payload: AtomicUsize::new(0) })
    }

    /// Stores a page. `tag` must be the same on the way back: it makes sure that a page's bytes
    /// are never given to another page.
    pub(crate) fn put(&self, compressor: &mut Compressor, page: &[u8], tag: u64) -> Put {
        match compressor.compress(page, tag) {
            Compressed::SameFilled(word) => {
                Put::SameFilled(Handle::from_raw(PATTERN.set(0, u64::from(word))))
            }
            Compressed::Incompressible => Put::Incompressible,
            Compressed::Block(block) => match self.slabs.put(block) {
                Some(place) => {
                    self.payload.fetch_add(block.bytes(), Ordering::Relaxed);
                    let raw = PLACE.set(KIND.set(0, SLAB), place.raw());
                    Put::Compressed(Handle::from_raw(raw))
                }
                None => Put::Full,
            },
        }
    }

    /// Writes the page's bytes to `out`, after checking that they are the ones that were put in.
    ///
    /// The handle must be one that was given out and has not been freed.
    pub(crate) fn get(
        &self,
        handle: Handle,
        tag: u64,
        scratch: &mut Decompressor,
        out: &mut [u8],
    ) -> Result<(), Corrupt> {
        debug_assert_eq!(out.len(), PAGE_SIZE);
        match Self::place(handle) {
            None => {
                codec::fill(out, PATTERN.get_u32(handle.raw()));
                Ok(())
            }
            Some(place) => {
                let header = self.slabs.get(place, scratch.chunks()).ok_or(Corrupt)?;
                scratch.decompress(header, tag, out)
            }
        }
    }

    /// Whether `page` holds the bytes that were put in: by the block's checksum, or word by word where
    /// the handle is all there is.
    pub(crate) fn is_copy(&self, handle: Handle, tag: u64, page: &[u8]) -> bool {
        let Ok(page) = page.try_into() else { return false };
        match Self::place(handle) {
            None => codec::same_filled(page) == Some(PATTERN.get_u32(handle.raw())),
            Some(place) => {
                self.slabs.header(place).is_some_and(|header| codec::is_copy(header, tag, page))
            }
        }
    }

    /// Begins to load what [`get`](Self::get) is going to read, and waits for nothing.
    pub(crate) fn prefetch(&self, handle: Handle) {
        if let Some(place) = Self::place(handle) {
            self.slabs.prefetch(place);
        }
    }

    /// Ends the handle. Lock-free.
    pub(crate) fn free(&self, handle: Handle) {
        if let Some(place) = Self::place(handle)
            && let Some(bytes) = self.slabs.free(place)
        {
            self.payload.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Gives back the memory of slabs that have become empty.
    pub(crate) fn trim(&self) {
        self.slabs.trim();
    }

    /// Bytes of compressed pages, before rounding up to slots.
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

    fn place(handle: Handle) -> Option<slab::Place> {
        (KIND.get(handle.raw()) == SLAB).then(|| slab::Place::from_raw(PLACE.get(handle.raw())))
    }

    /// Checks the slabs' own sums, and that as many slots are in use as `handles` says; a handle
    /// that was lost or freed twice shows here. Holds only while nothing else is going on.
    pub(crate) fn check(&self, handles: impl Iterator<Item = Handle>) -> Result<(), String> {
        self.slabs.check(handles.filter_map(Self::place))
    }

    /// Flips a bit of a stored page, for tests of what happens then.
    #[cfg(test)]
    pub(crate) fn corrupt(&self, handle: Handle) {
        self.slabs.corrupt(Self::place(handle).expect("a page in a slab"));
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
