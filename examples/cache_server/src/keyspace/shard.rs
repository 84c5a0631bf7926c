//! A part of the keys, with one lock.

use super::events::Events;
use super::item::{Item, TAG_BITS};
use super::table::Table;
use super::{SHARD_SHIFT, SHARDS};
use std::ops::Range;

/// The hash function of all keys.
pub(super) type Hasher = hashbrown::DefaultHashBuilder;

/// The number of tables that a shard begins with.
const PARTS: usize = 4;

/// What the index knows of a key's hash: the number of its shard and its tag. Few keys have the same spot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Spot(u32);

impl Spot {
    pub(super) const BITS: u32 = SHARDS.ilog2() + Self::TAG_BITS;

    /// Bits of a tag in a shard. An item holds fewer, and its table the rest.
    pub(super) const TAG_BITS: u32 = TAG_BITS + PARTS.ilog2();

    /// The shard's number and the tag are made of different bits of the hash.
    pub(super) fn of_hash(hash: u64) -> Self {
        const { assert!(SHARD_SHIFT + SHARDS.ilog2() + Self::TAG_BITS < u64::BITS) };
        let shard = (hash >> SHARD_SHIFT) as usize % SHARDS;
        Self::new(shard, (hash >> (u64::BITS - Self::TAG_BITS)) as u32)
    }

    pub(super) fn new(shard: usize, tag: u32) -> Self {
        Self((shard as u32) << Self::TAG_BITS | tag)
    }

    /// Its number, below 2 to the power of [`Spot::BITS`].
    pub(super) fn number(self) -> u32 {
        self.0
    }

    pub(super) fn from_number(number: u32) -> Self {
        Self(number)
    }

    pub(super) fn shard(self) -> usize {
        (self.0 >> Self::TAG_BITS) as usize
    }

    pub(super) fn tag(self) -> u32 {
        self.0 & ((1 << Self::TAG_BITS) - 1)
    }

    /// The part of the tag that an item holds.
    pub(super) fn item_tag(self) -> u32 {
        self.0 & ((1 << TAG_BITS) - 1)
    }
}

/// An item's position in its shard, valid until the next insertion or removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    table: usize,
    slot: usize,
}

/// The items of a shard.
#[derive(Debug)]
pub(super) struct Shard {
    /// In the order of their tags, of all which there is a table.
    tables: Vec<Table>,
    len: usize,
    volatile: usize,
    pub(super) events: Events,
}

impl Default for Shard {
    fn default() -> Self {
        Self { tables: empty(), len: 0, volatile: 0, events: Events::default() }
    }
}

fn empty() -> Vec<Table> {
    (0..PARTS as u32).map(Table::new).collect()
}

impl Shard {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The number of items with an expiry.
    pub(super) fn volatile(&self) -> usize {
        self.volatile
    }

    /// The bytes of the tables.
    pub(super) fn bytes(&self) -> usize {
        let tables = self.tables.capacity() * size_of::<Table>();
        tables + self.tables.iter().map(Table::bytes).sum::<usize>()
    }

    fn table_of(&self, tag: u32) -> usize {
        if self.tables.len() == PARTS {
            return (tag >> TAG_BITS) as usize;
        }
        self.tables.partition_point(|table| table.first_tag() <= tag) - 1
    }

    /// The place of the first item with this tag.
    pub(super) fn find(&self, tag: u32) -> Option<Place> {
        let table = self.table_of(tag);
        self.tables[table].find(tag).map(|slot| Place { table, slot })
    }

    /// The place of the next item with the same tag.
    pub(super) fn next(&self, place: Place) -> Option<Place> {
        let next = Place { slot: place.slot + 1, ..place };
        let table = &self.tables[place.table];
        let tag = table.get(place.slot)?.tag();
        (table.get(next.slot)?.tag() == tag).then_some(next)
    }

    /// The place of the next item with a tag after the removal of one from this place: the same place.
    pub(super) fn moved(&self, place: Place, tag: u32) -> Option<Place> {
        let table = &self.tables[place.table];
        let item = table.get(place.slot)?;
        (table.tag_of(item) == tag).then_some(place)
    }

    pub(super) fn item(&self, place: Place) -> &Item {
        self.tables[place.table].get(place.slot).expect("an item's place")
    }

    pub(super) fn item_mut(&mut self, place: Place) -> &mut Item {
        self.tables[place.table].get_mut(place.slot).expect("an item's place")
    }

