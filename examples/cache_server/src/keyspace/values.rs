//! Values in the arena.

#![allow(unsafe_code)]

use super::{Form, OutOfMemory};
use allocator_api2::alloc::Allocator;
use std::alloc::Layout;
use std::ptr::NonNull;
use thermocline::{Arena, ArenaError, ArenaLane, Lane, Peek};

/// The bytes of one value. [`Values::free`] must take it back: dropping it leaks them.
#[derive(Debug)]
pub(super) struct Value {
    start: NonNull<u8>,
    len: u32,
    lane: Lane,
    /// The value has grown, so its block's size is a power of two.
    grown: bool,
    pub(super) form: Form,
    /// The number of recent uses: see [`heat`](super::heat).
    pub(super) heat: u8,
}

// SAFETY: the value owns its bytes, which lie in an arena that any thread may use.
unsafe impl Send for Value {}

impl Value {
    fn new(start: NonNull<u8>, len: u32, lane: Lane) -> Self {
        Self { start, len, lane, grown: false, form: Form::Whole, heat: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn lane(&self) -> Lane {
        self.lane
    }

    /// Where its bytes begin.
    pub(super) fn address(&self) -> usize {
        self.start.addr().get()
    }

    /// Counts a value of the hot lane as cold, because its page is not resident.
    pub(super) fn count_as_cold(&mut self) {
        self.lane = Lane::Cold;
    }

    /// The bytes of its block.
    pub(super) fn capacity(&self) -> usize {
        capacity(self.len(), self.grown)
    }

    fn layout(&self) -> Layout {
        layout(self.capacity())
    }

    /// The bytes. A read of an evicted byte restores its page.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the block holds this number of bytes, all initialised; they live as long as the value
        // and change only through `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len()) }
    }
}

fn capacity(len: usize, grown: bool) -> usize {
    if grown { len.next_power_of_two() } else { len }
}

fn layout(bytes: usize) -> Layout {
    // Redis' largest value has 2^29 bytes.
    Layout::array::<u8>(bytes).expect("a value's length")
}

/// The arena that holds the values.
#[derive(Debug)]
pub(super) struct Values {
    default: ArenaLane,
    hot: ArenaLane,
    cold: ArenaLane,
}

impl Values {
    pub(super) fn new(arena: &Arena) -> Self {
        Self { default: arena.lane(Lane::Default), hot: arena.hot(), cold: arena.cold() }
    }

    pub(super) fn arena(&self) -> &Arena {
        self.default.arena()
    }

    fn lane(&self, lane: Lane) -> &ArenaLane {
        match lane {
            Lane::Hot => &self.hot,
            Lane::Cold => &self.cold,
            _ => &self.default,
        }
    }

    /// Allocates a value with these bytes.
    pub(super) fn put(&self, lane: Lane, bytes: &[u8]) -> Result<Value, OutOfMemory> {
        let len = u32::try_from(bytes.len()).map_err(|_| OutOfMemory)?;
        if len == 0 {
            return Ok(Value::new(NonNull::dangling(), len, lane));
        }
        let block = self.lane(lane).allocate(layout(bytes.len())).map_err(|_| OutOfMemory)?;
        let start = block.cast::<u8>();
        // SAFETY: a new block of at least this number of bytes.
        unsafe { start.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Ok(Value::new(start, len, lane))
    }

    pub(super) fn free(&self, value: Value) {
        if value.capacity() > 0 {
            // SAFETY: `put` or `resize` allocated it with this layout, and it is not used after this.
            unsafe { self.arena().deallocate(value.start, value.layout()) }
        }
    }

    /// The bytes of a value. Decompresses stored pages into `buffer` and leaves them stored.
    pub(super) fn peek<'a>(
        &self,
        value: &'a Value,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Peek<'a>, ArenaError> {
        if value.len == 0 {
            return Ok(Peek::InMemory(&[]));
        }
        self.arena().peek(value.bytes(), buffer)
    }

    pub(super) fn is_resident(&self, value: &Value) -> bool {
        value.len == 0 || self.arena().is_resident(value.bytes())
    }

    /// Restores the stored pages of a value.
    pub(super) fn ensure(&self, value: &Value) {
        if value.len > 0 {
            // A later read finds lost pages.
            let _ = self.arena().ensure(value.bytes());
        }
    }

    /// Writes `bytes` at `offset`. Fills the gap after a shorter value with zeros.
    pub(super) fn write(
        &self,
        value: &mut Value,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), OutOfMemory> {
        let end = offset.checked_add(bytes.len()).ok_or(OutOfMemory)?;
        let old_len = value.len();
        if end > old_len {
            self.resize(value, end)?;
        }
        // SAFETY: within the block, which only this value uses and which has at least `end` bytes.
        unsafe {
            if offset > old_len {
                value.start.add(old_len).write_bytes(0, offset - old_len);
            }
            value
                .start
                .add(offset)
                .copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
        }
        Ok(())
    }

    /// Grows the value to `len` bytes, more than it has. The new bytes are uninitialised.
    fn resize(&self, value: &mut Value, len: usize) -> Result<(), OutOfMemory> {
        let new_len = u32::try_from(len).map_err(|_| OutOfMemory)?;
        let (old, new) = (value.layout(), layout(capacity(len, true)));
        let lane = self.lane(value.lane);
        if old.size() == 0 {
            value.start = lane.allocate(new).map_err(|_| OutOfMemory)?.cast();
        } else if new.size() > old.size() {
            // SAFETY: the value's block, allocated with the old layout.
            let grown = unsafe { lane.grow(value.start, old, new) };
            value.start = grown.map_err(|_| OutOfMemory)?.cast();
        }
        (value.len, value.grown) = (new_len, true);
        Ok(())
    }
}
