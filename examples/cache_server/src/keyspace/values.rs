//! Values in the arena: where each lies, and how it grows.

#![allow(unsafe_code)]

use super::{Form, OutOfMemory};
use allocator_api2::alloc::Allocator;
use std::alloc::Layout;
use std::ptr::NonNull;
use thermocline::{Arena, ArenaError, ArenaLane, Lane, Peek};

/// The bytes of one value. It has to be given back to [`Values::free`]: dropping it leaks them.
#[derive(Debug)]
pub(super) struct Value {
    start: NonNull<u8>,
    len: u32,
    lane: Lane,
    /// It has grown: its block has room for more, up to a power of two.
    grown: bool,
    pub(super) form: Form,
    /// How often it was used of late: see [`heat`](super::heat).
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

    /// It is in the hot lane, but on a page that is not in memory.
    pub(super) fn count_as_cold(&mut self) {
        self.lane = Lane::Cold;
    }

    /// Bytes of its block.
    pub(super) fn capacity(&self) -> usize {
        capacity(self.len(), self.grown)
    }

    fn layout(&self) -> Layout {
        layout(self.capacity())
    }

    /// The bytes, which may be evicted: they come back when they are looked at.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the block holds so many bytes, all written, which live and are written to through
        // `&mut self` alone.
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

/// The arena, as the place of values.
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

    /// A new value with these bytes.
    pub(super) fn put(&self, lane: Lane, bytes: &[u8]) -> Result<Value, OutOfMemory> {
        let len = u32::try_from(bytes.len()).map_err(|_| OutOfMemory)?;
        if len == 0 {
            return Ok(Value::new(NonNull::dangling(), len, lane));
        }
        let block = self.lane(lane).allocate(layout(bytes.len())).map_err(|_| OutOfMemory)?;
        let start = block.cast::<u8>();
        // SAFETY: a new block of at least so many bytes.
        unsafe { start.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Ok(Value::new(start, len, lane))
    }

    pub(super) fn free(&self, value: Value) {
        if value.capacity() > 0 {
            // SAFETY: allocated by `put` or `resize` with this layout, and not used any more.
            unsafe { self.arena().deallocate(value.start, value.layout()) }
        }
    }

    /// The bytes of a value: those that are stored are read where they are, into `buffer`.
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

    /// Brings back what is stored of a value.
    pub(super) fn ensure(&self, value: &Value) {
        if value.len > 0 {
            // What is lost is found when it is read.
            let _ = self.arena().ensure(value.bytes());
        }
    }

    /// Writes `bytes` at `offset`, up to which and in between the value is filled with zeros.
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
        // SAFETY: within the block, which is this value's alone; the block has `end` bytes at least.
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

    /// Gives the value room for `len` bytes, which is more than it has. Those that are new are anything.
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
