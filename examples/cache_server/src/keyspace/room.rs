//! Chooses the keys to evict.

use super::entry::Entry;
use super::{Expiry, Keyspace, Options, OutOfMemory, SHARDS, UnixMs};
use clap::ValueEnum;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};

/// Which keys are evicted at `maxmemory`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[repr(u8)]
pub enum Policy {
    /// No keys: commands that need memory fail.
    #[value(name = "noeviction")]
    NoEviction,
    /// The key that was not used for the longest time, approximately.
    #[default]
    #[value(name = "allkeys-lru")]
    AllKeysLru,
    /// Any key.
    #[value(name = "allkeys-random")]
    AllKeysRandom,
    /// The key with an expiry that was not used for the longest time, approximately.
    VolatileLru,
    /// Any key that has an expiry.
    VolatileRandom,
    /// The key that expires soonest, approximately.
    VolatileTtl,
}

impl Policy {
    /// The name in `maxmemory-policy`.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::from_str(name, true).ok()
    }

    /// Whether the policy evicts keys at all.
    pub fn evicts(self) -> bool {
        self != Self::NoEviction
    }

    fn only_volatile(self) -> bool {
        matches!(self, Self::VolatileLru | Self::VolatileRandom | Self::VolatileTtl)
    }
}

/// Limits that can change while the server runs. The largest number means no limit.
#[derive(Debug)]
pub(super) struct Limits {
    maxmemory: AtomicUsize,
    policy: AtomicU8,
    memory: AtomicUsize,
}

impl Limits {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            maxmemory: AtomicUsize::new(options.maxmemory.unwrap_or(usize::MAX)),
            policy: AtomicU8::new(options.policy as u8),
            memory: AtomicUsize::new(options.memory_limit.unwrap_or(usize::MAX)),
        }
    }
}

/// The number of keys that each eviction chooses from, as `maxmemory-samples`.
const SAMPLES: usize = 5;

impl Keyspace {
    /// The largest number if there is no limit.
    pub(super) fn maxmemory(&self) -> usize {
        self.limits.maxmemory.load(Relaxed)
    }

    pub fn set_maxmemory(&self, limit: Option<usize>) {
        self.limits.maxmemory.store(limit.unwrap_or(usize::MAX), Relaxed);
    }

    pub fn memory_limit(&self) -> Option<usize> {
        Some(self.limits.memory.load(Relaxed)).filter(|&limit| limit < usize::MAX)
    }

    pub fn set_memory_limit(&self, limit: Option<usize>) {
        self.limits.memory.store(limit.unwrap_or(usize::MAX), Relaxed);
    }

    pub fn policy(&self) -> Policy {
        Policy::value_variants()[usize::from(self.limits.policy.load(Relaxed))]
    }

    pub fn set_policy(&self, policy: Policy) {
        self.limits.policy.store(policy as u8, Relaxed);
    }

    /// Evicts the best candidate of a few keys.
    pub(super) fn evict_one(&self) -> Result<(), OutOfMemory> {
        let policy = self.policy();
        if policy == Policy::NoEviction {
            return Err(OutOfMemory);
        }
        let (number, key) = self.worst_of_a_few(policy).ok_or(OutOfMemory)?;
        let mut shard = self.shards[number].lock();
        // The key may have been removed meanwhile, which freed its memory.
        if let Some(place) = shard.find(self.hash(&key), &key) {
            let entry = shard.remove(place);
            shard.events.evicted += 1;
            drop(shard);
            self.discard(entry);
        }
        Ok(())
    }

    /// The best candidate of a few keys, and its shard.
    fn worst_of_a_few(&self, policy: Policy) -> Option<(usize, Vec<u8>)> {
        let start = self.random_below(SHARDS);
        let mut worst: Option<(u64, usize, Vec<u8>)> = None;
        let mut seen = 0;
        for n in 0..SHARDS {
            let number = (start + n) % SHARDS;
            let shard = self.shards[number].lock();
            if shard.len() == 0 || policy.only_volatile() && shard.volatile() == 0 {
                continue;
            }
            let eligible = |entry: &&Entry| !policy.only_volatile() || entry.record().is_volatile();
            for entry in shard.from(self.random_below(1 << 32)).filter(eligible) {
                let badness = self.badness(policy, entry);
                if worst.as_ref().is_none_or(|(worst, ..)| badness > *worst) {
                    worst = Some((badness, number, entry.key().to_vec()));
                }
                seen += 1;
                if seen == SAMPLES {
                    return worst.map(|(_, number, key)| (number, key));
                }
            }
        }
        worst.map(|(_, number, key)| (number, key))
    }

    fn badness(&self, policy: Policy, entry: &Entry) -> u64 {
        match policy {
            Policy::NoEviction | Policy::AllKeysRandom | Policy::VolatileRandom => 0,
            Policy::AllKeysLru | Policy::VolatileLru => self.heat.idle(entry.record()).into(),
            Policy::VolatileTtl => match entry.expiry() {
                Expiry::At(at) => u64::MAX - at.max(0).unsigned_abs(),
                Expiry::Never => 0,
            },
        }
    }

    /// Removes one shard's keys that have expired by `now`, and returns their number.
    pub(super) fn expire(&self, number: usize, now: UnixMs) -> usize {
        let mut shard = self.shards[number].lock();
        if shard.volatile() == 0 {
            return 0;
        }
        let expired = shard.take_expired(now);
        drop(shard);
        let count = expired.len();
        expired.into_iter().for_each(|entry| self.discard(entry));
        count
    }
}
