//! Items: what the index keeps for each key, 8 bytes.
//!
//! | bits  | field    |                                                                            |
//! |-------|----------|----------------------------------------------------------------------------|
//! | 0-31  | place    | where the block begins, in units of 16 bytes or more from the arena's start |
//! | 32-37 | class    | the size of the block                                                      |
//! | 38    | hot      | whether the block counts as a block of the hot lane                        |
//! | 39    | volatile | whether the key expires                                                    |
//! | 40-41 | stamp    | when the item was last used while it was stored: see [`heat`](super::heat) |
//! | 42-44 | mark     | the slot in which the server visits the key: see [`expiries`](super::expiries) |
//! | 45-63 | tag      | bits of the key's hash                                                     |

use std::num::NonZeroU64;

/// Bits of a tag.
pub(super) const TAG_BITS: u32 = 19;

/// The distance of blocks, unless the arena is larger than 64 GiB.
pub(super) const UNIT: usize = 16;

/// A part of an item's bits.
#[derive(Clone, Copy)]
struct Field {
    shift: u32,
    bits: u32,
}

const PLACE: Field = Field { shift: 0, bits: 32 };
const CLASS: Field = PLACE.next(6);
const HOT: Field = CLASS.next(1);
const VOLATILE: Field = HOT.next(1);
const STAMP: Field = VOLATILE.next(2);
const MARK: Field = STAMP.next(3);
const TAG: Field = MARK.next(TAG_BITS);
const _: () = assert!(TAG.shift + TAG.bits == u64::BITS);

impl Field {
    const fn next(self, bits: u32) -> Self {
        Self { shift: self.shift + self.bits, bits }
    }

    const fn mask(self) -> u64 {
        (1 << self.bits) - 1
    }

    fn get(self, word: u64) -> u32 {
        (word >> self.shift & self.mask()) as u32
    }

    fn set(self, word: u64, value: u32) -> u64 {
        debug_assert!(u64::from(value) <= self.mask(), "{value} has more than {} bits", self.bits);
        word & !(self.mask() << self.shift) | u64::from(value) << self.shift
    }
}

/// The size of a block: like the arena's size classes, eight to each power of two, but multiples of 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class(u32);

impl Class {
    /// A block with more than [`Class::LARGEST`] bytes. Its size is kept elsewhere.
    pub(super) const LARGE: Self = Self(63);

    /// The most bytes of another class.
    pub(super) const LARGEST: usize = 8192;

    /// The smallest class for this number of bytes.
    pub(super) fn of(bytes: usize) -> Self {
        let last = bytes.max(1) - 1;
        let number = match last {
            0..128 => last / 16 + 1,
            128..Self::LARGEST => {
                let shift = last.ilog2() - 3;
                shift as usize * 8 - 31 + (last >> shift)
            }
            _ => return Self::LARGE,
        };
        Self(number as u32)
    }

    /// The bytes of a block; `None` for a large one.
    pub(super) fn bytes(self) -> Option<usize> {
        let number = self.0 as usize;
        match number {
            0..=8 => Some(number * 16),
            9..63 => Some(((number - 1) % 8 + 9) << ((number - 1) / 8 + 3)),
            _ => None,
        }
    }
}

/// A key with its value: the place of their block, and a tag of the key. It owns the block:
/// [`Items::free`](super::items::Items::free) must take it back, and dropping it leaks the block.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Item(NonZeroU64);

impl Item {
    /// An item whose other fields are zero. No class is zero.
    pub(super) fn new(place: u32, class: Class) -> Self {
        Self(NonZeroU64::new(CLASS.set(place.into(), class.0)).expect("a class"))
    }

    fn get(&self, field: Field) -> u32 {
        field.get(self.0.get())
    }

    fn set(&mut self, field: Field, value: u32) {
        debug_assert!(field.shift > CLASS.shift);
        // The class stays, and is not zero.
        self.0 = NonZeroU64::new(field.set(self.0.get(), value)).expect("a class");
    }

    pub(super) fn place(&self) -> u32 {
        self.get(PLACE)
    }

    pub(super) fn class(&self) -> Class {
        Class(self.get(CLASS))
    }

    pub(super) fn is_large(&self) -> bool {
        self.class() == Class::LARGE
    }

    pub(super) fn is_hot(&self) -> bool {
        self.get(HOT) != 0
    }

    pub(super) fn set_hot(&mut self, hot: bool) {
        self.set(HOT, hot.into());
    }

    pub(super) fn is_volatile(&self) -> bool {
        self.get(VOLATILE) != 0
    }

    pub(super) fn set_volatile(&mut self, volatile: bool) {
        self.set(VOLATILE, volatile.into());
    }

    pub(super) fn stamp(&self) -> u32 {
        self.get(STAMP)
    }

    pub(super) fn set_stamp(&mut self, stamp: u32) {
        self.set(STAMP, stamp);
    }

    pub(super) fn mark(&self) -> u32 {
        self.get(MARK)
    }

    pub(super) fn set_mark(&mut self, mark: u32) {
        self.set(MARK, mark);
    }

    pub(super) fn tag(&self) -> u32 {
        self.get(TAG)
    }

    pub(super) fn set_tag(&mut self, tag: u32) {
        self.set(TAG, tag);
    }
}

/// The mark for a slot's number: its lower bits.
pub(super) fn mark(slot: u64) -> u32 {
    (slot & MARK.mask()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_the_smallest_with_enough_bytes_and_wastes_less_than_an_eighth() {
        for bytes in 0..=Class::LARGEST {
            let class = Class::of(bytes);
            let size = class.bytes().unwrap();
            assert!(size >= bytes && size.is_multiple_of(UNIT), "{bytes}: {size}");
            assert!(size <= (bytes + bytes / 8).max(bytes + 16), "{bytes}: {size}");
            assert_eq!(Class::of(size), class, "{bytes}");
            assert!(class.0 > 0 && class.0 < Class::LARGE.0, "{bytes}");
        }
        assert_eq!(Class::of(Class::LARGEST + 1), Class::LARGE);
        assert_eq!(Class::LARGE.bytes(), None);
    }

    #[test]
    fn fields_do_not_disturb_each_other() {
        let mut item = Item::new(u32::MAX, Class::of(1));
        item.set_hot(true);
        item.set_volatile(true);
        item.set_stamp(3);
        item.set_mark(mark(u64::MAX));
        item.set_tag((1 << TAG_BITS) - 1);
        let fields = |item: &Item| {
            let flags = (item.is_hot(), item.is_volatile());
            (item.place(), item.class().0, flags, item.stamp(), item.mark(), item.tag())
        };
        assert_eq!(fields(&item), (u32::MAX, 1, (true, true), 3, 7, (1 << TAG_BITS) - 1));
        item.set_hot(false);
        item.set_stamp(0);
        assert_eq!(fields(&item), (u32::MAX, 1, (false, true), 0, 7, (1 << TAG_BITS) - 1));
        item.set_volatile(false);
        item.set_mark(mark(8));
        item.set_tag(0);
        assert_eq!(fields(&item), (u32::MAX, 1, (false, false), 0, 0, 0));
    }
}
