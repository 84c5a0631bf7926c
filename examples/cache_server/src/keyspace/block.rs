//! The bytes of a block: a head, the key and the value.
//!
//! | bytes  |                                                                          |
//! |--------|--------------------------------------------------------------------------|
//! | 4      | when the item was last used, in [ticks](super::heat) since the start      |
//! | 1      | flags: the form, the heat, and which of the following parts there are     |
//! | 1, 2   | the lengths of key and value, if they are so short; else these bytes are 0 |
//! | 4, 4   | the lengths of key and value, if they are *long*                          |
//! | 8      | when the key expires, if there is *room* for it: if it has expired, or the item is not small |
//!
//! Then come the key, the value, and zeros up to the end of the block.

use super::{Form, UnixMs};
use bitflags::bitflags;
use std::ops::Range;

bitflags! {
    #[derive(Clone, Copy)]
    struct Flags: u8 {
        /// The form is [`Form::Text`].
        const TEXT = 1;
        /// The form is [`Form::Edited`].
        const EDITED = 1 << 1;
        const LONG = 1 << 2;
        const ROOM = 1 << 3;
        /// The key expires.
        const VOLATILE = 1 << 4;
    }
}

/// The position of the heat among the flags: the upper bits.
const HEAT_SHIFT: u32 = 6;

/// The most heat that a head can hold.
pub(super) const MOST_HEAT: u8 = 3;

/// The bytes of a head without further parts.
const FIXED: usize = 8;
const LENGTHS: usize = 8;
const EXPIRY: usize = size_of::<UnixMs>();

/// From this length of key and value on there is always room for an expiry, so that a large block need not be
/// copied for it.
const ROOMY: usize = 4096;

/// The most bytes of a head.
pub(super) const LONGEST_HEAD: usize = FIXED + LENGTHS + EXPIRY;

/// What the head of a block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// When the item was last used, in [ticks](super::heat) since the start.
    pub(super) used: u32,
    /// The number of recent uses, at most [`MOST_HEAT`]: see [`heat`](super::heat).
    pub(super) heat: u8,
    pub(super) form: Form,
    pub(super) expires: Option<UnixMs>,
    pub(super) shape: Shape,
}

/// The lengths of the parts of a block, and which parts of the head there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    key: u32,
    value: u32,
    long: bool,
    room: bool,
}

impl Head {
    /// The head of a new block; `None` if a length is 4 GiB or more.
    pub(super) fn new(key: usize, value: usize, expires: Option<UnixMs>) -> Option<Self> {
        let long = u8::try_from(key).is_err() || u16::try_from(value).is_err();
        let room = expires.is_some() || key.saturating_add(value) >= ROOMY;
        let (key, value) = (u32::try_from(key).ok()?, u32::try_from(value).ok()?);
        let shape = Shape { key, value, long, room };
        Some(Self { used: 0, heat: 0, form: Form::Whole, expires, shape })
    }

