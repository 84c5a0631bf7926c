//! Finds expired keys, without a walk through the keys that do not expire.
//!
//! A wheel of *slots*, a quarter of a second each, holds the hashes of keys. The server visits each key in its
//! slot. The slot of a key that expires soon is the first after its expiry. The slot of a key that expires later
//! is a little earlier, and the same for many keys: the further away, the coarser. When its slot comes, the
//! server removes the key, or moves it to a finer slot. So each key moves a few times, and there are few slots.
//!
//! An entry knows its slot. A hash in another slot is *stale*: its key was removed since, or expires earlier
//! now. The server drops stale hashes when their slot comes, or when they are more than half of all hashes. If a
//! key's expiry moves to a later time, its slot stays, so that a key whose expiry clients renew all the time has
//! one hash.
//!
//! A thread may lock the wheel while it holds the lock of a shard, but not the other way round.

use super::entry::{Deadline, Entry};
use super::shard::{Place, Shard};
use super::{Keyspace, UnixMs};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::mem;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::{Duration, Instant};

/// Milliseconds of a slot: 2 to the power of this.
const SLOT_BITS: u32 = 8;

/// Up to this distance a key's slot is exact. Beyond, the slots at a distance are this number or half of it to
/// each power of two.
const EXACT: u64 = 32;

/// The most hashes that are taken out of the wheel at a time.
const TAKEN: usize = 256;

/// The number of stale hashes that are always allowed.
const FEW: usize = 4096;

/// Slots that come soon are not searched for stale hashes.
const SOON: u64 = 256;

#[derive(Debug, Default)]
pub(super) struct Expiries(Mutex<Wheel>);

#[derive(Debug, Default)]
struct Wheel {
    /// The hashes of each slot. No slot is empty.
    slots: BTreeMap<u64, Vec<u64>>,
    len: usize,
}

/// The slot that contains a point in time.
fn slot_of(time: UnixMs) -> u64 {
    time.max(0).unsigned_abs() >> SLOT_BITS
}

/// The slot for a key that expires at `at`.
fn slot_for(at: UnixMs, now: UnixMs) -> u64 {
    let (slot, now) = (slot_of(at) + 1, slot_of(now));
    let distance = slot.saturating_sub(now);
    if distance < EXACT {
        return slot;
    }
    let coarse = 2 * (1 << distance.ilog2()) / EXACT;
    slot - slot % coarse
}

/// An entry keeps the lower bits of its slot.
fn mark(slot: u64) -> u32 {
    slot as u32
}

impl Expiries {
    /// The deadline of a key with this hash. `before` is the deadline that it replaces.
    pub(super) fn deadline(
        &self,
        hash: u64,
        at: UnixMs,
        before: Option<Deadline>,
        now: UnixMs,
    ) -> Deadline {
        if let Some(before) = before
            && before.at <= at
        {
            return Deadline { at, slot: before.slot };
        }
        let slot = slot_for(at, now);
        self.put(slot, [hash]);
        Deadline { at, slot: mark(slot) }
    }

    fn put(&self, slot: u64, hashes: impl IntoIterator<Item = u64, IntoIter: ExactSizeIterator>) {
        let hashes = hashes.into_iter();
        if hashes.len() > 0 {
            let mut wheel = self.0.lock();
            wheel.len += hashes.len();
            wheel.slots.entry(slot).or_default().extend(hashes);
        }
    }

    /// Takes some hashes out of the first slot, if that has come.
    fn take_due(&self, now: UnixMs) -> Option<(u64, Vec<u64>)> {
        let mut wheel = self.0.lock();
        let mut first = wheel.slots.first_entry().filter(|first| *first.key() <= slot_of(now))?;
        let (slot, hashes) = (*first.key(), first.get_mut());
        let taken = hashes.split_off(hashes.len().saturating_sub(TAKEN));
        if hashes.is_empty() {
            first.remove();
        }
        wheel.len -= taken.len();
        Some((slot, taken))
    }

    /// Takes all hashes out of the first slot after `after`.
    fn take_slot(&self, after: u64) -> Option<(u64, Vec<u64>)> {
        let mut wheel = self.0.lock();
        let slot = *wheel.slots.range((Excluded(after), Unbounded)).next()?.0;
        let hashes = wheel.slots.remove(&slot)?;
        wheel.len -= hashes.len();
        Some((slot, hashes))
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().len
    }

