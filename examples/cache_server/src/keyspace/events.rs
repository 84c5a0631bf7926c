//! Counts of events on keys.

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
