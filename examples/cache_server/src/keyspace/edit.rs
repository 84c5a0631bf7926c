//! Commands that change an item and keep most of its bytes.

use super::block::Head;
use super::changes::expires;
use super::find::Found;
use super::item::Item;
use super::keys::{Keys, Lookup};
use super::shard::{Place, Shard, Spot};
use super::{Expiry, Form, Keyspace, NewExpiry, OutOfMemory};
use std::ops::Range;
use thermocline::Lane;

/// A part of a value, and its new bytes.
struct Edit<'a> {
    offset: usize,
    bytes: &'a [u8],
}

impl Edit<'_> {
    fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.bytes.len()
    }
}

impl Keys<'_> {
    /// Appends to a value, which becomes [`Form::Edited`], or sets the value of a missing key as a
    /// whole. Returns the new length.
    pub fn append(&mut self, key: &[u8], more: &[u8]) -> Result<usize, OutOfMemory> {
        self.write(key, None, more)
    }

    /// Overwrites a part of a value. A missing key has an empty value, and a short value is extended with
    /// zeros. The form becomes [`Form::Edited`]. Returns the new length.
    pub fn overwrite(
        &mut self,
        key: &[u8],
        offset: usize,
        bytes: &[u8],
    ) -> Result<usize, OutOfMemory> {
        self.write(key, Some(offset), bytes)
    }

    /// Writes at an offset, or at the end of the value.
    fn write(
        &mut self,
        key: &[u8],
        offset: Option<usize>,
        bytes: &[u8],
    ) -> Result<usize, OutOfMemory> {
        let space = self.space;
        let Lookup { shard, spot, found, buffer } = self.find(key);
        if found.is_none() && offset.is_none() {
            self.set(key, bytes, NewExpiry::Keep)?;
            return Ok(bytes.len());
        }
        let at = offset.unwrap_or_else(|| found.map_or(0, |found| found.head.value_len()));
        let end = at.checked_add(bytes.len()).ok_or(OutOfMemory)?;
        let edit = Edit { offset: at, bytes };
        let Some(found) = found else {
            let head = Head::new(key.len(), end, None).ok_or(OutOfMemory)?;
            let item = space.build(Lane::Default, spot, head, key, &[], &edit)?;
            space.insert(shard, spot, item, 0);
            return Ok(end);
        };
        let heat = space.heat_after_use(shard.item(found.place), &found.head);
        space.record_use(shard.item_mut(found.place), &found.head, found.is_copy);
        let len = end.max(found.head.value_len());
        if space.edit_in_place(shard, &found, len, &edit) {
            space.changed(spot);
            return Ok(len);
        }
        let Ok(value) = space.load(shard, &found, buffer) else {
            space.lose(shard, found.place, spot);
            return self.write(key, offset, bytes);
        };
        let old = shard.item(found.place);
        let (mark, lane) = (old.mark(), if old.is_hot() { Lane::Hot } else { Lane::Default });
        let head = Head::new(key.len(), len, found.head.expires).ok_or(OutOfMemory)?;
        let head = Head { heat, ..head };
        let value = space.value(shard, found.place, value, buffer);
        let item = space.build(lane, spot, head, key, value, &edit)?;
        space.replace(shard, found.place, item, mark);
        space.changed(spot);
        Ok(len)
    }

    /// Sets an expiry. True if the key exists. An expiry in the past removes the key. If there is no room, the
    /// old expiry stays.
    pub fn set_expiry(&mut self, key: &[u8], expiry: Expiry) -> Result<bool, OutOfMemory> {
        let (space, now) = (self.space, self.now);
        let Lookup { shard, spot, found: Some(found), buffer } = self.find(key) else {
            return Ok(false);
        };
        let Found { place, head, is_copy } = found;
        let (expires, before) = (expires(expiry), head.expires);
        if expires == before {
            if expires.is_some() {
                space.changed(spot);
            }
            return Ok(true);
        }
        if expires.is_some_and(|at| at <= now) {
            shard.events.expired += 1;
            space.remove(shard, place, spot);
            return Ok(true);
        }
        let item = shard.item(place);
        let mark = item.mark();
        let may_touch = !is_copy || item.is_large();
        if may_touch && (expires.is_none() || head.has_room()) {
            let head = Head { expires, ..head };
            head.write(space.items.bytes_mut(shard.item_mut(place)));
            let mark = space.schedule(spot, expires, before, mark, now);
            space.mark(shard, place, expires.is_some(), mark);
        } else {
            // Large blocks have room, so the buffer or the memory has the whole block.
            let lane = if item.is_hot() { Lane::Hot } else { Lane::Default };
            let new = Head::new(key.len(), head.value_len(), expires).ok_or(OutOfMemory)?;
            let new = Head { heat: head.heat, form: head.form, ..new };
            let block = if is_copy { buffer.as_slice() } else { space.items.bytes(item) };
            let item = space.put(lane, spot, new, key, &block[head.value()])?;
            let mark = space.schedule(spot, expires, before, mark, now);
            space.replace(shard, place, item, mark);
        }
        space.changed(spot);
        Ok(true)
    }
}

impl Keyspace {
    /// Changes a value where it lies. False if the block is too small, or sleeps and is not large.
    fn edit_in_place(&self, shard: &mut Shard, found: &Found, len: usize, edit: &Edit<'_>) -> bool {
        let item = shard.item_mut(found.place);
        if found.is_copy && !item.is_large() || !found.head.can_hold(len) {
            return false;
        }
        // `record_use` may have changed it.
        let head = Head::read(self.items.bytes(item)).with_value_len(len);
        if head.total() > self.items.size(item) {
            return false;
        }
        let block = self.items.bytes_mut(item);
        // The bytes behind the old value are zeros.
        Head { form: Form::Edited, ..head }.write(block);
        block[head.value()][edit.range()].copy_from_slice(edit.bytes);
        true
    }

    /// Allocates an edited item, which can grow: its block's size is a power of two.
    fn build(
        &self,
        lane: Lane,
        spot: Spot,
        head: Head,
        key: &[u8],
        old: &[u8],
        edit: &Edit<'_>,
    ) -> Result<Item, OutOfMemory> {
        let head = Head { used: self.heat.now(), form: Form::Edited, ..head };
        let mut item = self.items.put_zeros(lane, head.total().next_power_of_two())?;
        let block = self.items.bytes_mut(&mut item);
        head.write(block);
        block[head.key()].copy_from_slice(key);
        let value = &mut block[head.value()];
        value[..old.len()].copy_from_slice(old);
        value[edit.range()].copy_from_slice(edit.bytes);
        item.set_volatile(head.expires.is_some());
        item.set_tag(spot.item_tag());
        Ok(item)
    }

    /// Sets whether the key of an item expires, and its mark.
    fn mark(&self, shard: &mut Shard, place: Place, volatile: bool, mark: u32) {
        let before = self.size_of(shard.item(place));
        shard.set_volatile(place, volatile);
        let item = shard.item_mut(place);
        item.set_mark(mark);
        let after = self.size_of(item);
        self.resized(before, after);
    }
}
