//! The locked keys of one command.

use super::block::Head;
use super::changes::expires;
use super::find::{Found, Value};
use super::heat;
use super::shard::{Shard, Spot};
use super::{About, Expiry, Form, Keyspace, NewExpiry, OutOfMemory, UnixMs};
use parking_lot::MutexGuard;
use thermocline::Lane;

/// The shards that a command has locked.
#[derive(Debug)]
enum Locked<'a> {
    One(usize, MutexGuard<'a, Shard>),
    /// In the order of their indices.
    Some(Vec<(usize, MutexGuard<'a, Shard>)>),
}

/// The locked keys of one command. Methods panic on keys that were not passed to [`Keyspace::keys`],
/// unless another key has locked their shard.
#[derive(Debug)]
pub struct Keys<'a> {
    pub(super) space: &'a Keyspace,
    locked: Locked<'a>,
    pub(super) now: UnixMs,
    /// The buffer for peeking at stored blocks.
    buffer: Vec<u8>,
}

/// A look-up of one key.
pub(super) struct Lookup<'a> {
    pub(super) shard: &'a mut Shard,
    pub(super) spot: Spot,
    pub(super) found: Option<Found>,
    pub(super) buffer: &'a mut Vec<u8>,
}

impl<'a> Keys<'a> {
    pub(super) fn lock<K: AsRef<[u8]>>(space: &'a Keyspace, keys: &[K], now: UnixMs) -> Self {
        let number = |key: &K| space.spot(key.as_ref()).shard();
        let locked = match keys {
            [key] => {
                let number = number(key);
                Locked::One(number, space.shards[number].lock())
            }
            _ => {
                let mut numbers: Vec<usize> = keys.iter().map(number).collect();
                numbers.sort_unstable();
                numbers.dedup();
                Locked::Some(numbers.into_iter().map(|n| (n, space.shards[n].lock())).collect())
            }
        };
        Self { space, locked, now, buffer: Vec::new() }
    }
}

impl Locked<'_> {
    fn shard(&mut self, number: usize) -> &mut Shard {
        match self {
            Locked::One(only, shard) => {
                assert_eq!(*only, number, "a key that was not named");
                shard
            }
            Locked::Some(shards) => {
                let found = shards.binary_search_by_key(&number, |(number, _)| *number);
                &mut shards[found.expect("a key that was not named")].1
            }
        }
    }
}

