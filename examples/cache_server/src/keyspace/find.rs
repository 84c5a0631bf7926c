//! Finds the item of a key.

use super::block::Head;
use super::shard::{Place, Shard, Spot};
use super::{Keyspace, UnixMs};
use std::ops::Range;
use thermocline::{ArenaError, Peek};

/// The item of a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) head: Head,
    /// Whether the block is stored. Unless it is large, the look-up's buffer holds its bytes.
    pub(super) is_copy: bool,
}

/// Where the bytes of a value are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// In the look-up's buffer.
    InBuffer(Range<usize>),
    /// In the block.
    InMemory(Range<usize>),
}

impl Keyspace {
    /// Finds the item of a key, if it exists and has not expired. Removes it if it has. Decompresses
    /// stored blocks into `buffer`.
    pub(super) fn find(
        &self,
        shard: &mut Shard,
        spot: Spot,
        key: &[u8],
        now: UnixMs,
        buffer: &mut Vec<u8>,
    ) -> Option<Found> {
        let mut next = shard.find(spot.tag());
        while let Some(place) = next {
            match self.compare(shard, place, key, buffer) {
                Ok(Some(found)) if found.head.has_expired(now) => {
                    self.remove(shard, place, spot);
                    shard.events.expired += 1;
                    return None;
                }
                Ok(Some(found)) => return Some(found),
                Ok(None) => next = shard.next(place),
                Err(_) => {
                    self.lose(shard, place, spot);
                    next = shard.find(spot.tag());
                }
            }
        }
        None
    }

    /// The item in this place, if it is the key's.
    fn compare(
        &self,
        shard: &Shard,
        place: Place,
        key: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Found>, ArenaError> {
        let item = shard.item(place);
        let front = self.items.peek(item, buffer)?;
        let head = Head::read(&front);
        let is_copy = matches!(front, Peek::Copied(_));
        let is_it = match front.get(head.key()) {
            _ if head.key_len() != key.len() => false,
            Some(bytes) => bytes == key,
            // A long key of a large block.
            None => *self.items.peek_part(item, head.key(), buffer)? == *key,
        };
        Ok(is_it.then_some(Found { place, head, is_copy }))
    }

    /// Reads the value of an item that [`find`](Self::find) has found, with the same buffer.
    pub(super) fn load(
        &self,
        shard: &Shard,
        found: &Found,
        buffer: &mut Vec<u8>,
    ) -> Result<Value, ArenaError> {
        let item = shard.item(found.place);
        let part = found.head.value();
        if !item.is_large() {
            return Ok(if found.is_copy { Value::InBuffer(part) } else { Value::InMemory(part) });
        }
        let len = part.len();
        match self.items.peek_part(item, part.clone(), buffer)? {
            Peek::Copied(_) => Ok(Value::InBuffer(0..len)),
            Peek::InMemory(_) => Ok(Value::InMemory(part)),
        }
    }

    /// The bytes of a value, which was loaded into this buffer.
    pub(super) fn value<'a>(
        &'a self,
        shard: &'a Shard,
        place: Place,
        value: Value,
        buffer: &'a [u8],
    ) -> &'a [u8] {
        match value {
            Value::InBuffer(part) => &buffer[part],
            Value::InMemory(part) => &self.items.bytes(shard.item(place))[part],
        }
    }
}
