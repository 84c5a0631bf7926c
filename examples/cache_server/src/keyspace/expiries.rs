//! Finds expired keys, without a walk through the keys that do not expire.
//!
//! A wheel of *slots*, a quarter of a second each, holds *visits* of keys: the spot of a key, and the slot in which
//! it is *due*, the first after its expiry. The server visits the key then, reads its block, and removes it. A visit
//! that is due soon is in its slot. Another is in a slot that is a little earlier, and the same for many keys: the
//! further away, the coarser. When that slot comes, the server moves the visit to a finer one. So each visit moves a
//! few times, there are few slots, and the server reads the block of a sleeping key when the key expires, not before.
//!
//! An item has a mark of three bits that its visit's slot determines. A visit is *stale* if its key was removed
//! since, or expires earlier now: seven of eight have another mark. The server drops stale visits when they are due,
//! or when they are more than half of all visits. If a key's expiry moves to a later time, its visit stays, so that a
//! key whose expiry clients renew all the time has one visit. When it is due, the server enters another one.
//!
//! A thread may lock the wheel while it holds the lock of a shard, but not the other way round.

use super::item::{Item, mark};
use super::shard::Spot;
use super::{Keyspace, UnixMs};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::iter;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::{Duration, Instant};

/// Milliseconds of a slot: 2 to the power of this.
const SLOT_BITS: u32 = 8;

/// Up to this distance a visit's slot is exact. Beyond, the slots at a distance are this number or half of it to
/// each power of two.
const EXACT: u64 = 32;

/// The most visits that are taken out of the wheel at a time.
const TAKEN: usize = 256;

/// The number of keys that are evicted at a time.
const EVICTED: usize = 16;

/// The number of stale visits that are always allowed.
const FEW: usize = 4096;

/// The most slots by which a visit is early: 17 years. It fits [`Visit::due`].
const EARLIEST: u64 = 1 << 31;

/// Slots that come in the next four seconds are not searched for stale visits.
const SOON: u64 = 16;

#[derive(Debug, Default)]
pub(super) struct Expiries(Mutex<Wheel>);

#[derive(Debug, Default)]
struct Wheel {
    /// The visits of each slot. No slot is empty.
    slots: BTreeMap<u64, Vec<Visit>>,
    /// The visits of one slot that is searched for stale ones.
    searched: Option<Searched>,
    /// The number of all visits.
    len: usize,
}

#[derive(Debug)]
struct Searched {
    slot: u64,
    left: Vec<Visit>,
    /// Those that are not stale.
    kept: Vec<Visit>,
}

/// A key that is to be visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Visit {
    spot: Spot,
    /// The lower bits of the slot in which it is due.
    due: u32,
}

impl Visit {
    /// The slot in which it is due, if it is in this slot of the wheel now.
    fn due(self, slot: u64) -> u64 {
        slot + u64::from(self.due.wrapping_sub(slot as u32))
    }
}

/// The slot that contains a point in time.
fn slot_of(time: UnixMs) -> u64 {
    time.max(0).unsigned_abs() >> SLOT_BITS
}

/// The slot in which a key is due that expires at `at`.
fn due_slot(at: UnixMs) -> u64 {
    slot_of(at) + 1
}

/// The slot for a visit that is due in the slot `due`.
fn slot_for(due: u64, now: UnixMs) -> u64 {
    let distance = due.saturating_sub(slot_of(now));
    if distance < EXACT {
        return due;
    }
    let coarse = (2 * (1 << distance.ilog2()) / EXACT).min(EARLIEST);
    due - due % coarse
}

impl Expiries {
    /// Enters a key that expires at `at`. Returns the slot in which it is due.
    pub(super) fn enter(&self, spot: Spot, at: UnixMs, now: UnixMs) -> u64 {
        let due = due_slot(at);
        self.put(slot_for(due, now), [Visit { spot, due: due as u32 }]);
        due
    }

    fn put(&self, slot: u64, visits: impl IntoIterator<Item = Visit, IntoIter: ExactSizeIterator>) {
        let visits = visits.into_iter();
        if visits.len() > 0 {
            self.0.lock().put(slot, visits);
        }
    }

