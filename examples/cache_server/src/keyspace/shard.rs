//! A part of the keys, under one lock.

use super::entry::Entry;
use super::{Expiry, UnixMs};
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// How keys are hashed, everywhere.
pub(super) type Hasher = hashbrown::DefaultHashBuilder;

/// What has happened to a shard's keys. Added up where somebody asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Keys that were read and there.
    pub hits: u64,
    /// Keys that were read and not there.
    pub misses: u64,
    /// Keys that were removed because their time had passed.
    pub expired: u64,
    /// Keys that were removed because there was no room.
    pub evicted: u64,
    /// Values that moved to the hot lane.
    pub promoted: u64,
    /// Values that moved from the hot lane to the cold one.
    pub demoted: u64,
    /// Values that were read where they are stored.
    pub peeked: u64,
    /// Values whose stored copy was damaged, and which are no more.
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

/// Where an entry is in its shard.
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

    /// Entries with an expiry.
    pub(super) fn volatile(&self) -> usize {
        self.volatile
    }

    /// Where the key's entry is, until something is inserted or removed.
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<Place> {
        self.table.find_bucket_index(hash, |entry| entry.key() == key).map(Place)
    }

    pub(super) fn entry(&self, place: Place) -> &Entry {
        self.table.get_bucket(place.0).expect("an entry's place")
    }

    pub(super) fn entry_mut(&mut self, place: Place) -> &mut Entry {
        self.table.get_bucket_mut(place.0).expect("an entry's place")
    }

    /// The key must not be there yet.
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

    /// Gives the entry another expiry, and says how many bytes it took before and takes now.
    pub(super) fn set_expiry(&mut self, place: Place, expiry: Expiry) -> (usize, usize) {
        let bucket = self.table.get_bucket_entry(place.0).expect("an entry's place");
        let (entry, vacant) = bucket.remove();
        let before = entry.overhead();
        self.volatile -= usize::from(entry.record().is_volatile());
        let entry = entry.with_expiry(expiry);
        self.volatile += usize::from(entry.record().is_volatile());
        let after = entry.overhead();
        vacant.insert(entry);
        (before, after)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.table.iter()
    }

    /// All entries, from the one that `random`, of 2^32, stands for.
    pub(super) fn from(&self, random: usize) -> impl Iterator<Item = &Entry> {
        let buckets = self.table.num_buckets();
        let first = (random * buckets) >> 32;
        let places = (first..buckets).chain(0..first);
        places.filter_map(|n| self.table.get_bucket(n))
    }

    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.table.iter_mut()
    }

    /// Takes out what has expired.
    pub(super) fn take_expired(&mut self, now: UnixMs) -> Vec<Entry> {
        let taken = self.table.extract_if(|entry| entry.has_expired(now));
        let taken: Vec<Entry> = taken.collect();
        self.volatile -= taken.len();
        self.events.expired += taken.len() as u64;
        taken
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Entry> + use<> {
        self.volatile = 0;
        std::mem::take(&mut self.table).into_iter()
    }

    /// Gives back the room for keys that are gone.
    pub(super) fn trim(&mut self, hasher: &Hasher) {
        if self.table.capacity() / 4 > self.table.len() {
            self.table.shrink_to_fit(|entry| hasher.hash_one(entry.key()));
        }
    }
}
