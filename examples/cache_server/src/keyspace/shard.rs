//! A part of the keys, with one lock.

use super::entry::{Deadline, Entry};
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// The hash function of all keys.
pub(super) type Hasher = hashbrown::DefaultHashBuilder;

/// Counts of events on a shard's keys. Queries add up all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Reads of existing keys.
    pub hits: u64,
    /// Reads of missing keys.
    pub misses: u64,
    /// Keys that were removed after their expiry.
    pub expired: u64,
    /// Keys that were removed because memory was full.
    pub evicted: u64,
    /// Values that moved to the hot lane.
    pub promoted: u64,
    /// Values that moved from the hot lane to the cold one.
    pub demoted: u64,
    /// Values that were read without restoring their pages.
    pub peeked: u64,
    /// Values that were removed because their stored copy was damaged.
    pub lost: u64,
}

impl std::ops::AddAssign for Events {
    fn add_assign(&mut self, other: Self) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.expired += other.expired;
        self.evicted += other.evicted;
        self.promoted += other.promoted;
        self.demoted += other.demoted;
        self.peeked += other.peeked;
        self.lost += other.lost;
    }
}

/// An entry's position in its shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(usize);

/// A hash table of entries.
#[derive(Debug, Default)]
pub(super) struct Shard {
    table: HashTable<Entry>,
    volatile: usize,
    pub(super) events: Events,
}

impl Shard {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// The number of entries with an expiry.
    pub(super) fn volatile(&self) -> usize {
        self.volatile
    }

    /// The place of the key's entry, valid until the next insertion or removal.
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<Place> {
        self.table.find_bucket_index(hash, |entry| entry.key() == key).map(Place)
    }

    /// The place of an entry that this accepts, among those whose hash is about this one.
    pub(super) fn find_where(&self, hash: u64, is_it: impl Fn(&Entry) -> bool) -> Option<Place> {
        self.table.find_bucket_index(hash, is_it).map(Place)
    }

    pub(super) fn entry(&self, place: Place) -> &Entry {
        self.table.get_bucket(place.0).expect("an entry's place")
    }

    pub(super) fn entry_mut(&mut self, place: Place) -> &mut Entry {
        self.table.get_bucket_mut(place.0).expect("an entry's place")
    }

    /// The key must not exist.
    pub(super) fn insert(&mut self, hasher: &Hasher, hash: u64, entry: Entry) {
        self.volatile += usize::from(entry.record().is_volatile());
        self.table.insert_unique(hash, entry, |entry| hasher.hash_one(entry.key()));
    }

    pub(super) fn remove(&mut self, place: Place) -> Entry {
        let found = self.table.get_bucket_entry(place.0).expect("an entry's place");
        let (entry, _) = found.remove();
        self.volatile -= usize::from(entry.record().is_volatile());
        entry
    }

    /// Sets the entry's deadline, and returns its bytes before and after.
    pub(super) fn set_deadline(
        &mut self,
        place: Place,
        deadline: Option<Deadline>,
    ) -> (usize, usize) {
        let bucket = self.table.get_bucket_entry(place.0).expect("an entry's place");
        let (entry, vacant) = bucket.remove();
        let before = entry.overhead();
        self.volatile -= usize::from(entry.record().is_volatile());
        let entry = entry.with_deadline(deadline);
        self.volatile += usize::from(entry.record().is_volatile());
        let after = entry.overhead();
        vacant.insert(entry);
        (before, after)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.table.iter()
    }

    /// All entries, beginning at the one that `random`, of 2^32, selects.
    pub(super) fn from(&self, random: usize) -> impl Iterator<Item = &Entry> {
        let buckets = self.table.num_buckets();
        let first = (random * buckets) >> 32;
        let places = (first..buckets).chain(0..first);
        places.filter_map(|n| self.table.get_bucket(n))
    }

    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.table.iter_mut()
    }

    /// Takes out the entries that are selected.
    pub(super) fn take_where(&mut self, selected: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let taken: Vec<Entry> = self.table.extract_if(|entry| selected(entry)).collect();
        self.volatile -= taken.iter().filter(|entry| entry.record().is_volatile()).count();
        taken
    }

    /// Takes out all entries.
    pub(super) fn take_all(&mut self) -> Vec<Entry> {
        self.volatile = 0;
        std::mem::take(&mut self.table).into_iter().collect()
    }

    /// Frees the room of removed keys.
    pub(super) fn trim(&mut self, hasher: &Hasher) {
        if self.table.capacity() / 4 > self.table.len() {
            self.table.shrink_to_fit(|entry| hasher.hash_one(entry.key()));
        }
    }
}
