//! The keys and their values.
//!
//! The index lies outside the arena, in shards with one lock each; values lie in the arena. A command
//! locks the shards of all its keys at once and in order, so that it is atomic as in Redis, and works
//! on the [`Keys`]. Expired values are never visible.
//!
//! [`heat`] sorts values by use, [`pressure`] keeps the arena within its limit, [`evict`] chooses keys to
//! evict, [`expiries`] finds expired keys, [`scan`] walks through all keys, and [`tend`](Keyspace::tend) does the maintenance, ten times
//! a second.

mod entry;
mod evict;
mod expiries;
mod heat;
mod keys;
mod pages;
mod pressure;
mod room;
mod scan;
mod shard;
mod tend;
mod values;
mod watch;

pub use keys::Keys;
#[cfg(test)]
pub use pressure::MAX_TRIES;
pub use pressure::{Pressure, Room};
pub use room::Policy;
pub use shard::Events;
pub use watch::Watched;

use entry::{Deadline, Entry, Record};
use expiries::Expiries;
use heat::Heat;
use pages::Pages;
use parking_lot::Mutex;
use shard::{Hasher, Place, Shard};
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tend::Tending;
use thermocline::{Arena, ArenaError, Lane};
use values::{Value, Values};

/// Milliseconds since the epoch.
pub type UnixMs = i64;

/// No room: the arena or `maxmemory` is full, and no key can be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

/// Whether and when a key expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    Never,
    At(UnixMs),
}

/// What a new value does to its key's expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewExpiry {
    Keep,
    Set(Expiry),
}

/// How a client wrote a value, as far as `OBJECT ENCODING` needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Set as a whole.
    Whole,
    /// Set as a whole by `INCRBYFLOAT`: never an integer, even if it looks like one.
    Text,
    /// Modified in place, whether or not it grew.
    Edited,
}

/// Facts about a value that do not need its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    pub expiry: Expiry,
    pub len: usize,
    pub form: Form,
    /// Since the last read or write.
    pub idle_seconds: u64,
    /// Of key, value and record.
    pub memory_bytes: usize,
}

/// The options of a keyspace.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The most bytes of keys and values, uncompressed, if there is a limit.
    pub maxmemory: Option<usize>,
    pub policy: Policy,
    /// The most bytes of the whole process, with compressed values, if there is a limit.
    pub memory_limit: Option<usize>,
    /// The cold age: how long a value is idle before it counts as cold.
    pub cold_after: Duration,
    /// Whether values move between lanes by use.
    pub moves: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            maxmemory: None,
            policy: Policy::default(),
            memory_limit: None,
            cold_after: Duration::from_secs(60),
            moves: true,
        }
    }
}

/// The number of shards: so many that threads rarely wait for each other, and few enough for a quick walk
/// through all of them.
const SHARDS: usize = 1024;

/// The position of the shard's number in a hash: neither the bits that select a bucket of a table, nor
/// the bits that distinguish the entries of a bucket.
const SHARD_SHIFT: u32 = 32;

/// All keys and values.
#[derive(Debug)]
pub struct Keyspace {
    shards: Box<[Mutex<Shard>]>,
    hasher: Hasher,
    values: Values,
    expiries: Expiries,
    heat: Heat,
    pages: Pages,
    /// Bytes of keys and values.
    used: AtomicUsize,
    limits: room::Limits,
    rounds: evict::Rounds,
    gauge: pressure::Gauge,
    tending: Mutex<Tending>,
    watchers: watch::Watchers,
    random: AtomicU64,
    started: Instant,
}