impl Keys<'_> {
    pub(super) fn find(&mut self, key: &[u8]) -> Lookup<'_> {
        let spot = self.space.spot(key);
        let (shard, buffer) = (self.locked.shard(spot.shard()), &mut self.buffer);
        let found = self.space.find(shard, spot, key, self.now, buffer);
        Lookup { shard, spot, found, buffer }
    }

    /// The value, as long as the lock is held. Counts as a use, and as a hit or a miss.
    pub fn get(&mut self, key: &[u8]) -> Option<&[u8]> {
        let space = self.space;
        let Lookup { shard, spot, found, buffer } = self.find(key);
        let Some(found) = found else {
            shard.events.misses += 1;
            return None;
        };
        let item = shard.item_mut(found.place);
        let is_hot = space.record_use(item, &found.head, found.is_copy) && space.may_promote();
        if is_hot && item.is_hot() {
            if found.is_copy {
                space.items.ensure(item);
            }
        } else if is_hot {
            let promoted = space.promote(item, found.is_copy.then_some(buffer.as_slice()));
            shard.events.promoted += u64::from(promoted);
        }
        let Ok(value) = space.load(shard, &found, buffer) else {
            // A later page of a large block.
            space.lose(shard, found.place, spot);
            shard.events.misses += 1;
            return None;
        };
        shard.events.hits += 1;
        shard.events.peeked += u64::from(matches!(value, Value::InBuffer(_)));
        Some(space.value(shard, found.place, value, buffer))
    }

    /// The value, unless a part of it is lost. Does not count as a use.
    pub fn peek(&mut self, key: &[u8]) -> Option<&[u8]> {
        let space = self.space;
        let Lookup { shard, found, buffer, .. } = self.find(key);
        let found = found?;
        let value = space.load(shard, &found, buffer).ok()?;
        Some(space.value(shard, found.place, value, buffer))
    }

    /// Does not count as a use.
    pub fn about(&mut self, key: &[u8]) -> Option<About> {
        let space = self.space;
        let Lookup { shard, found, .. } = self.find(key);
        let Found { place, head, .. } = found?;
        let item = shard.item(place);
        Some(About {
            expiry: head.expires.map_or(Expiry::Never, Expiry::At),
            len: head.value_len(),
            form: head.form,
            idle_seconds: u64::from(space.idle(item, &head)) / heat::TICKS_PER_SECOND,
            memory_bytes: space.size_of(item),
        })
    }

    /// Counts as a use without a read. True if the key exists.
    pub fn touch(&mut self, key: &[u8]) -> bool {
        let space = self.space;
        let Lookup { shard, found: Some(found), .. } = self.find(key) else { return false };
        space.record_use(shard.item_mut(found.place), &found.head, found.is_copy);
        true
    }

    /// Sets a value. If there is no room, the old value stays.
    pub fn set(&mut self, key: &[u8], value: &[u8], expiry: NewExpiry) -> Result<(), OutOfMemory> {
        let new = match expiry {
            NewExpiry::Keep => None,
            NewExpiry::Set(expiry) => Some(expires(expiry)),
        };
        self.store(key, value, new, Form::Whole)
    }

    /// Sets a value, its form, and its expiry, if there is a new one.
    pub(super) fn store(
        &mut self,
        key: &[u8],
        value: &[u8],
        expires: Option<Option<UnixMs>>,
        form: Form,
    ) -> Result<(), OutOfMemory> {
        let (space, now) = (self.space, self.now);
        let Lookup { shard, spot, found, .. } = self.find(key);
        let before = found.and_then(|found| found.head.expires);
        let expires = expires.unwrap_or(before);
        let head = Head::new(key.len(), value.len(), expires).ok_or(OutOfMemory)?;
        let head = Head { form, ..head };
        match found {
            None => {
                let item = space.put(Lane::Default, spot, head, key, value)?;
                let mark = space.schedule(spot, expires, None, 0, now);
                space.insert(shard, spot, item, mark);
            }
            Some(Found { place, head: old_head, .. }) => {
                let old = shard.item(place);
                let head = Head { heat: space.heat_after_use(old, &old_head), ..head };
                // Writing alone does not make a value hot.
                let lane = if old.is_hot() { Lane::Hot } else { Lane::Default };
                let mark = old.mark();
                let item = space.put(lane, spot, head, key, value)?;
                let mark = space.schedule(spot, expires, before, mark, now);
                space.replace(shard, place, item, mark);
                space.changed(spot);
            }
        }
        Ok(())
    }

    /// Sets the form of a value to [`Form::Text`], if the key exists.
    pub fn mark_text(&mut self, key: &[u8]) {
        let space = self.space;
        if let Lookup { shard, found: Some(found), .. } = self.find(key) {
            let head = Head { form: Form::Text, ..found.head };
            head.write(space.items.bytes_mut(shard.item_mut(found.place)));
        }
    }

    /// Removes a key. True if it existed.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let space = self.space;
        let Lookup { shard, spot, found: Some(found), .. } = self.find(key) else { return false };
        space.remove(shard, found.place, spot);
        true
    }

    /// Moves the value and expiry of `from` to `to`, and drops those of `to`. True if `from` existed. If there
    /// is no room, nothing changes.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<bool, OutOfMemory> {
        let copied = self.copy(from, to)?;
        if copied {
            self.remove(from);
        }
        Ok(copied)
    }

    /// Copies the value, form and expiry of `from` to `to`, and drops those of `to`. True if `from`
    /// existed. If there is no room, the old value of `to` stays.
    pub fn copy(&mut self, from: &[u8], to: &[u8]) -> Result<bool, OutOfMemory> {
        let space = self.space;
        let Lookup { shard, spot, found: Some(found), buffer } = self.find(from) else {
            return Ok(false);
        };
        let Head { expires, form, .. } = found.head;
        let Ok(value) = space.load(shard, &found, buffer) else {
            space.lose(shard, found.place, spot);
            return Ok(false);
        };
        let value = space.value(shard, found.place, value, buffer).to_vec();
        self.store(to, &value, Some(expires), form)?;
        Ok(true)
    }
}
