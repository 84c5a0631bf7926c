//! The locked keys of one command.

use super::heat;
use super::shard::{Place, Shard};
use super::{About, Expiry, Form, Keyspace, NewExpiry, OutOfMemory, UnixMs};
use parking_lot::MutexGuard;
use thermocline::{Lane, Peek};

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
    space: &'a Keyspace,
    locked: Locked<'a>,
    now: UnixMs,
    /// The buffer for peeking at stored values.
    buffer: Vec<u8>,
}

impl<'a> Keys<'a> {
    pub(super) fn lock<K: AsRef<[u8]>>(space: &'a Keyspace, keys: &[K], now: UnixMs) -> Self {
        let number = |key: &K| space.shard_of(space.hash(key.as_ref()));
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

    /// The key's shard, and the place of its entry there, if it exists and has not expired.
    fn find(&mut self, space: &Keyspace, key: &[u8], now: UnixMs) -> (&mut Shard, Option<Place>) {
        let hash = space.hash(key);
        let shard = self.shard(space.shard_of(hash));
        let mut place = shard.find(hash, key);
        if let Some(expired) = place
            && shard.entry(expired).has_expired(now)
        {
            let entry = shard.remove(expired);
            space.watchers.changed(|| hash);
            shard.events.expired += 1;
            space.discard(entry);
            place = None;
        }
        (shard, place)
    }
}

impl Keys<'_> {
    fn find(&mut self, key: &[u8]) -> (&mut Shard, Option<Place>) {
        self.locked.find(self.space, key, self.now)
    }

    /// The value, as long as the lock is held. Counts as a use, and as a hit or a miss.
    pub fn get(&mut self, key: &[u8]) -> Option<&[u8]> {
        let (space, buffer) = (self.space, &mut self.buffer);
        let (shard, place) = self.locked.find(space, key, self.now);
        let Some(place) = place else {
            shard.events.misses += 1;
            return None;
        };
        let record = shard.entry_mut(place).record_mut();
        let is_hot = space.record_use(record) && space.may_promote();
        let is_copy = match space.values.peek(&record.value, buffer) {
            Ok(peek) => matches!(peek, Peek::Copied(_)),
            Err(_) => {
                // The server continues without the lost value.
                shard.events.lost += 1;
                shard.events.misses += 1;
                let entry = shard.remove(place);
                space.changed(&entry);
                space.discard(entry);
                return None;
            }
        };
        if is_hot && record.value.lane() == Lane::Hot {
            if is_copy {
                space.values.ensure(&record.value);
            }
        } else if is_hot {
            let promoted = space.promote(record, is_copy.then_some(buffer.as_slice()));
            shard.events.promoted += u64::from(promoted);
        }
        shard.events.hits += 1;
        if is_copy {
            shard.events.peeked += 1;
            return Some(buffer);
        }
        Some(shard.entry(place).record().value.bytes())
    }

    /// The value, unless a part of it is lost. Does not count as a use.
    pub fn peek(&mut self, key: &[u8]) -> Option<&[u8]> {
        let (space, buffer) = (self.space, &mut self.buffer);
        let (shard, place) = self.locked.find(space, key, self.now);
        let peek = space.values.peek(&shard.entry(place?).record().value, buffer);
        match peek.ok()? {
            Peek::InMemory(bytes) | Peek::Copied(bytes) => Some(bytes),
        }
    }

    /// Does not count as a use.
    pub fn about(&mut self, key: &[u8]) -> Option<About> {
        let heat = &self.space.heat;
        let (shard, place) = self.find(key);
        let entry = shard.entry(place?);
        let record = entry.record();
        Some(About {
            expiry: entry.expiry(),
            len: record.value.len(),
            form: record.value.form,
            idle_seconds: u64::from(heat.idle(record)) / heat::TICKS_PER_SECOND,
            memory_bytes: entry.overhead() + record.value.capacity(),
        })
    }

    /// Counts as a use without a read. True if the key exists.
    pub fn touch(&mut self, key: &[u8]) -> bool {
        let space = self.space;
        let (shard, Some(place)) = self.find(key) else {
            return false;
        };
        space.record_use(shard.entry_mut(place).record_mut());
        true
    }

