//! A hash table of items, in the order of their tags.
//!
//! Linear probing: an item lies in its *home* or in a later slot, and no slot between is empty. Homes are in the
//! order of tags, and so are items (ordered hash tables: Amble and Knuth 1974). Hence the table is resized
//! in one pass that copies words in order, without the keys and their hashes, and a walk from any tag on needs
//! no other state than the tag. A search for a key that is not there ends at the first greater tag.
//!
//! A table grows by a quarter, so between 70 and 88 percent of its slots are in use. It has at most
//! [`MOST_HOMES`] slots, some ten microseconds of copying; then it splits into two tables, each with half of the
//! tags.
//!
//! The tag that an item holds is the lower part of a tag in the shard. The upper part is the same for all items of a
//! table.

use super::item::{Item, TAG_BITS};

/// The most slots of a table that are homes, unless it has few tags.
pub(super) const MOST_HOMES: usize = 8192;

/// A table with fewer bits of tags does not split.
const LEAST_BITS: u32 = 4;

/// The fewest homes by which a table grows.
const STEP: usize = 8;

/// The number of slots behind the last home that a table has or gets at a time.
const SPARE: usize = 8;

#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Option<Item>>,
    homes: usize,
    len: usize,
    /// The first tag, and the number of tags as a power of two.
    first: u32,
    bits: u32,
}

/// The part of a shard's tag that an item holds.
fn lower(tag: u32) -> u32 {
    tag & ((1 << TAG_BITS) - 1)
}

impl Table {
    /// An empty table for all tags with this upper part.
    pub(super) fn new(upper: u32) -> Self {
        let first = upper << TAG_BITS;
        Self { slots: Vec::new(), homes: 0, len: 0, first, bits: TAG_BITS }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn first_tag(&self) -> u32 {
        self.first
    }

    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The bytes of the slots.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Option<Item>>()
    }

    /// The home of a tag that an item holds.
    fn home(&self, lower_tag: u32) -> usize {
        let number = lower_tag - lower(self.first);
        ((u64::from(number) * self.homes as u64) >> self.bits) as usize
    }

