//! The keys and their values.
//!
//! # An index that sleeps
//!
//! A key lies with its value, its expiry and its heat in one block of the arena, so idle keys are compressed
//! like idle values. Outside the arena the index keeps 8 bytes for each key, an [`item`]: the place and the
//! size of the block, some flags, and a *tag*, bits of the key's hash. [`block`] describes the block: a head of
//! 8 bytes for most items, the key, and the value.
//!
//! The items lie in shards with one lock each. A [`shard`] has [`table`]s with open addressing, in the order of the
//! tags. A table is resized, split and walked without the keys and their hashes, so the server touches no block
//! for it. It copies at most 8192 items at a time. With the empty slots of the tables an item takes 9 to 12 bytes.
//!
//! A look-up reads the blocks of the items with the key's tag and compares the key. Nearly always that is one block,
//! or none if the key does not exist: of ten million keys, one in two hundred has the tag of another key in its
//! shard. The server reads a stored block by [`Arena::peek`], and leaves it stored. The copy then answers the
//! command too.
//!
//! The server needs no block for these facts about a sleeping item:
//!
//! * The block's size, whether the key expires, and whether the block is in the hot lane, are fields of the item.
//! * The [heat](heat) of a stored item is that of its [page](pages), and a *stamp* in the item: the time at which a
//!   client last read it.
//! * The wheel of [`expiries`] has the time at which each key expires. The server reads the block then.
//! * [`watch`] and [`scan`] name a key by its shard's number and tag, its *spot*.
//!
//! A command that changes a sleeping item copies it to a new block, unless it is large, and leaves its page stored.
//!
//! # Commands
//!
//! A command locks the shards of all its keys at once and in order, so that it is atomic as in Redis, and works
//! on the [`Keys`]. Expired values are never visible.
//!
//! [`heat`] sorts items by use, [`pressure`] keeps the arena within its limit, [`evict`] chooses keys to
//! evict, [`expiries`] finds expired keys, [`scan`] walks through all keys, and [`tend`](Keyspace::tend) does the
//! maintenance, ten times a second.

mod block;
mod changes;
mod edit;
mod events;
mod evict;
mod expiries;
mod find;
mod heat;
mod item;
mod items;
mod keys;
mod pages;
mod pressure;
mod room;
mod scan;
mod shard;
mod table;
mod tend;
mod watch;

pub use events::Events;
pub use keys::Keys;
#[cfg(test)]
pub use pressure::MAX_TRIES;
pub use pressure::{Pressure, Room};
pub use room::Policy;
pub use watch::Watched;

use expiries::Expiries;
use heat::Heat;
use item::Item;
use items::Items;
use pages::Pages;
use parking_lot::Mutex;
use shard::{Hasher, Shard, Spot};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tend::Tending;
use thermocline::{Arena, ArenaError};

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
    /// Of the block and the index.
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

/// The position of the shard's number in a hash: not among the bits of a tag.
const SHARD_SHIFT: u32 = 32;

/// All keys and values.
#[derive(Debug)]
pub struct Keyspace {
    shards: Box<[Mutex<Shard>]>,
    hasher: Hasher,
    items: Items,
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
            items: Items::new(&arena),
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

    /// The arena that holds keys and values.
    pub fn arena(&self) -> &Arena {
        self.items.arena()
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

    /// The bytes of memory outside the arena that keys take: tables, the wheel of expiries, and the sizes of
    /// large blocks.
    pub fn index_bytes(&self) -> usize {
        let tables: usize = self.shards.iter().map(|shard| shard.lock().bytes()).sum();
        size_of_val(&*self.shards) + tables + self.expiries.bytes() + self.items.index_bytes()
    }

    /// Removes all keys.
    pub fn clear(&self) {
        // Locks all shards before it clears the first, because it is one command.
        let mut locked: Vec<_> = self.shards.iter().map(|shard| shard.lock()).collect();
        for (number, shard) in locked.iter().enumerate() {
            shard.items_from(0).for_each(|(tag, _)| self.changed(Spot::new(number, tag)));
        }
        let all: Vec<Vec<Item>> = locked.iter_mut().map(|shard| shard.take_all()).collect();
        self.expiries.clear();
        drop(locked);
        all.into_iter().flatten().for_each(|item| self.discard(item));
        self.arena().trim();
    }

    fn spot(&self, key: &[u8]) -> Spot {
        Spot::of_hash(self.hasher.hash_one(key))
    }
}

#[cfg(test)]
mod tests;
