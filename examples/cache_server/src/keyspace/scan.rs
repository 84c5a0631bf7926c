//! Iterates over all keys.
//!
//! The order is that of the hashes, rotated so that the shard's number comes first. It does not
//! depend on the tables, which grow and shrink meanwhile: a client that continues after the last hash
//! that it has seen misses no key that existed throughout.
//!
//! A position in the order has 63 bits, because some clients keep the cursor in a signed number and treat
//! a negative one as an error. Two hashes that differ only in the last bit have the same position. Keys
//! with the same position are always shown together.

use super::shard::Shard;
use super::{Keyspace, SHARD_SHIFT, SHARDS, UnixMs};
use std::sync::atomic::Ordering::Relaxed;

const SHARD_BITS: u32 = SHARDS.ilog2();

const PLACE_BITS: u32 = i64::BITS - 1;

/// A hash's position in the order.
fn place(hash: u64) -> u64 {
    hash.rotate_left(u64::BITS - SHARD_SHIFT - SHARD_BITS) >> (u64::BITS - PLACE_BITS)
}

/// The cursor after a position: 0 after the last.
fn behind(place: u64) -> u64 {
    (place + 1) % (1 << PLACE_BITS)
}

impl Keyspace {
    /// Shows at least `count` keys after `cursor`, unless the end comes first, and returns the next
    /// cursor: 0 at the end, and never 2^63 or more. A key that exists from the first call to the last is
    /// shown at least once, independently of changes to other keys. The keys' shard is locked meanwhile.
    pub fn scan(&self, cursor: u64, count: usize, now: UnixMs, show: &mut dyn FnMut(&[u8])) -> u64 {
        let mut left = count.max(1);
        let first = (cursor >> (PLACE_BITS - SHARD_BITS)) as usize;
        for number in first..SHARDS {
            let shard = self.shards[number].lock();
            let from = if number == first { cursor } else { 0 };
            match self.show_some(&shard, from, left, now, show) {
                Err(last) => return behind(last),
                Ok(shown) => left -= shown,
            }
        }
        0
    }

    /// Shows a shard's keys from `from` on. Returns their number if it is less than `count`, else the
    /// position of the last shown key as the error.
    fn show_some(
        &self,
        shard: &Shard,
        from: u64,
        count: usize,
        now: UnixMs,
        show: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, u64> {
        let place_of = |key: &[u8]| place(self.hash(key));
        let alive = || shard.entries().filter(|entry| !entry.has_expired(now));
        let mut places: Vec<u64> =
            alive().map(|entry| place_of(entry.key())).filter(|&place| place >= from).collect();
        let last =
            if places.len() >= count { *places.select_nth_unstable(count - 1).1 } else { u64::MAX };
        for entry in alive() {
            if (from..=last).contains(&place_of(entry.key())) {
                show(entry.key());
            }
        }
        if places.len() >= count { Err(last) } else { Ok(places.len()) }
    }

    /// A random key, each with about the same probability.
    pub fn random_key(&self, now: UnixMs) -> Option<Vec<u8>> {
        // If nearly all keys have expired, returns any other one, with unequal probability.
        for _ in 0..100 {
            let number = self.random_below(SHARDS);
            let shard = self.shards[number].lock();
            if shard.len() > 0 {
                let entry = shard.from(self.random_below(1 << 32)).next()?;
                if !entry.has_expired(now) {
                    return Some(entry.key().to_vec());
                }
            }
        }
        let start = self.random_below(SHARDS);
        (0..SHARDS).find_map(|n| {
            let shard = self.shards[(start + n) % SHARDS].lock();
            let alive = shard.entries().find(|entry| !entry.has_expired(now));
            alive.map(|entry| entry.key().to_vec())
        })
    }

    /// A pseudo-random number below `bound`.
    pub(super) fn random_below(&self, bound: usize) -> usize {
        // SplitMix64 (Steele, Lea and Flood 2014): a Weyl sequence with the golden ratio, mixed.
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut x = self.random.fetch_add(step, Relaxed).wrapping_add(step);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        #[expect(clippy::cast_possible_truncation, reason = "below the bound")]
        let below = ((u128::from(x) * bound as u128) >> 64) as usize;
        below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_positive_and_in_the_order_of_shards() {
        let all = u64::MAX;
        assert_eq!(place(all), i64::MAX.unsigned_abs());
        assert_eq!(behind(place(all)), 0);
        for number in 0..SHARDS as u64 {
            let shard = number << (PLACE_BITS - SHARD_BITS);
            assert_eq!(place(number << SHARD_SHIFT), shard);
            let last = number << SHARD_SHIFT | all >> (u64::BITS - SHARD_SHIFT);
            assert_eq!(place(last) >> (PLACE_BITS - SHARD_BITS), number);
        }
    }
}
