//! Blocks of items in the arena.

#![allow(unsafe_code)]

use super::OutOfMemory;
use super::block::{Head, LONGEST_HEAD};
use super::item::{Class, Item, UNIT};
use parking_lot::Mutex;
use std::alloc::Layout;
use std::collections::HashMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::slice;
use thermocline::{Arena, ArenaError, ArenaLane, Lane, Peek};

/// Allocates, reads, writes and frees blocks.
#[derive(Debug)]
pub(super) struct Items {
    default: ArenaLane,
    hot: ArenaLane,
    cold: ArenaLane,
    /// The arena's first byte.
    start: NonNull<u8>,
    /// The distance of blocks, as a power of two.
    unit_shift: u32,
    /// The bytes of large blocks, by place.
    large: Mutex<HashMap<u32, usize>>,
}

// SAFETY: `start` is an address of the arena, which any thread may use. The owner of an item synchronizes the
// accesses to its block.
unsafe impl Send for Items {}
// SAFETY: as above.
unsafe impl Sync for Items {}

impl Items {
    pub(super) fn new(arena: &Arena) -> Self {
        let addresses = arena.addresses();
        let bytes = addresses.end.addr() - addresses.start.addr();
        let units = bytes.div_ceil(1 << u32::BITS).next_power_of_two().max(UNIT);
        Self {
            default: arena.lane(Lane::Default),
            hot: arena.hot(),
            cold: arena.cold(),
            start: NonNull::new(addresses.start.cast_mut()).expect("the address of a mapping"),
            unit_shift: units.ilog2(),
            large: Mutex::default(),
        }
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

    fn layout(&self, bytes: usize) -> Layout {
        // Redis' largest value has 2^29 bytes.
        Layout::from_size_align(bytes, 1 << self.unit_shift).expect("the size of a block")
    }

    fn block(&self, item: &Item) -> NonNull<u8> {
        // SAFETY: `allocate` has computed the place from an address in the arena.
        unsafe { self.start.add((item.place() as usize) << self.unit_shift) }
    }

    /// Where the block begins.
    pub(super) fn address(&self, item: &Item) -> usize {
        self.block(item).addr().get()
    }

    /// The bytes of a block; `None` for a large one.
    fn class_size(&self, class: Class) -> Option<usize> {
        class.bytes().map(|bytes| bytes.next_multiple_of(1 << self.unit_shift))
    }

    /// The bytes of the block.
    pub(super) fn size(&self, item: &Item) -> usize {
        self.class_size(item.class()).unwrap_or_else(|| self.large.lock()[&item.place()])
    }

    /// Bytes that the sizes of large blocks take, approximately.
    pub(super) fn index_bytes(&self) -> usize {
        self.large.lock().capacity() * (size_of::<(u32, usize)>() + 1)
    }

    /// Allocates a block of at least this number of bytes, which `new` initialises: all of them.
    fn allocate(
        &self,
        lane: Lane,
        bytes: usize,
        new: impl FnOnce(&ArenaLane, Layout) -> Option<NonNull<u8>>,
    ) -> Result<Item, OutOfMemory> {
        let class = Class::of(bytes);
        let size = self.class_size(class);
        let size = size.unwrap_or_else(|| bytes.next_multiple_of(1 << self.unit_shift));
        let block = new(self.lane(lane), self.layout(size)).ok_or(OutOfMemory)?;
        let place = (block.addr().get() - self.start.addr().get()) >> self.unit_shift;
        let place = u32::try_from(place).expect("a place in the arena");
        if class == Class::LARGE {
            self.large.lock().insert(place, size);
        }
        let mut item = Item::new(place, class);
        item.set_hot(lane == Lane::Hot);
        Ok(item)
    }

    /// Allocates a block with this head, key and value.
    pub(super) fn put(
        &self,
        lane: Lane,
        head: &Head,
        key: &[u8],
        value: &[u8],
    ) -> Result<Item, OutOfMemory> {
        debug_assert_eq!((head.key_len(), head.value_len()), (key.len(), value.len()));
        let mut start = [0; LONGEST_HEAD];
        head.write(&mut start);
        let parts = [&start[..head.len()], key, value];
        let mut item = self.allocate(lane, head.total(), |lane, layout| {
            let block = lane.allocate(layout).ok()?.cast::<u8>();
            let mut at = 0;
            for part in parts {
                // SAFETY: the parts together are not longer than the new block.
                unsafe {
                    block.add(at).copy_from_nonoverlapping(NonNull::from(part).cast(), part.len());
                }
                at += part.len();
            }
            // SAFETY: the rest of the block.
            unsafe { block.add(at).write_bytes(0, layout.size() - at) };
            Some(block)
        })?;
        item.set_volatile(head.expires.is_some());
        Ok(item)
    }

    /// Allocates a block of zeros with at least this number of bytes.
    pub(super) fn put_zeros(&self, lane: Lane, bytes: usize) -> Result<Item, OutOfMemory> {
        self.allocate(lane, bytes, |lane, layout| Some(lane.allocate_zeroed(layout).ok()?.cast()))
    }

    pub(super) fn free(&self, item: Item) {
        let size = self.size(&item);
        if item.is_large() {
            self.large.lock().remove(&item.place());
        }
        // SAFETY: `allocate` has allocated it with this layout, and the item is not used after this.
        unsafe { self.arena().deallocate(self.block(&item), self.layout(size)) }
    }

    /// The bytes of the block. A read of an evicted byte restores its page.
    pub(super) fn bytes<'a>(&'a self, item: &'a Item) -> &'a [u8] {
        self.first_bytes(item, self.size(item))
    }

    /// The first bytes of the block: all of them, unless it is large.
    fn front<'a>(&'a self, item: &'a Item) -> &'a [u8] {
        self.first_bytes(item, self.class_size(item.class()).unwrap_or(Class::LARGEST))
    }

    fn first_bytes<'a>(&'a self, item: &'a Item, len: usize) -> &'a [u8] {
        // SAFETY: the block has at least `len` bytes, all initialised; they live as long as the item and
        // change only through `&mut Item`.
        unsafe { slice::from_raw_parts(self.block(item).as_ptr(), len) }
    }

    /// The bytes of the block. A touch of an evicted byte restores its page.
    pub(super) fn bytes_mut<'a>(&'a self, item: &'a mut Item) -> &'a mut [u8] {
        let size = self.size(item);
        // SAFETY: as for `first_bytes`; the borrow of the item is exclusive.
        unsafe { slice::from_raw_parts_mut(self.block(item).as_ptr(), size) }
    }

    /// Reads the first bytes of the block: all of them, unless it is large. Decompresses stored pages into
    /// `buffer` and leaves them stored.
    pub(super) fn peek<'a>(
        &'a self,
        item: &'a Item,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Peek<'a>, ArenaError> {
        self.arena().peek(self.front(item), buffer)
    }

    /// Reads the head of the block, and leaves it stored if it is.
    pub(super) fn peek_head(&self, item: &Item, buffer: &mut Vec<u8>) -> Result<Head, ArenaError> {
        let front = self.front(item);
        let first = &front[..front.len().min(LONGEST_HEAD)];
        self.arena().peek(first, buffer).map(|bytes| Head::read(&bytes))
    }

    /// Reads a part of the block, as [`peek`](Self::peek) does.
    pub(super) fn peek_part<'a>(
        &'a self,
        item: &'a Item,
        part: Range<usize>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Peek<'a>, ArenaError> {
        if part.is_empty() {
            return Ok(Peek::InMemory(&[]));
        }
        self.arena().peek(&self.bytes(item)[part], buffer)
    }