    pub(super) fn get(&self, slot: usize) -> Option<&Item> {
        self.slots.get(slot)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Item> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// The slot of the first item with this tag. Other items with the tag are in the next slots.
    pub(super) fn find(&self, tag: u32) -> Option<usize> {
        let tag = lower(tag);
        let mut slot = self.home(tag);
        loop {
            let other = self.get(slot)?.tag();
            if other >= tag {
                return (other == tag).then_some(slot);
            }
            slot += 1;
        }
    }

    /// An item's tag in the shard.
    pub(super) fn tag_of(&self, item: &Item) -> u32 {
        self.first - lower(self.first) + item.tag()
    }

    /// The items with their tags in the shard, in the order of the tags, from this tag on.
    pub(super) fn from(&self, tag: u32) -> impl Iterator<Item = (u32, &Item)> {
        let start = self.home(lower(tag.max(self.first))).min(self.slots.len());
        let items = self.slots[start..].iter().flatten();
        items.map(|item| (self.tag_of(item), item)).filter(move |(of, _)| *of >= tag)
    }

    pub(super) fn items_mut(&mut self) -> impl Iterator<Item = &mut Item> {
        self.slots.iter_mut().flatten()
    }

    /// Whether another item would fill the table too much: it must grow before.
    pub(super) fn is_full(&self) -> bool {
        self.len >= self.homes / 8 * 7 + self.homes % 8
    }

    /// Makes room. Returns a second table for the upper half of the tags if this one splits.
    pub(super) fn grow(&mut self) -> Option<Self> {
        let homes = self.homes + (self.homes / 4).max(STEP);
        if homes > MOST_HOMES && self.bits >= LEAST_BITS {
            return Some(self.split());
        }
        self.resize(homes);
        None
    }

    /// Moves all items to new slots.
    fn resize(&mut self, homes: usize) {
        let old = std::mem::take(&mut self.slots);
        self.homes = homes;
        self.slots.reserve_exact(homes + SPARE);
        old.into_iter().flatten().for_each(|item| self.push(item));
        self.fill_up();
    }

    /// Appends an item, whose tag is the greatest.
    fn push(&mut self, item: Item) {
        let home = self.home(item.tag());
        if home > self.slots.len() {
            self.slots.resize_with(home, || None);
        }
        self.slots.push(Some(item));
    }

    /// Adds the empty slots at the end.
    fn fill_up(&mut self) {
        let slots = self.slots.len().max(self.homes) + SPARE;
        self.slots.reserve_exact(slots - self.slots.len());
        self.slots.resize_with(slots, || None);
    }

    fn split(&mut self) -> Self {
        let old = std::mem::take(&mut self.slots);
        self.bits -= 1;
        let middle = self.first + (1 << self.bits);
        let is_upper = |item: &&Item| item.tag() >= lower(middle);
        let upper_len = old.iter().flatten().filter(is_upper).count();
        let part = |first, len| {
            let homes = homes_for(len);
            Self { slots: Vec::with_capacity(homes + SPARE), homes, len, first, bits: self.bits }
        };
        let (mut below, mut upper) =
            (part(self.first, self.len - upper_len), part(middle, upper_len));
        for item in old.into_iter().flatten() {
            if is_upper(&&item) { upper.push(item) } else { below.push(item) }
        }
        below.fill_up();
        upper.fill_up();
        *self = below;
        upper
    }

    /// Inserts an item and returns its slot. The table is not [full](Self::is_full).
    pub(super) fn insert(&mut self, item: Item) -> usize {
        let mut slot = self.home(item.tag());
        while self.get(slot).is_some_and(|other| other.tag() <= item.tag()) {
            slot += 1;
        }
        let run = self.slots[slot..].iter().position(Option::is_none);
        let run = run.unwrap_or_else(|| {
            // Very many items have about the same tags.
            let end = self.slots.len();
            self.slots.reserve_exact(end / 8 + SPARE);
            self.slots.resize_with(end + SPARE, || None);
            end - slot
        });
        self.slots[slot..=slot + run].rotate_right(1);
        self.slots[slot] = Some(item);
        self.len += 1;
        slot
    }

    /// Takes the item out of a slot, and moves the items behind it forward that are not in their homes.
    pub(super) fn remove(&mut self, slot: usize) -> Option<Item> {
        let item = self.slots.get_mut(slot)?.take()?;
        let mut last = slot;
        while let Some(next) = self.get(last + 1)
            && self.home(next.tag()) <= last
        {
            last += 1;
        }
        self.slots[slot..=last].rotate_left(1);
        self.len -= 1;
        Some(item)
    }

    /// Takes out all items.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Item> + use<> {
        let old = std::mem::take(&mut self.slots);
        (self.homes, self.len) = (0, 0);
        old.into_iter().flatten()
    }

    /// Frees the slots of removed items, if they are more than half of all.
    pub(super) fn trim(&mut self) {
        let homes = homes_for(self.len);
        if homes < self.homes / 2 {
            self.resize(homes);
        }
    }

    /// Panics if an item is out of order, or cannot be found from its home.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let first = lower(self.first);
        let mut last = first;
        for (slot, item) in self.slots.iter().enumerate() {
            let Some(item) = item else { continue };
            let tag = item.tag();
            assert!(tag >= last && tag - first < 1 << self.bits, "{tag} after {last}");
            assert!((self.home(tag)..slot).all(|before| self.slots[before].is_some()), "{tag}");
            assert!(self.home(tag) <= slot);
            last = tag;
        }
        assert_eq!(self.slots.iter().flatten().count(), self.len);
    }
}

/// The homes of a table that has just grown to this number of items.
fn homes_for(len: usize) -> usize {
    if len == 0 { 0 } else { len + len / 7 * 3 + STEP }
}
