//! The keys and their values.
//!
//! The index lies outside the arena, in shards with a lock each; values lie in the arena. A command
//! locks the shards of the keys that it names, all at once and in order, so that it is atomic as it
//! is in Redis, and works on what [`Keys`] shows of them. Expired values are never shown.
//!
//! [`heat`] says where values belong, [`pressure`] sees to it that there is room, [`room`] chooses what
//! goes for it, [`scan`] walks through all keys, and [`tend`](Keyspace::tend), which is called ten times
//! a second, does what is to be done behind the commands' backs.

mod entry;
mod heat;
mod keys;
mod pressure;
mod room;
mod scan;
mod shard;
mod tend;
mod values;

pub use keys::Keys;
pub use pressure::{Pressure, Room};
pub use room::Policy;
pub use shard::Events;

use entry::{Entry, Record};
use heat::Heat;
use parking_lot::Mutex;
use shard::{Hasher, Place, Shard};
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tend::Tending;
use thermocline::{Arena, Lane};
use values::{Value, Values};

/// Milliseconds since the epoch.
pub type UnixMs = i64;

/// No room: the arena or `maxmemory` is full, and nothing may or can be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

/// Whether the value of a key is one that passes, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    Never,
    At(UnixMs),
}

/// What becomes of a key's expiry when it gets a new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewExpiry {
    Keep,
    Set(Expiry),
}

/// How a value came to be: what `OBJECT ENCODING` tells and the value's bytes do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Set as a whole.
    Whole,
    /// Set as a whole, and never an integer though it may look like one: by `INCRBYFLOAT`.
    Text,
    /// Written into, whether or not it grew.
    Edited,
}

/// What is known about a value without looking at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    pub expiry: Expiry,
    pub len: usize,
    pub form: Form,
    /// Since it was last read or written.
    pub idle_seconds: u64,
    /// Key, value, and what is kept about them.
    pub memory_bytes: usize,
}

/// How a keyspace is to be.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes that keys and values may take, if there is a limit. Compression does not count.
    pub maxmemory: Option<usize>,
    pub policy: Policy,
    /// Bytes that the whole process may take, if there is a limit. Compression counts.
    pub memory_limit: Option<usize>,
    /// How long a value is idle before it counts as cold: the arena's cold age.
    pub cold_after: Duration,
    /// Whether values move to where others are used as often.
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

/// Enough that threads hardly meet, few enough to be walked through in no time.
const SHARDS: usize = 1024;

/// Where a hash says which shard: neither the bits that a table chooses buckets by, nor those that it
/// tells entries of a bucket apart by.
const SHARD_SHIFT: u32 = 32;

/// All keys and values.
#[derive(Debug)]
pub struct Keyspace {
    shards: Box<[Mutex<Shard>]>,
    hasher: Hasher,
    values: Values,
    heat: Heat,
    /// What keys and values take.
    used: AtomicUsize,
    limits: room::Limits,
    gauge: pressure::Gauge,
    tending: Mutex<Tending>,
    random: AtomicU64,
    started: Instant,
}

impl Keyspace {
    pub fn new(arena: Arena, options: Options) -> Self {
        let this = Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: Hasher::default(),
            values: Values::new(&arena),
            heat: Heat::new(options.cold_after, options.moves),
            used: AtomicUsize::new(0),
            limits: room::Limits::new(&options),
            gauge: pressure::Gauge::default(),
            tending: Mutex::default(),
            random: AtomicU64::new(RandomState::new().hash_one(0)),
            started: Instant::now(),
        };
        // The first keys may come before it is tended.
        this.govern(&mut this.tending.lock());
        this
    }

    /// The arena that the values lie in.
    pub fn arena(&self) -> &Arena {
        self.values.arena()
    }

    /// Locks the shards of these keys, for a command that happens at `now`. While the result lives
    /// its thread must lock nothing else here.
    pub fn keys<K: AsRef<[u8]>>(&self, keys: &[K], now: UnixMs) -> Keys<'_> {
        Keys::lock(self, keys, now)
    }

    /// Keys, expired ones that nobody has noticed included.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Keys that have an expiry.
    pub fn volatile(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().volatile()).sum()
    }

    /// What has happened to keys.
    pub fn events(&self) -> Events {
        let mut sum = Events::default();
        self.shards.iter().for_each(|shard| sum += shard.lock().events);
        sum
    }

    /// Forgets what has happened, as `CONFIG RESETSTAT` does.
    pub fn reset_events(&self) {
        self.shards.iter().for_each(|shard| shard.lock().events = Events::default());
    }

    /// Bytes that keys and values take, before compression: what `maxmemory` bounds.
    pub fn used_bytes(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Bytes of values in the hot lane.
    pub fn hot_bytes(&self) -> usize {
        self.heat.hot_bytes()
    }

    /// How long a value of the hot lane may be idle until it has to leave.
    pub fn window(&self) -> Duration {
        self.heat.window()
    }

    /// Forgets everything.
    pub fn clear(&self) {
        // Of all shards before any of them is unlocked, as it is one command.
        let mut locked: Vec<_> = self.shards.iter().map(|shard| shard.lock()).collect();
        let all: Vec<_> = locked.iter_mut().map(|shard| shard.take_all()).collect();
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

    /// A new key with its value.
    fn insert(&self, shard: &mut Shard, key: &[u8], value: Value, expiry: Expiry) {
        if value.lane() == Lane::Hot {
            self.heat.gained(value.capacity());
        }
        let entry = Entry::new(key, value, self.heat.now(), expiry);
        self.used.fetch_add(size_of_entry(&entry), Relaxed);
        shard.insert(&self.hasher, self.hash(key), entry);
    }

    fn set_expiry(&self, shard: &mut Shard, place: Place, expiry: Expiry) {
        let (before, after) = shard.set_expiry(place, expiry);
        // Wraps around where it has become less, and is right in the end.
        self.used.fetch_add(after.wrapping_sub(before), Relaxed);
    }

    /// A key has another value.
    fn replace(&self, record: &mut Record, value: Value) {
        if value.lane() == Lane::Hot {
            self.heat.gained(value.capacity());
        }
        if record.value.lane() == Lane::Hot {
            self.heat.lost(record.value.capacity());
        }
        // Wraps around where it has become less, and is right in the end.
        let more = value.capacity().wrapping_sub(record.value.capacity());
        self.used.fetch_add(more, Relaxed);
        self.values.free(mem::replace(&mut record.value, value));
    }

    /// A value's block, which had `before` bytes, has grown.
    fn resized(&self, record: &Record, before: usize) {
        let more = record.value.capacity() - before;
        if record.value.lane() == Lane::Hot {
            self.heat.gained(more);
        }
        self.used.fetch_add(more, Relaxed);
    }

    /// Takes an entry out of the sums.
    fn uncount(&self, entry: &Entry) {
        let value = &entry.record().value;
        if value.lane() == Lane::Hot {
            self.heat.lost(value.capacity());
        }
        self.used.fetch_sub(size_of_entry(entry), Relaxed);
    }

    /// Ends an entry that was taken out of its shard.
    fn discard(&self, entry: Entry) {
        self.uncount(&entry);
        self.values.free(entry.into_value());
    }

    /// Moves a value to the hot lane, and says whether it could. `copy` is what it holds, where that is
    /// not in memory.
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
