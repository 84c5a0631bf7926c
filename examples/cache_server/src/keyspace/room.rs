//! The policy of eviction, and the limits.

use super::{Keyspace, Options};
use clap::ValueEnum;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};

/// Which keys are evicted at `maxmemory`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[repr(u8)]
pub enum Policy {
    /// No keys: commands that need memory fail.
    #[value(name = "noeviction")]
    NoEviction,
    /// The keys that were not used for the longest time, approximately.
    #[default]
    #[value(name = "allkeys-lru")]
    AllKeysLru,
    /// Any keys.
    #[value(name = "allkeys-random")]
    AllKeysRandom,
    /// The keys with an expiry that were not used for the longest time, approximately.
    VolatileLru,
    /// Any keys that have an expiry.
    VolatileRandom,
    /// The keys that expire soonest, approximately.
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

    /// Whether it evicts only keys that have an expiry.
    pub(super) fn only_volatile(self) -> bool {
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
}