    /// Sets a value. If there is no room, the old value stays.
    pub fn set(&mut self, key: &[u8], value: &[u8], expiry: NewExpiry) -> Result<(), OutOfMemory> {
        let (space, now) = (self.space, self.now);
        let (shard, place) = self.find(key);
        let Some(place) = place else {
            let value = space.values.put(Lane::Default, value)?;
            let expiry = match expiry {
                NewExpiry::Keep => Expiry::Never,
                NewExpiry::Set(expiry) => expiry,
            };
            space.insert(shard, key, value, expiry, now);
            return Ok(());
        };
        let record = shard.entry_mut(place).record_mut();
        // Writing alone does not make a value hot.
        let lane = if record.value.lane() == Lane::Hot { Lane::Hot } else { Lane::Default };
        let value = space.values.put(lane, value)?;
        space.record_use(record);
        space.replace(record, value);
        space.watchers.changed(|| space.hash(key));
        if let NewExpiry::Set(expiry) = expiry {
            space.set_expiry(shard, place, expiry, now);
        }
        Ok(())
    }

    /// Sets the form of a value to [`Form::Text`], if the key exists.
    pub fn mark_text(&mut self, key: &[u8]) {
        if let (shard, Some(place)) = self.find(key) {
            shard.entry_mut(place).record_mut().value.form = Form::Text;
        }
    }

    /// Appends to a value, which becomes [`Form::Edited`], or sets the value of a missing key as a
    /// whole. Returns the new length.
    pub fn append(&mut self, key: &[u8], more: &[u8]) -> Result<usize, OutOfMemory> {
        let (shard, Some(place)) = self.find(key) else {
            self.set(key, more, NewExpiry::Keep)?;
            return Ok(more.len());
        };
        let len = shard.entry(place).record().value.len();
        self.overwrite(key, len, more)
    }

    /// Overwrites a part of a value. A missing key has an empty value, and a short value is extended with
    /// zeros. The form becomes [`Form::Edited`]. Returns the new length.
    pub fn overwrite(
        &mut self,
        key: &[u8],
        offset: usize,
        bytes: &[u8],
    ) -> Result<usize, OutOfMemory> {
        let (space, now) = (self.space, self.now);
        let (shard, place) = self.find(key);
        let Some(place) = place else {
            let mut value = space.values.put(Lane::Default, &[])?;
            space.values.write(&mut value, offset, bytes)?;
            value.form = Form::Edited;
            let len = value.len();
            space.insert(shard, key, value, Expiry::Never, now);
            return Ok(len);
        };
        let record = shard.entry_mut(place).record_mut();
        space.record_use(record);
        let before = record.value.capacity();
        let written = space.values.write(&mut record.value, offset, bytes);
        record.value.form = Form::Edited;
        space.resized(record, before);
        space.watchers.changed(|| space.hash(key));
        written.map(|()| record.value.len())
    }

    /// Removes a key. True if it existed.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let space = self.space;
        let (shard, Some(place)) = self.find(key) else {
            return false;
        };
        let entry = shard.remove(place);
        space.changed(&entry);
        space.discard(entry);
        true
    }

    /// Moves the value and expiry of `from` to `to`, and drops those of `to`. True if `from` existed.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> bool {
        let (space, now) = (self.space, self.now);
        let (shard, Some(place)) = self.find(from) else {
            return false;
        };
        let was = shard.remove(place);
        space.changed(&was);
        let expiry = was.expiry();
        space.uncount(&was);
        let value = was.into_value();
        self.remove(to);
        let (shard, _) = self.find(to);
        space.insert(shard, to, value, expiry, now);
        true
    }

    /// Copies the value, form and expiry of `from` to `to`, and drops those of `to`. True if `from`
    /// existed. If there is no room, the old value of `to` stays.
    pub fn copy(&mut self, from: &[u8], to: &[u8]) -> Result<bool, OutOfMemory> {
        let (space, now) = (self.space, self.now);
        let Some(About { expiry, form, .. }) = self.about(from) else {
            return Ok(false);
        };
        let Some(bytes) = self.peek(from) else {
            return Ok(false);
        };
        let mut value = space.values.put(Lane::Default, bytes)?;
        value.form = form;
        let (shard, place) = self.find(to);
        match place {
            Some(place) => {
                space.replace(shard.entry_mut(place).record_mut(), value);
                space.set_expiry(shard, place, expiry, now);
                space.watchers.changed(|| space.hash(to));
            }
            None => space.insert(shard, to, value, expiry, now),
        }
        Ok(true)
    }

    /// Sets an expiry. True if the key exists. An expiry in the past removes the key.
    pub fn set_expiry(&mut self, key: &[u8], expiry: Expiry) -> bool {
        let (space, now) = (self.space, self.now);
        let (shard, Some(place)) = self.find(key) else {
            return false;
        };
        space.set_expiry(shard, place, expiry, now);
        // This finds the key expired and removes it.
        self.find(key);
        true
    }
}