    /// Takes at most `most` visits out of the first slot, if that is at most `last`.
    fn take_first(&self, last: u64, most: usize) -> Option<(u64, Vec<Visit>)> {
        let mut wheel = self.0.lock();
        let (slot, taken) = wheel.take_first(last, most)?;
        wheel.len -= taken.len();
        Some((slot, taken))
    }

    /// Ends the search of a slot, and begins that of the first slot after it. Returns its number.
    fn search_after(&self, slot: u64) -> Option<u64> {
        let mut wheel = self.0.lock();
        if let Some(Searched { slot, mut kept, left }) = wheel.searched.take() {
            kept.extend(left);
            wheel.len -= kept.len();
            wheel.put(slot, kept);
        }
        let slot = *wheel.slots.range((Excluded(slot), Unbounded)).next()?.0;
        let mut left = wheel.slots.remove(&slot)?;
        wheel.len -= left.len();
        drop(wheel);
        // A key that was removed and set again may have several.
        left.sort_unstable();
        left.dedup();
        let mut wheel = self.0.lock();
        wheel.len += left.len();
        wheel.searched = Some(Searched { slot, left, kept: Vec::new() });
        Some(slot)
    }

    /// Takes at most `most` visits out of the slot that is searched.
    fn take_searched(&self, most: usize) -> Vec<Visit> {
        let mut wheel = self.0.lock();
        let Some(searched) = &mut wheel.searched else { return Vec::new() };
        let taken = take_last(&mut searched.left, most);
        wheel.len -= taken.len();
        taken
    }

    /// Puts visits back that are not stale.
    fn keep(&self, slot: u64, visits: Vec<Visit>) {
        let mut wheel = self.0.lock();
        match &mut wheel.searched {
            Some(searched) => {
                searched.kept.extend_from_slice(&visits);
                wheel.len += visits.len();
            }
            // The wheel was cleared.
            None => wheel.put(slot, visits),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().len
    }

    /// The bytes of all visits.
    pub(super) fn bytes(&self) -> usize {
        let wheel = self.0.lock();
        let searched = wheel.searched.iter().flat_map(|searched| [&searched.left, &searched.kept]);
        wheel.slots.values().chain(searched).map(Vec::capacity).sum::<usize>() * size_of::<Visit>()
    }

    pub(super) fn clear(&self) {
        *self.0.lock() = Wheel::default();
    }
}

impl Wheel {
    fn put(
        &mut self,
        slot: u64,
        visits: impl IntoIterator<Item = Visit, IntoIter: ExactSizeIterator>,
    ) {
        let visits = visits.into_iter();
        if visits.len() > 0 {
            self.len += visits.len();
            self.slots.entry(slot).or_default().extend(visits);
        }
    }

    /// Takes visits as [`Expiries::take_first`] does, those of the slot that is searched included.
    fn take_first(&mut self, last: u64, most: usize) -> Option<(u64, Vec<Visit>)> {
        let first = self.slots.first_entry().filter(|first| *first.key() <= last);
        let limit = first.as_ref().map_or(last, |first| *first.key());
        if let Some(searched) = self.searched.as_mut().filter(|searched| searched.slot <= limit) {
            let from =
                if searched.kept.is_empty() { &mut searched.left } else { &mut searched.kept };
            if !from.is_empty() {
                return Some((searched.slot, take_last(from, most)));
            }
        }
        let mut first = first?;
        let (slot, taken) = (*first.key(), take_last(first.get_mut(), most));
        if first.get().is_empty() {
            first.remove();
        }
        Some((slot, taken))
    }
}

fn take_last(visits: &mut Vec<Visit>, most: usize) -> Vec<Visit> {
    visits.split_off(visits.len().saturating_sub(most))
}

/// The search for stale visits.
#[derive(Debug, Default)]
pub(super) struct Cleaning {
    /// The number of visits at which the next search begins.
    begins_at: usize,
    /// The current slot, if a search is under way.
    slot: Option<u64>,
}

/// What a visit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To remove the key if it has expired.
    Expire,
    /// To remove the key, unless another one expires sooner.
    Evict,
}

