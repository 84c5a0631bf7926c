//! Changes of items, with the sums and the marks that follow from them. The caller has locked the shard.

use super::block::{Head, MOST_HEAT};
use super::heat;
use super::item::{Item, mark};
use super::shard::{Place, Shard, Spot};
use super::{Expiry, Keyspace, OutOfMemory, UnixMs};
use std::sync::atomic::Ordering::Relaxed;
use thermocline::Lane;

/// The bytes of the index for an item, at the usual load of a table.
const SLOT: usize = 10;

/// The bytes in the wheel for a key that expires.
const WHEEL: usize = 8;

impl Keyspace {
    /// The bytes of an item: of its block and in the index.
    pub(super) fn size_of(&self, item: &Item) -> usize {
        self.items.size(item) + SLOT + if item.is_volatile() { WHEEL } else { 0 }
    }

    /// Allocates an item that counts as used now.
    pub(super) fn put(
        &self,
        lane: Lane,
        spot: Spot,
        head: Head,
        key: &[u8],
        value: &[u8],
    ) -> Result<Item, OutOfMemory> {
        let head = Head { used: self.heat.now(), ..head };
        let mut item = self.items.put(lane, &head, key, value)?;
        item.set_tag(spot.item_tag());
        Ok(item)
    }

    /// Inserts the item of a new key.
    pub(super) fn insert(&self, shard: &mut Shard, spot: Spot, mut item: Item, mark: u32) {
        item.set_mark(mark);
        self.count(&item);
        shard.insert(spot.tag(), item);
        self.changed(spot);
    }

    /// Replaces the item of a key by one with the same tag.
    pub(super) fn replace(&self, shard: &mut Shard, place: Place, mut item: Item, mark: u32) {
        item.set_mark(mark);
        self.count(&item);
        let old = shard.replace(place, item);
        self.discard(old);
    }

    /// Takes the item out and frees it.
    pub(super) fn remove(&self, shard: &mut Shard, place: Place, spot: Spot) {
        let item = shard.remove(place);
        self.changed(spot);
        self.discard(item);
    }

    /// Removes an item whose stored copy is damaged. The server continues without it.
    pub(super) fn lose(&self, shard: &mut Shard, place: Place, spot: Spot) {
        shard.events.lost += 1;
        self.remove(shard, place, spot);
    }

    /// Frees an item that was taken out of its shard.
    pub(super) fn discard(&self, item: Item) {
        let size = self.size_of(&item);
        if item.is_hot() {
            self.heat.remove_hot_bytes(self.items.size(&item));
        }
        self.used.fetch_sub(size, Relaxed);
        self.items.free(item);
    }

    fn count(&self, item: &Item) {
        self.pages.record_use(self.items.address(item), self.heat.now());
        if item.is_hot() {
            self.heat.add_hot_bytes(self.items.size(item));
        }
        self.used.fetch_add(self.size_of(item), Relaxed);
    }

    /// Accounts for an item that took `before` bytes and takes `after` bytes.
    pub(super) fn resized(&self, before: usize, after: usize) {
        // Wrapping arithmetic: `after` may be less than `before`.
        self.used.fetch_add(after.wrapping_sub(before), Relaxed);
    }

    /// Records a change of a key for its watchers.
    pub(super) fn changed(&self, spot: Spot) {
        self.watchers.changed(spot);
    }

    /// The mark for a key that expires at a time, if at all. Enters the key in the wheel, unless it is there
    /// already for an earlier time, `before`, with the mark `old`.
    pub(super) fn schedule(
        &self,
        spot: Spot,
        expires: Option<UnixMs>,
        before: Option<UnixMs>,
        old: u32,
        now: UnixMs,
    ) -> u32 {
        match (expires, before) {
            (Some(at), Some(before)) if before <= at => old,
            (Some(at), _) => mark(self.expiries.enter(spot, at, now)),
            (None, _) => 0,
        }
    }

    /// Records a use of an item that was read. `is_copy` says whether it is stored. True if it is hot enough for
    /// the hot lane and there is room in it.
    pub(super) fn record_use(&self, item: &mut Item, head: &Head, is_copy: bool) -> bool {
        let (address, last_use) = (self.items.address(item), self.last_use(item, head));
        let page_use = self.pages.last_use(address);
        self.pages.record_use(address, self.heat.now());
        if is_copy {
            return self.heat.use_of_stored(item, head, page_use);
        }
        let mut after = Head { used: last_use, ..*head };
        let is_hot = self.heat.use_in_memory(&mut after);
        if after != *head {
            after.write(self.items.bytes_mut(item));
        }
        if item.stamp() != 0 {
            item.set_stamp(0);
        }
        is_hot
    }

    /// The heat of an item that is used now.
    pub(super) fn heat_after_use(&self, item: &Item, head: &Head) -> u8 {
        let mut after = Head { used: self.last_use(item, head), ..*head };
        self.heat.use_in_memory(&mut after);
        after.heat
    }

    /// The last use of an item with this head. An item that was read while it was stored has a stamp, and keeps no
    /// exact time: it counts as used when its page was.
    pub(super) fn last_use(&self, item: &Item, head: &Head) -> u32 {
        let page_use = self.pages.last_use(self.items.address(item));
        if item.stamp() != 0 { page_use.max(head.used) } else { head.used }
    }

    /// Ticks since the last use of an item with this head.
    pub(super) fn idle(&self, item: &Item, head: &Head) -> u32 {
        self.heat.since(self.last_use(item, head))
    }

    /// Moves an item to the hot lane. True if there was room. `copy` holds the block of a stored item.
    pub(super) fn promote(&self, item: &mut Item, copy: Option<&[u8]>) -> bool {
        if self.items.size(item) >= heat::OWN_PAGES {
            self.items.ensure(item);
            return false;
        }
        let bytes = copy.unwrap_or_else(|| self.items.bytes(item));
        let head = Head { used: self.heat.now(), heat: MOST_HEAT, ..Head::read(bytes) };
        self.move_to(Lane::Hot, item, &head, copy)
    }

    /// Moves an item to a lane. True if there was room. `copy` holds the block of a stored item, which is not
    /// large.
    pub(super) fn move_to(
        &self,
        lane: Lane,
        item: &mut Item,
        head: &Head,
        copy: Option<&[u8]>,
    ) -> bool {
        let bytes = copy.unwrap_or_else(|| self.items.bytes(item));
        let put = self.items.put(lane, head, &bytes[head.key()], &bytes[head.value()]);
        let Ok(mut new) = put else { return false };
        new.set_tag(item.tag());
        new.set_mark(item.mark());
        let page_use = head.used;
        self.pages.record_use(self.items.address(&new), page_use);
        if new.is_hot() {
            self.heat.add_hot_bytes(self.items.size(&new));
        }
        self.used.fetch_add(self.size_of(&new), Relaxed);
        self.discard(std::mem::replace(item, new));
        true
    }
}

/// When a key expires that has this expiry.
pub(super) fn expires(expiry: Expiry) -> Option<UnixMs> {
    match expiry {
        Expiry::Never => None,
        Expiry::At(at) => Some(at),
    }
}