    /// Whether the whole block is in memory.
    pub(super) fn is_resident(&self, item: &Item) -> bool {
        self.arena().is_resident(self.bytes(item))
    }

    /// The head, if its page is in memory.
    pub(super) fn resident_head(&self, item: &Item) -> Option<Head> {
        let front = self.front(item);
        let first = &front[..front.len().min(LONGEST_HEAD)];
        self.arena().is_resident(first).then(|| Head::read(first))
    }

    /// Restores the stored pages of the block.
    pub(super) fn ensure(&self, item: &Item) {
        // A later read finds lost pages.
        let _ = self.arena().ensure(self.bytes(item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items() -> Items {
        Items::new(&Arena::builder().plain_memory_fallback(true).build().unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_block_holds_its_key_its_value_and_its_expiry(
            sizes in prop::collection::vec((0usize..600, 0usize..20_000, any::<Option<i64>>()), 1..50)
        ) {
            let items = items();
            let mut buffer = Vec::new();
            let bytes = |n: usize, len: usize| vec![n as u8; len];
            let head = |(key, value, expires): &(usize, usize, _)| {
                Head::new(*key, *value, *expires).unwrap()
            };
            let put = |(n, sizes): (usize, &(usize, usize, Option<i64>))| {
                let (key, value) = (bytes(n, sizes.0), bytes(n + 1, sizes.1));
                items.put(Lane::Default, &head(sizes), &key, &value).unwrap()
            };
            let all: Vec<Item> = sizes.iter().enumerate().map(put).collect();
            let _ = items.arena().evict_now();
            for (n, (item, sizes)) in all.iter().zip(&sizes).enumerate() {
                let head = head(sizes);
                prop_assert_eq!(items.peek_head(item, &mut buffer).unwrap(), head);
                prop_assert_eq!(item.is_volatile(), head.expires.is_some());
                let block = items.peek_part(item, 0..items.size(item), &mut buffer).unwrap();
                prop_assert_eq!(&block[head.key()], bytes(n, sizes.0));
                prop_assert_eq!(&block[head.value()], bytes(n + 1, sizes.1));
                prop_assert!(block[head.total()..].iter().all(|byte| *byte == 0));
            }
            all.into_iter().for_each(|item| items.free(item));
            prop_assert!(items.large.lock().is_empty());
            prop_assert_eq!(items.arena().stats().allocated_bytes, 0);
        }
    }

    #[test]
    fn a_small_item_takes_at_most_16_bytes_more_than_its_key_and_value() {
        let items = items();
        let item = items
            .put(Lane::Default, &Head::new(20, 100, None).unwrap(), &[1; 20], &[2; 100])
            .unwrap();
        assert_eq!(items.size(&item), 128);
        items.free(item);
    }

    #[test]
    fn the_size_of_a_block_is_what_it_takes_of_any_reserve() {
        for shift in [32, 36, 37, 40, 44] {
            let arena = Arena::builder().plain_memory_fallback(true).reserve(1 << shift).build();
            let arena = match arena {
                Ok(arena) => arena,
                Err(error) => {
                    eprintln!("SKIPPED: no address space of 2^{shift} bytes: {error}");
                    continue;
                }
            };
            let items = Items::new(&arena);
            let mut all = Vec::new();
            for value in [0, 1, 100, 120, 121, 500, 4000, 8100, 9000, 100_000] {
                let before = arena.stats().allocated_bytes;
                let head = Head::new(3, value, None).unwrap();
                let item = items.put(Lane::Default, &head, b"key", &vec![7; value]).unwrap();
                let taken = (arena.stats().allocated_bytes - before) as usize;
                let size = items.size(&item);
                // The arena rounds large blocks up.
                let most = if item.is_large() { size + size / 8 + 4096 } else { size };
                assert!((size..=most).contains(&taken), "{value} of 2^{shift}: {size}, {taken}");
                assert_eq!(&items.bytes(&item)[head.value()], vec![7; value]);
                all.push(item);
            }
            all.into_iter().for_each(|item| items.free(item));
            assert_eq!(arena.stats().allocated_bytes, 0);
        }
    }
}