impl Keyspace {
    pub fn new(arena: Arena, options: Options) -> Self {
        let this = Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: Hasher::default(),
            values: Values::new(&arena),
            expiries: Expiries::default(),
            pages: Pages::new(arena.stats().reserved_bytes as usize),
            heat: Heat::new(options.cold_after, options.moves),
            used: AtomicUsize::new(0),
            limits: room::Limits::new(&options),
            rounds: evict::Rounds::default(),
            gauge: pressure::Gauge::default(),
            tending: Mutex::default(),
            watchers: watch::Watchers::default(),
            random: AtomicU64::new(RandomState::new().hash_one(0)),
            started: Instant::now(),
        };
        // Sets the arena's limit before the first maintenance, because keys may come earlier.
        this.govern(&mut this.tending.lock());
        this
    }

    /// The arena that holds the values.
    pub fn arena(&self) -> &Arena {
        self.values.arena()
    }

    /// Locks the shards of these keys, for a command at the time `now`. While the result lives, its
    /// thread must take no other lock of the keyspace.
    pub fn keys<K: AsRef<[u8]>>(&self, keys: &[K], now: UnixMs) -> Keys<'_> {
        Keys::lock(self, keys, now)
    }

    /// The number of keys, expired ones that were not yet removed included.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// The number of keys that have an expiry.
    pub fn volatile(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().volatile()).sum()
    }

    /// The counts of events.
    pub fn events(&self) -> Events {
        let mut sum = Events::default();
        self.shards.iter().for_each(|shard| sum += shard.lock().events);
        sum
    }

    /// Resets the counts, as `CONFIG RESETSTAT` does.
    pub fn reset_events(&self) {
        self.shards.iter().for_each(|shard| shard.lock().events = Events::default());
    }

    /// Bytes of keys and values before compression, which `maxmemory` limits.
    pub fn used_bytes(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Bytes of values in the hot lane.
    pub fn hot_bytes(&self) -> usize {
        self.heat.hot_bytes()
    }

    /// How long a value of the hot lane may be idle before it leaves the lane.
    pub fn window(&self) -> Duration {
        self.heat.window()
    }

    /// Changes the cold age. Fails if the arena does not allow this one.
    pub fn set_cold_after(&self, time: Duration) -> Result<(), ArenaError> {
        match self.arena().set_cold_age(time) {
            // Without compression the age has no effect on pages.
            Ok(()) | Err(ArenaError::NotSwapping) => self.heat.set_cold_after(time),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Removes all keys.
    pub fn clear(&self) {
        // Locks all shards before it clears the first, because it is one command.
        let mut locked: Vec<_> = self.shards.iter().map(|shard| shard.lock()).collect();
        let all: Vec<Vec<Entry>> = locked.iter_mut().map(|shard| shard.take_all()).collect();
        all.iter().flatten().for_each(|entry| self.changed(entry));
        self.expiries.clear();
        drop(locked);
        all.into_iter().flatten().for_each(|entry| self.discard(entry));
        self.arena().trim();
    }

    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    fn shard_of(&self, hash: u64) -> usize {
        (hash >> SHARD_SHIFT) as usize % SHARDS
    }

    /// Inserts a new key with its value, at the time `now`.
    fn insert(&self, shard: &mut Shard, key: &[u8], value: Value, expiry: Expiry, now: UnixMs) {
        if value.lane() == Lane::Hot {
            self.heat.add_hot_bytes(value.capacity());
        }
        self.pages.record_use(value.address(), self.heat.now());
        let hash = self.hash(key);
        let deadline = self.deadline(hash, expiry, None, now);
        let entry = Entry::new(key, value, self.heat.now(), deadline);
        self.used.fetch_add(size_of_entry(&entry), Relaxed);
        shard.insert(&self.hasher, hash, entry);
        self.watchers.changed(|| hash);
    }

    /// The deadline of a key that expires as `expiry` says, and enters it in the wheel.
    fn deadline(
        &self,
        hash: u64,
        expiry: Expiry,
        before: Option<Deadline>,
        now: UnixMs,
    ) -> Option<Deadline> {
        match expiry {
            Expiry::Never => None,
            Expiry::At(at) => Some(self.expiries.deadline(hash, at, before, now)),
        }
    }

    fn set_expiry(&self, shard: &mut Shard, place: Place, expiry: Expiry, now: UnixMs) {
        let entry = shard.entry(place);
        if entry.deadline().is_some() || expiry != Expiry::Never {
            self.watchers.changed(|| self.hash(entry.key()));
        }
        let deadline = self.deadline(self.hash(entry.key()), expiry, entry.deadline(), now);
        let (before, after) = shard.set_deadline(place, deadline);
        // Wrapping arithmetic: `after` may be less than `before`.
        self.used.fetch_add(after.wrapping_sub(before), Relaxed);
    }

    /// Records a use of a value. True if it is hot enough for the hot lane and there is room in it.
    fn record_use(&self, record: &mut Record) -> bool {
        self.pages.record_use(record.value.address(), self.heat.now());
        self.heat.record_use(record)
    }

    /// Replaces the value of a key.
    fn replace(&self, record: &mut Record, value: Value) {
        if value.lane() == Lane::Hot {
            self.heat.add_hot_bytes(value.capacity());
        }
        if record.value.lane() == Lane::Hot {
            self.heat.remove_hot_bytes(record.value.capacity());
        }
        // Wrapping arithmetic: the new value may be smaller.
        let more = value.capacity().wrapping_sub(record.value.capacity());
        self.pages.record_use(value.address(), record.used);
        self.used.fetch_add(more, Relaxed);
        self.values.free(mem::replace(&mut record.value, value));
    }

    /// Accounts for a value's block that has grown from `before` bytes.
    fn resized(&self, record: &Record, before: usize) {
        let more = record.value.capacity() - before;
        if record.value.lane() == Lane::Hot {
            self.heat.add_hot_bytes(more);
        }
        self.used.fetch_add(more, Relaxed);
    }

    /// Records a change of an entry's key for its watchers. The caller has locked the shard of the key.
    fn changed(&self, entry: &Entry) {
        self.watchers.changed(|| self.hash(entry.key()));
    }

    /// Subtracts an entry from the sums.
    fn uncount(&self, entry: &Entry) {
        let value = &entry.record().value;
        if value.lane() == Lane::Hot {
            self.heat.remove_hot_bytes(value.capacity());
        }
        self.used.fetch_sub(size_of_entry(entry), Relaxed);
    }

    /// Frees an entry that was taken out of its shard.
    fn discard(&self, entry: Entry) {
        self.uncount(&entry);
        self.values.free(entry.into_value());
    }

    /// Moves a value to the hot lane. True if there was room. `copy` holds the bytes of a stored value.
    fn promote(&self, record: &mut Record, copy: Option<&[u8]>) -> bool {
        if record.value.capacity() >= heat::OWN_PAGES {
            self.values.ensure(&record.value);
            return false;
        }
        self.move_to(Lane::Hot, record, copy)
    }

    fn move_to(&self, lane: Lane, record: &mut Record, copy: Option<&[u8]>) -> bool {
        let bytes = copy.unwrap_or(record.value.bytes());
        let Ok(mut value) = self.values.put(lane, bytes) else {
            return false;
        };
        (value.form, value.heat) = (record.value.form, record.value.heat);
        self.replace(record, value);
        true
    }
}

fn size_of_entry(entry: &Entry) -> usize {
    entry.overhead() + entry.record().value.capacity()
}

#[cfg(test)]
mod tests;