    pub(super) fn clear(&self) {
        *self.0.lock() = Wheel::default();
    }
}

/// The search for stale hashes.
#[derive(Debug, Default)]
pub(super) struct Cleaning {
    /// The number of hashes at which the next search begins.
    begins_at: usize,
    /// The current slot, if a search is under way: its hashes, and those that are not stale.
    slot: Option<u64>,
    hashes: Vec<u64>,
    kept: Vec<u64>,
}

impl Keyspace {
    /// Removes the keys that have expired by `now`. Returns whether it came to an end within this time.
    pub(super) fn expire(&self, now: UnixMs, time: Duration) -> bool {
        let begun = Instant::now();
        while let Some((slot, hashes)) = self.expiries.take_due(now) {
            let _open = self.open_gate();
            for hash in hashes {
                self.expire_or_move(hash, slot, now);
            }
            if begun.elapsed() > time {
                return false;
            }
        }
        true
    }

    fn expire_or_move(&self, hash: u64, slot: u64, now: UnixMs) {
        let mut shard = self.shards[self.shard_of(hash)].lock();
        let Some(place) = self.find_in_slot(&shard, hash, slot) else { return };
        if !shard.entry(place).has_expired(now) {
            let at = shard.entry(place).deadline().expect("it is in a slot").at;
            let deadline = self.expiries.deadline(hash, at, None, now);
            shard.entry_mut(place).set_deadline(deadline);
            return;
        }
        let entry = shard.remove(place);
        self.changed(&entry);
        shard.events.expired += 1;
        drop(shard);
        self.discard(entry);
    }

    /// The place of the key that has this hash in a slot; `None` if the hash is stale.
    fn find_in_slot(&self, shard: &Shard, hash: u64, slot: u64) -> Option<Place> {
        let is_wanted = |entry: &Entry| {
            entry.deadline().is_some_and(|deadline| deadline.slot == mark(slot))
                && self.hasher.hash_one(entry.key()) == hash
        };
        shard.find_where(hash, is_wanted)
    }

