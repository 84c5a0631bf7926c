//! Blocks of a side: allocates, touches and frees them, so that the patterns need no unsafe code.

#![allow(unsafe_code)]

use crate::sides::Side;
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use std::alloc::Layout;
use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

const PAGE: usize = 4096;

/// The alignment of most blocks in programs.
const ALIGN: usize = 8;

#[inline]
fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a size far from overflowing")
}

#[derive(Debug)]
struct Block {
    start: NonNull<u8>,
    size: u32,
    /// The byte to write to the block. Overlapping blocks mostly have different stamps.
    stamp: u8,
}

// SAFETY: any thread may use a block and free it.
unsafe impl Send for Block {}

impl Block {
    #[inline]
    fn new<S: Side>(side: &S, size: usize, stamp: u8) -> Self {
        let start = side.allocate(layout(size, ALIGN));
        Self { start, size: u32::try_from(size).expect("a block of less than 4 GiB"), stamp }
    }

    #[inline]
    fn size(&self) -> usize {
        self.size as usize
    }

    #[inline]
    fn free<S: Side>(&self, side: &S) {
        // SAFETY: this side allocated the block for this layout, and its owner frees it once.
        unsafe { side.deallocate(self.start, layout(self.size(), ALIGN)) }
    }

    #[inline]
    fn write(&mut self, at: usize) {
        debug_assert!(at < self.size());
        // SAFETY: the byte lies in a block that `self` owns. Volatile, so that the compiler keeps a write
        // that may never be read.
        unsafe { self.start.add(at).write_volatile(self.stamp) }
    }

    #[inline]
    fn write_ends(&mut self) {
        self.write(0);
        self.write(self.size() - 1);
    }

    fn check(&self, at: usize) {
        debug_assert!(at < self.size());
        // SAFETY: the byte lies in a block that `self` owns, and was written.
        let byte = unsafe { self.start.add(at).read_volatile() };
        assert_eq!(byte, self.stamp, "byte {at} of {self:?} is wrong");
    }
}

/// Allocates a block, writes its first byte and frees it.
#[inline]
pub(crate) fn pair<S: Side>(side: &S, size: usize) {
    let mut block = Block::new(side, size, 1);
    block.write(0);
    black_box(&block);
    if S::CHECKED {
        block.check(0);
    }
    block.free(side);
}

/// Memory for a list of blocks, touched beforehand.
#[derive(Debug)]
pub(crate) struct Room(Vec<Block>);

impl Room {
    pub(crate) fn new(blocks: usize) -> Self {
        let mut room = Vec::new();
        room.resize_with(blocks, || Block { start: NonNull::dangling(), size: 0, stamp: 0 });
        black_box(&mut room).clear();
        Self(room)
    }
}

/// The first stamp of the next list, so that lists begin with different stamps.
static LISTS: AtomicU8 = AtomicU8::new(0);
const STEP: u8 = 37;

/// A list of blocks of one side. The first and the last byte of each are written.
#[derive(Debug)]
pub(crate) struct Blocks<'a, S: Side> {
    side: &'a S,
    list: Vec<Block>,
    stamp: u8,
}

impl<'a, S: Side> Blocks<'a, S> {
    pub(crate) fn new(side: &'a S, Room(list): Room) -> Self {
        Self { side, list, stamp: LISTS.fetch_add(STEP, Ordering::Relaxed) }
    }

    #[inline]
    fn block(&mut self, size: usize) -> Block {
        self.stamp = self.stamp.wrapping_add(1);
        let mut block = Block::new(self.side, size, self.stamp);
        block.write_ends();
        block
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    #[inline]
    pub(crate) fn push(&mut self, size: usize) {
        let block = self.block(size);
        self.list.push(block);
    }

    /// Pushes a block and touches each of its pages.
    pub(crate) fn push_whole(&mut self, size: usize) {
        self.push(size);
        if let Some(block) = self.list.last_mut() {
            (0..size).step_by(PAGE).for_each(|at| block.write(at));
        }
    }

    #[inline]
    fn free(side: &S, block: &Block) {
        if S::CHECKED {
            block.check(0);
            block.check(block.size() - 1);
        }
        block.free(side);
    }

    /// Frees a random block and puts another in its place.
    #[inline]
    pub(crate) fn replace_any(&mut self, random: &mut SmallRng, size: usize) {
        let at = random.random_range(0..self.list.len());
        Self::free(self.side, &self.list[at]);
        // No code in between unwinds, so no code sees the freed block.
        self.list[at] = self.block(size);
    }

    /// Frees a random block and returns its size.
    pub(crate) fn remove_any(&mut self, random: &mut SmallRng) -> usize {
        let at = random.random_range(0..self.list.len());
        let block = self.list.swap_remove(at);
        Self::free(self.side, &block);
        block.size()
    }

    pub(crate) fn shuffle(&mut self, random: &mut SmallRng) {
        self.list.shuffle(random);
    }

    /// Frees all blocks, the oldest first.
    pub(crate) fn clear(&mut self) {
        for block in self.list.drain(..) {
            Self::free(self.side, &block);
        }
    }

    /// Frees all blocks, the youngest first.
    pub(crate) fn clear_backwards(&mut self) {
        while let Some(block) = self.list.pop() {
            Self::free(self.side, &block);
        }
    }
}

impl<S: Side> Drop for Blocks<'_, S> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A block that grows, as a vector of bytes does. All of its bytes are written.
#[derive(Debug)]
pub(crate) struct Growing<'a, S: Side> {
    side: &'a S,
    start: NonNull<u8>,
    size: usize,
    mark: u8,
}

impl<'a, S: Side> Growing<'a, S> {
    /// Allocates a block, all of whose bytes will be `mark`.
    pub(crate) fn new(side: &'a S, size: usize, mark: u8) -> Self {
        let start = side.allocate(layout(size, 1));
        let mut growing = Self { side, start, size, mark };
        growing.write_from(0);
        growing
    }

    pub(crate) fn grow(&mut self, size: usize) {
        let old = self.size;
        assert!(size > old, "from {old} to {size} bytes");
        // SAFETY: this side allocated the block for this layout.
        self.start = unsafe { self.side.grow(self.start, layout(old, 1), size) };
        self.size = size;
        self.write_from(old);
    }

    fn write_from(&mut self, at: usize) {
        // SAFETY: the bytes lie in the block, which `self` owns.
        unsafe { self.start.add(at).write_bytes(self.mark, self.size - at) }
        black_box(self.start);
    }

    fn check(&self) {
        // Unchecked, reads the start and the middle, where the old and the new half meet.
        let step = if S::CHECKED { 1 } else { (self.size / 2).max(1) };
        for at in (0..self.size).step_by(step) {
            // SAFETY: the byte lies in the block and was written.
            let byte = unsafe { self.start.add(at).read() };
            assert_eq!(byte, self.mark, "byte {at} of {} is wrong", self.size);
        }
    }
}

impl<S: Side> Drop for Growing<'_, S> {
    fn drop(&mut self) {
        self.check();
        // SAFETY: this side allocated the block for this layout, and only this frees it.
        unsafe { self.side.deallocate(self.start, layout(self.size, 1)) }
    }
}