impl Keyspace {
    /// Removes the keys that have expired by `now`. Returns whether it came to an end within this time.
    pub(super) fn expire(&self, now: UnixMs, time: Duration) -> bool {
        let begun = Instant::now();
        let mut buffer = Vec::new();
        while let Some((slot, visits)) = self.expiries.take_first(slot_of(now), TAKEN) {
            let _open = self.open_gate();
            for visit in visits {
                let due = visit.due(slot);
                if due > slot_of(now) {
                    self.expiries.put(slot_for(due, now), [visit]);
                } else {
                    self.visit(visit.spot, due, now, Purpose::Expire, &mut buffer);
                }
            }
            if begun.elapsed() > time {
                return false;
            }
        }
        true
    }

    /// Evicts some of the keys that expire soonest, approximately. False if no key expires.
    pub(super) fn evict_soonest(&self) -> bool {
        let Some((slot, visits)) = self.expiries.take_first(u64::MAX, EVICTED) else {
            // Another thread may have taken the last visits, and evict their keys or put them back.
            return self.volatile() > 0;
        };
        let mut buffer = Vec::new();
        for visit in visits {
            // As if the time had come.
            let due = visit.due(slot);
            let now = UnixMs::try_from(due << SLOT_BITS).unwrap_or(UnixMs::MAX);
            self.visit(visit.spot, due, now, Purpose::Evict, &mut buffer);
        }
        true
    }

    /// Visits the key in a spot that is due in a slot, unless the visit is stale. If several keys have the same
    /// spot and mark, visits them all: one visit may be for all of them.
    fn visit(&self, spot: Spot, due: u64, now: UnixMs, purpose: Purpose, buffer: &mut Vec<u8>) {
        let mut shard = self.shards[spot.shard()].lock();
        let mut next = shard.find(spot.tag());
        while let Some(place) = next {
            if !is_due(shard.item(place), due) {
                next = shard.next(place);
                continue;
            }
            let expires = match self.items.peek_head(shard.item(place), buffer) {
                Ok(head) => head.expires.unwrap_or(UnixMs::MAX),
                Err(_) => {
                    self.lose(&mut shard, place, spot);
                    next = shard.moved(place, spot.tag());
                    continue;
                }
            };
            // A client may have moved the expiry to a later time.
            let later = match purpose {
                Purpose::Expire => expires > now,
                Purpose::Evict => due_slot(expires) > due,
            };
            if later {
                let due = self.expiries.enter(spot, expires, now);
                shard.item_mut(place).set_mark(mark(due));
                next = shard.next(place);
                continue;
            }
            self.remove(&mut shard, place, spot);
            match purpose {
                Purpose::Expire => shard.events.expired += 1,
                Purpose::Evict => shard.events.evicted += 1,
            }
            next = shard.moved(place, spot.tag());
        }
    }

    /// Drops stale visits for about this time, if they are more than half of all visits.
    pub(super) fn drop_stale(&self, cleaning: &mut Cleaning, now: UnixMs, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            if cleaning.slot.is_none() && !self.begin_cleaning(cleaning, now) {
                return;
            }
            self.clean(cleaning);
        }
    }

    /// Whether a search is worth while. Counts the keys only if there are many more visits than at the last time.
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

    /// Searches some visits.
    fn clean(&self, cleaning: &mut Cleaning) {
        let Some(slot) = cleaning.slot else { return };
        let mut visits = self.expiries.take_searched(TAKEN);
        if visits.is_empty() {
            cleaning.slot = self.expiries.search_after(slot);
            if cleaning.slot.is_none() {
                cleaning.begins_at = 2 * self.expiries.len() + FEW;
            }
            return;
        }
        visits.retain(|visit| {
            let shard = self.shards[visit.spot.shard()].lock();
            let places = iter::successors(shard.find(visit.spot.tag()), |place| shard.next(*place));
            places.into_iter().any(|place| is_due(shard.item(place), visit.due(slot)))
        });
        self.expiries.keep(slot, visits);
    }
}

/// Whether an item's visit is one that is due in this slot, as far as its mark tells.
fn is_due(item: &Item, due: u64) -> bool {
    item.is_volatile() && item.mark() == mark(due)
}

#[cfg(test)]
mod tests;