    /// Reads the head from the first bytes of a block.
    pub(super) fn read(block: &[u8]) -> Self {
        let flags = Flags::from_bits_truncate(block[4]);
        let long = flags.contains(Flags::LONG);
        let number = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("4 bytes"));
        let (key, value) = if long {
            (number(FIXED), number(FIXED + 4))
        } else {
            (block[5].into(), u16::from_le_bytes([block[6], block[7]]).into())
        };
        let expires = flags.contains(Flags::VOLATILE).then(|| {
            let at = if long { FIXED + LENGTHS } else { FIXED };
            UnixMs::from_le_bytes(block[at..at + EXPIRY].try_into().expect("8 bytes"))
        });
        let form = match (flags.contains(Flags::TEXT), flags.contains(Flags::EDITED)) {
            (true, _) => Form::Text,
            (_, true) => Form::Edited,
            _ => Form::Whole,
        };
        let (heat, room) = (block[4] >> HEAT_SHIFT, flags.contains(Flags::ROOM));
        let shape = Shape { key, value, long, room };
        Self { used: number(0), heat, form, expires, shape }
    }

    /// Writes the head to the first bytes of a block.
    pub(super) fn write(&self, block: &mut [u8]) {
        debug_assert!(self.shape.room || self.expires.is_none());
        block[..4].copy_from_slice(&self.used.to_le_bytes());
        let mut flags = Flags::empty();
        flags.set(Flags::TEXT, self.form == Form::Text);
        flags.set(Flags::EDITED, self.form == Form::Edited);
        flags.set(Flags::LONG, self.shape.long);
        flags.set(Flags::ROOM, self.shape.room);
        flags.set(Flags::VOLATILE, self.expires.is_some());
        block[4] = flags.bits() | self.heat.min(MOST_HEAT) << HEAT_SHIFT;
        let short = if self.shape.long { [0; 3] } else { self.short_lengths() };
        block[5..FIXED].copy_from_slice(&short);
        let mut at = FIXED;
        if self.shape.long {
            block[at..at + 4].copy_from_slice(&self.shape.key.to_le_bytes());
            block[at + 4..at + LENGTHS].copy_from_slice(&self.shape.value.to_le_bytes());
            at += LENGTHS;
        }
        if self.shape.room {
            block[at..at + EXPIRY].copy_from_slice(&self.expires.unwrap_or(0).to_le_bytes());
        }
    }

    fn short_lengths(&self) -> [u8; 3] {
        let [value_low, value_high, ..] = self.shape.value.to_le_bytes();
        [self.shape.key.to_le_bytes()[0], value_low, value_high]
    }

    /// The bytes of the head.
    pub(super) fn len(&self) -> usize {
        FIXED + if self.shape.long { LENGTHS } else { 0 } + if self.shape.room { EXPIRY } else { 0 }
    }

    pub(super) fn key_len(&self) -> usize {
        self.shape.key as usize
    }

    pub(super) fn value_len(&self) -> usize {
        self.shape.value as usize
    }

    /// The key's bytes in the block.
    pub(super) fn key(&self) -> Range<usize> {
        self.len()..self.len() + self.key_len()
    }

    /// The value's bytes in the block.
    pub(super) fn value(&self) -> Range<usize> {
        let start = self.key().end;
        start..start + self.value_len()
    }

    /// The bytes of head, key and value.
    pub(super) fn total(&self) -> usize {
        self.value().end
    }

    /// Whether the block has room for an expiry.
    pub(super) fn has_room(&self) -> bool {
        self.shape.room
    }

    /// Whether a block with this head can hold a value of another length without moving the key.
    pub(super) fn can_hold(&self, value: usize) -> bool {
        self.shape.long || u16::try_from(value).is_ok()
    }

    /// This head with another length of the value, which it [can hold](Self::can_hold).
    pub(super) fn with_value_len(self, value: usize) -> Self {
        debug_assert!(self.can_hold(value));
        Self { shape: Shape { value: value as u32, ..self.shape }, ..self }
    }

    pub(super) fn has_expired(&self, now: UnixMs) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written() {
        for (key, value) in
            [(0, 0), (20, 100), (255, 65_535), (256, 1), (1, 65_536), (1 << 20, 1 << 29)]
        {
            for expires in [None, Some(0), Some(-1), Some(UnixMs::MAX)] {
                for (form, heat) in [(Form::Whole, 0), (Form::Text, 3), (Form::Edited, 1)] {
                    let mut head = Head::new(key, value, expires).unwrap();
                    (head.used, head.form, head.heat) = (0x1234_5678, form, heat);
                    let mut block = [0xff; LONGEST_HEAD];
                    head.write(&mut block);
                    assert_eq!(Head::read(&block), head);
                    assert_eq!((head.key().len(), head.value().len()), (key, value));
                    assert_eq!(head.total(), head.len() + key + value);
                }
            }
        }
        assert_eq!(Head::new(1, 1 << 32, None), None);
        assert_eq!(Head::new(20, 100, None).unwrap().total(), 128);
        assert_eq!(Head::new(20, 100, Some(1)).unwrap().total(), 136);
    }

    #[test]
    fn an_expiry_can_be_removed_and_set_again_in_its_room() {
        let mut block = [0; LONGEST_HEAD];
        let mut head = Head::new(3, 4, Some(5)).unwrap();
        assert!(head.has_expired(5) && !head.has_expired(4));
        head.expires = None;
        head.write(&mut block);
        head = Head::read(&block);
        assert!(head.has_room() && head.expires.is_none() && !head.has_expired(UnixMs::MAX));
        head.expires = Some(-7);
        head.write(&mut block);
        assert_eq!(Head::read(&block).expires, Some(-7));
    }
}
