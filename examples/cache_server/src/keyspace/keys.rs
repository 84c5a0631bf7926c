//! The keys of one command, locked.

use super::heat;
use super::shard::{Place, Shard};
use super::{About, Expiry, Form, Keyspace, NewExpiry, OutOfMemory, UnixMs};
use parking_lot::MutexGuard;
use thermocline::{Lane, Peek};

/// The shards that a command has locked.
#[derive(Debug)]
enum Locked<'a> {
    One(usize, MutexGuard<'a, Shard>),
    /// In the order of their numbers.
    Some(Vec<(usize, MutexGuard<'a, Shard>)>),
}

/// The keys of one command, locked. Methods panic on keys that were not named to
/// [`Keyspace::keys`], unless their shard is locked for another.
#[derive(Debug)]
pub struct Keys<'a> {
    space: &'a Keyspace,
    locked: Locked<'a>,
    now: UnixMs,
    /// Where values are read that are stored.
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

    /// The key's shard, and its place there if it has a value that has not expired.
    fn find(&mut self, space: &Keyspace, key: &[u8], now: UnixMs) -> (&mut Shard, Option<Place>) {
        let hash = space.hash(key);
        let shard = self.shard(space.shard_of(hash));
        let mut place = shard.find(hash, key);
        if let Some(expired) = place
            && shard.entry(expired).has_expired(now)
        {
            let entry = shard.remove(expired);
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

    /// The value as it is while the lock is held. Counts as a use, and as a hit or a miss.
    pub fn get(&mut self, key: &[u8]) -> Option<&[u8]> {
        let (space, buffer) = (self.space, &mut self.buffer);
        let (shard, place) = self.locked.find(space, key, self.now);
        let Some(place) = place else {
            shard.events.misses += 1;
            return None;
        };
        let record = shard.entry_mut(place).record_mut();
        let is_hot = space.heat.used(record);
        let is_copy = match space.values.peek(&record.value, buffer) {
            Ok(peek) => matches!(peek, Peek::Copied(_)),
            Err(_) => {
                // A cache without the value is better than none.
                shard.events.lost += 1;
                shard.events.misses += 1;
                let entry = shard.remove(place);
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

    /// The value, where nothing of it is lost. Counts as no use.
    pub fn peek(&mut self, key: &[u8]) -> Option<&[u8]> {
        let (space, buffer) = (self.space, &mut self.buffer);
        let (shard, place) = self.locked.find(space, key, self.now);
        let peek = space.values.peek(&shard.entry(place?).record().value, buffer);
        match peek.ok()? {
            Peek::InMemory(bytes) | Peek::Copied(bytes) => Some(bytes),
        }
    }

    /// Counts as no use.
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

    /// Counts as a use of the value that is not looked at; whether it is there.
    pub fn touch(&mut self, key: &[u8]) -> bool {
        let space = self.space;
        let (shard, Some(place)) = self.find(key) else {
            return false;
        };
        space.heat.used(shard.entry_mut(place).record_mut());
        true
    }

    /// Sets a value. When there is no room the old value stays.
    pub fn set(&mut self, key: &[u8], value: &[u8], expiry: NewExpiry) -> Result<(), OutOfMemory> {
        let space = self.space;
        let (shard, place) = self.find(key);
        let Some(place) = place else {
            let value = space.values.put(Lane::Default, value)?;
            let expiry = match expiry {
                NewExpiry::Keep => Expiry::Never,
                NewExpiry::Set(expiry) => expiry,
            };
            space.insert(shard, key, value, expiry);
            return Ok(());
        };
        let record = shard.entry_mut(place).record_mut();
        // What is written seldom is not worth a place among what is hot.
        let lane = if record.value.lane() == Lane::Hot { Lane::Hot } else { Lane::Default };
        let value = space.values.put(lane, value)?;
        space.heat.used(record);
        space.replace(record, value);
        if let NewExpiry::Set(expiry) = expiry {
            space.set_expiry(shard, place, expiry);
        }
        Ok(())
    }

    /// Makes a value, if there is one, [`Form::Text`].
    pub fn mark_text(&mut self, key: &[u8]) {
        if let (shard, Some(place)) = self.find(key) {
            shard.entry_mut(place).record_mut().value.form = Form::Text;
        }
    }

    /// Appends to a value, which makes it [`Form::Edited`], or sets that of a missing key as a
    /// whole; its length after that.
    pub fn append(&mut self, key: &[u8], more: &[u8]) -> Result<usize, OutOfMemory> {
        let (shard, Some(place)) = self.find(key) else {
            self.set(key, more, NewExpiry::Keep)?;
            return Ok(more.len());
        };
        let len = shard.entry(place).record().value.len();
        self.overwrite(key, len, more)
    }

    /// Overwrites a part of a value, that of a missing key being empty, which grows with zeros where
    /// it is too short and becomes [`Form::Edited`]; its length after.
    pub fn overwrite(
        &mut self,
        key: &[u8],
        offset: usize,
        bytes: &[u8],
    ) -> Result<usize, OutOfMemory> {
        let space = self.space;
        let (shard, place) = self.find(key);
        let Some(place) = place else {
            let mut value = space.values.put(Lane::Default, &[])?;
            space.values.write(&mut value, offset, bytes)?;
            value.form = Form::Edited;
            let len = value.len();
            space.insert(shard, key, value, Expiry::Never);
            return Ok(len);
        };
        let record = shard.entry_mut(place).record_mut();
        space.heat.used(record);
        let before = record.value.capacity();
        let written = space.values.write(&mut record.value, offset, bytes);
        record.value.form = Form::Edited;
        space.resized(record, before);
        written.map(|()| record.value.len())
    }

    /// Whether there was one.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let space = self.space;
        let (shard, Some(place)) = self.find(key) else {
            return false;
        };
        let entry = shard.remove(place);
        space.discard(entry);
        true
    }

    /// Gives the value and expiry of `from` to `to`, whatever that had; whether `from` was there.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> bool {
        let space = self.space;
        let (shard, Some(place)) = self.find(from) else {
            return false;
        };
        let was = shard.remove(place);
        let expiry = was.expiry();
        space.uncount(&was);
        let value = was.into_value();
        self.remove(to);
        let (shard, _) = self.find(to);
        space.insert(shard, to, value, expiry);
        true
    }

    /// Gives a copy of the value, its form and expiry of `from` to `to`, whatever that had; whether
    /// `from` was there. When there is no room the old value of `to` stays.
    pub fn copy(&mut self, from: &[u8], to: &[u8]) -> Result<bool, OutOfMemory> {
        let space = self.space;
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
                space.set_expiry(shard, place, expiry);
            }
            None => space.insert(shard, to, value, expiry),
        }
        Ok(true)
    }

    /// Whether the key is there. An expiry that has passed already removes it.
    pub fn set_expiry(&mut self, key: &[u8], expiry: Expiry) -> bool {
        let space = self.space;
        let (shard, Some(place)) = self.find(key) else {
            return false;
        };
        space.set_expiry(shard, place, expiry);
        // What has passed is gone when it is looked for.
        self.find(key);
        true
    }
}