    /// Drops stale hashes for about this time, if they are more than half of all hashes.
    pub(super) fn drop_stale_hashes(&self, cleaning: &mut Cleaning, now: UnixMs, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            if cleaning.slot.is_none() && !self.begin_cleaning(cleaning, now) {
                return;
            }
            self.clean(cleaning);
        }
    }

    /// Whether a search is worth while. Counts the keys only if there are many more hashes than at the last time.
    fn begin_cleaning(&self, cleaning: &mut Cleaning, now: UnixMs) -> bool {
        let len = self.expiries.len();
        if len < cleaning.begins_at.max(FEW) {
            return false;
        }
        cleaning.begins_at = 2 * self.volatile() + FEW;
        if len < cleaning.begins_at {
            return false;
        }
        cleaning.slot = Some(slot_of(now) + SOON);
        true
    }

    /// Searches some hashes.
    fn clean(&self, cleaning: &mut Cleaning) {
        let Some(slot) = cleaning.slot else { return };
        for _ in 0..TAKEN {
            let Some(hash) = cleaning.hashes.pop() else {
                let mut kept = mem::take(&mut cleaning.kept);
                kept.shrink_to_fit();
                self.expiries.put(slot, kept);
                let Some((next, mut hashes)) = self.expiries.take_slot(slot) else {
                    cleaning.slot = None;
                    cleaning.begins_at = 2 * self.expiries.len() + FEW;
                    return;
                };
                // A key that was removed and set again may have several.
                hashes.sort_unstable();
                hashes.dedup();
                (cleaning.slot, cleaning.hashes) = (Some(next), hashes);
                return;
            };
            let shard = self.shards[self.shard_of(hash)].lock();
            if self.find_in_slot(&shard, hash, slot).is_some() {
                cleaning.kept.push(hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Expiry, NewExpiry, Options};
    use super::*;
    use thermocline::Arena;

    fn space() -> Keyspace {
        let arena = Arena::builder().plain_memory_fallback(true).build().unwrap();
        Keyspace::new(arena, Options::default())
    }

    fn set(space: &Keyspace, n: usize, expiry: Expiry, now: UnixMs) {
        let key = n.to_string().into_bytes();
        space.keys(&[&key], now).set(&key, b"value", NewExpiry::Set(expiry)).unwrap();
    }

    fn hashes(space: &Keyspace) -> usize {
        let wheel = space.expiries.0.lock();
        assert_eq!(wheel.len, wheel.slots.values().map(Vec::len).sum::<usize>());
        wheel.len
    }

    const LONG: Duration = Duration::from_secs(600);

    /// The moment of the first key of the tests: 2026.
    const START: UnixMs = 1_790_000_000_123;

    #[test]
    fn a_slot_is_at_most_one_behind_its_time_and_a_little_before_it() {
        for now in [0, 5, 255, 256, START] {
            for distance in (0..40_000).chain((16..62).map(|bits| (1i64 << bits) + 77)) {
                let Some(at) = now.checked_add(distance) else { continue };
                let (slot, exact) = (slot_for(at, now), slot_of(at) + 1);
                let ahead = exact - slot_of(now);
                assert!(slot > slot_of(now) && slot <= exact && exact - slot <= ahead / 16, "{at}");
            }
        }
        assert_eq!(slot_for(START - 1000, START), slot_of(START - 1000) + 1, "the past");
        assert_eq!((slot_of(-1), slot_for(UnixMs::MIN, 0)), (0, 1));
        // Ten years, to the millisecond: some hundred slots.
        let slots = (0..100_000i64).map(|n| slot_for(START + n * n * 31, START));
        let slots = slots.collect::<std::collections::BTreeSet<_>>().len();
        assert!(slots < 600, "{slots}");
    }

    #[test]
    fn expired_keys_are_removed_within_a_second_without_a_walk() {
        let space = space();
        for n in 0..5000 {
            // Times to live of 500 ms to some minutes.
            set(&space, n, Expiry::At(START + 500 + (n * n / 100) as i64), START);
            set(&space, 10_000 + n, Expiry::Never, START);
        }
        assert_eq!(hashes(&space), 5000);
        let (mut now, mut visited) = (START, 0);
        while space.volatile() > 0 {
            now += 100;
            while let Some((slot, hashes)) = space.expiries.take_due(now) {
                visited += hashes.len();
                hashes.into_iter().for_each(|hash| space.expire_or_move(hash, slot, now));
            }
            let late = now - 1000;
            let expired = |entry: &Entry| entry.has_expired(late);
            assert!(space.shards.iter().all(|s| !s.lock().entries().any(expired)), "{now}");
            assert_eq!(hashes(&space), space.volatile());
        }
        assert_eq!((space.len(), space.events().expired), (5000, 5000));
        assert!(visited <= 5 * 5000, "{visited}");
    }

    #[test]
    fn a_key_that_is_renewed_has_one_hash_and_expires_at_its_last_time() {
        let space = space();
        for n in 0..10_000 {
            set(&space, 1, Expiry::At(START + 60_000 + n), START + n);
        }
        assert_eq!(hashes(&space), 1);
        assert!(space.expire(START + 69_998, LONG));
        assert_eq!(space.len(), 1);
        assert!(space.expire(START + 71_000, LONG));
        assert_eq!((space.len(), hashes(&space)), (0, 0));
        // An earlier time applies at once, and a later one after it.
        set(&space, 2, Expiry::At(START + 60_000), START);
        set(&space, 2, Expiry::At(START + 1000), START);
        set(&space, 2, Expiry::At(START + 30_000), START);
        assert!(space.expire(START + 29_000, LONG));
        assert_eq!((space.len(), hashes(&space)), (1, 2));
        set(&space, 2, Expiry::Never, START);
        assert!(space.expire(START + 100_000, LONG));
        assert_eq!((space.len(), hashes(&space)), (1, 0));
    }

    #[test]
    fn hashes_of_removed_keys_are_dropped() {
        let space = space();
        let day = START + 86_400_000;
        let mut cleaning = Cleaning::default();
        for round in 0..50 {
            for n in 0..2000 {
                let key = n.to_string().into_bytes();
                space.keys(&[&key], START).remove(&key);
                set(&space, n, Expiry::At(day + (round * n) as i64), START);
            }
            space.drop_stale_hashes(&mut cleaning, START, LONG);
            assert!(hashes(&space) <= 2 * 2000 + FEW, "{}", hashes(&space));
        }
        assert!(cleaning.slot.is_none() && cleaning.kept.is_empty());
        assert!(space.expire(day + 200_000, LONG));
        assert_eq!((space.len(), hashes(&space), space.used_bytes()), (0, 0, 0));
        set(&space, 1, Expiry::At(day), START);
        space.clear();
        assert_eq!(hashes(&space), 0);
    }
}