    /// Sets whether the item's key expires.
    pub(super) fn set_volatile(&mut self, place: Place, volatile: bool) {
        let item = self.item_mut(place);
        let was = item.is_volatile();
        item.set_volatile(volatile);
        self.volatile = self.volatile + usize::from(volatile) - usize::from(was);
    }

    /// Inserts an item, whose key must not exist.
    pub(super) fn insert(&mut self, tag: u32, item: Item) {
        let mut table = self.table_of(tag);
        while self.tables[table].is_full() {
            if let Some(upper) = self.tables[table].grow() {
                self.tables.insert(table + 1, upper);
                table = self.table_of(tag);
            }
        }
        self.len += 1;
        self.volatile += usize::from(item.is_volatile());
        self.tables[table].insert(item);
    }

    /// Replaces the item of a key, and returns the old one.
    pub(super) fn replace(&mut self, place: Place, item: Item) -> Item {
        debug_assert_eq!(self.item(place).tag(), item.tag());
        let volatile = usize::from(item.is_volatile());
        let old = std::mem::replace(self.item_mut(place), item);
        self.volatile = self.volatile + volatile - usize::from(old.is_volatile());
        old
    }

    pub(super) fn remove(&mut self, place: Place) -> Item {
        let item = self.tables[place.table].remove(place.slot).expect("an item's place");
        self.len -= 1;
        self.volatile -= usize::from(item.is_volatile());
        item
    }

    pub(super) fn items(&self) -> impl Iterator<Item = &Item> {
        self.items_from(0).map(|(_, item)| item)
    }

    /// The items with their tags, in the order of the tags, from this tag on.
    pub(super) fn items_from(&self, tag: u32) -> impl Iterator<Item = (u32, &Item)> {
        self.tables[self.table_of(tag)..].iter().flat_map(move |table| table.from(tag))
    }

    pub(super) fn items_mut(&mut self) -> impl Iterator<Item = &mut Item> {
        self.tables.iter_mut().flat_map(Table::items_mut)
    }

    /// All items, beginning at the one that `random`, of 2^32, selects.
    pub(super) fn from(&self, random: usize) -> impl Iterator<Item = &Item> {
        let all: usize = self.tables.iter().map(Table::slots).sum();
        let mut slot = (random * all) >> 32;
        let mut first = 0;
        while slot >= self.tables[first].slots().max(1) {
            slot -= self.tables[first].slots();
            first += 1;
        }
        let tables = &self.tables;
        let slots = move |table: usize, range: Range<usize>| {
            range.filter_map(move |slot| tables[table].get(slot))
        };
        let others = (first + 1..tables.len()).chain(0..first);
        slots(first, slot..tables[first].slots())
            .chain(others.flat_map(move |table| slots(table, 0..tables[table].slots())))
            .chain(slots(first, 0..slot))
    }

    /// Takes out the items that are selected, and calls `taken` with the tag of each.
    pub(super) fn take_where(
        &mut self,
        selected: impl Fn(&Item) -> bool,
        mut taken: impl FnMut(u32),
    ) -> Vec<Item> {
        let mut items = Vec::new();
        for table in 0..self.tables.len() {
            let mut place = Place { table, slot: 0 };
            while place.slot < self.tables[table].slots() {
                match self.tables[table].get(place.slot) {
                    Some(item) if selected(item) => {
                        taken(self.tables[table].tag_of(item));
                        // This moves the next item to the same slot.
                        items.push(self.remove(place));
                    }
                    _ => place.slot += 1,
                }
            }
        }
        items
    }

    /// Takes out all items.
    pub(super) fn take_all(&mut self) -> Vec<Item> {
        (self.len, self.volatile) = (0, 0);
        let mut tables = std::mem::replace(&mut self.tables, empty());
        tables.iter_mut().flat_map(Table::take_all).collect()
    }

    /// Frees the room of removed items.
    pub(super) fn trim(&mut self) {
        self.tables.iter_mut().for_each(Table::trim);
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        self.tables.iter().for_each(Table::check);
        let tags = |table: &Table| table.first_tag();
        assert!(self.tables.is_sorted_by_key(tags) && self.tables[0].first_tag() == 0);
        assert_eq!(self.items().count(), self.len);
        assert_eq!(self.items().filter(|item| item.is_volatile()).count(), self.volatile);
    }
}

#[cfg(test)]
mod tests;
