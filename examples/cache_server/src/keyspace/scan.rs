//! Iterates over all keys.
//!
//! The order is that of the keys' spots: of the shards, and of the tags within a shard. It does not
//! depend on the tables, which grow and shrink meanwhile: a client that continues after the last spot
//! that it has seen misses no key that existed throughout. Keys with the same spot are always shown together.

use super::block::Head;
use super::item::Item;
use super::shard::Spot;
use super::{Keyspace, SHARDS, UnixMs};
use std::sync::atomic::Ordering::Relaxed;

/// The cursor after a spot: 0 after the last.
fn behind(spot: Spot) -> u64 {
    (u64::from(spot.number()) + 1) % (1 << Spot::BITS)
}

impl Keyspace {
    /// Shows at least `count` keys after `cursor`, unless the end comes first, and returns the next
    /// cursor: 0 at the end, and always less than 2^31, because some clients keep it in a signed number. A key that
    /// exists from the first call to the last is shown at least once, independently of changes to other keys.
    /// The keys' shard is locked meanwhile. Stored blocks stay stored.
    pub fn scan(&self, cursor: u64, count: usize, now: UnixMs, show: &mut dyn FnMut(&[u8])) -> u64 {
        let Ok(first) = u32::try_from(cursor) else { return 0 };
        let first = Spot::from_number(first);
        let (mut left, mut buffer) = (count.max(1), Vec::new());
        for number in first.shard()..SHARDS {
            let shard = self.shards[number].lock();
            let from = if number == first.shard() { first.tag() } else { 0 };
            let mut last = None;
            for (tag, item) in shard.items_from(from) {
                if left == 0 && last != Some(tag) {
                    return behind(Spot::new(number, last.unwrap_or(from)));
                }
                last = Some(tag);
                if self.show(item, now, &mut buffer, show) {
                    left = left.saturating_sub(1);
                }
            }
            if left == 0 {
                return behind(Spot::new(number, (1 << Spot::TAG_BITS) - 1));
            }
        }
        0
    }

    /// Shows an item's key. False if it has expired or is lost.
    fn show(
        &self,
        item: &Item,
        now: UnixMs,
        buffer: &mut Vec<u8>,
        show: &mut dyn FnMut(&[u8]),
    ) -> bool {
        let Ok(front) = self.items.peek(item, buffer) else { return false };
        let head = Head::read(&front);
        if head.has_expired(now) {
            return false;
        }
        if let Some(key) = front.get(head.key()) {
            show(key);
            return true;
        }
        // A long key of a large block.
        let key = self.items.peek_part(item, head.key(), buffer);
        key.is_ok_and(|key| {
            show(&key);
            true
        })
    }

    /// A random key, each with about the same probability.
    pub fn random_key(&self, now: UnixMs) -> Option<Vec<u8>> {
        // If nearly all keys have expired, returns any other one, with unequal probability.
        for _ in 0..100 {
            let number = self.random_below(SHARDS);
            let shard = self.shards[number].lock();
            let key = self.first_key(&mut shard.from(self.random_below(1 << 32)).take(1), now);
            if key.is_some() {
                return key;
            }
        }
        let start = self.random_below(SHARDS);
        (0..SHARDS).find_map(|n| {
            let shard = self.shards[(start + n) % SHARDS].lock();
            self.first_key(&mut shard.items(), now)
        })
    }

    /// The key of the first of these items that has not expired.
    fn first_key(&self, items: &mut dyn Iterator<Item = &Item>, now: UnixMs) -> Option<Vec<u8>> {
        let (mut buffer, mut first) = (Vec::new(), None);
        for item in items {
            if self.show(item, now, &mut buffer, &mut |key| first = Some(key.to_vec())) {
                break;
            }
        }
        first
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
    fn cursors_are_in_the_order_of_shards_and_fit_a_signed_number() {
        let mut before = 0;
        for number in 0..SHARDS {
            for tag in [0, 1, (1 << Spot::TAG_BITS) - 1] {
                let spot = Spot::new(number, tag);
                assert_eq!((spot.shard(), spot.tag()), (number, tag));
                assert_eq!(Spot::from_number(spot.number()), spot);
                let cursor = behind(spot);
                assert!(cursor > before && cursor <= 1 << 31 || number == SHARDS - 1);
                before = cursor;
            }
        }
        assert_eq!(before, 0, "the end");
    }
}
