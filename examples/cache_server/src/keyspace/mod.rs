//! The keys and their values.
//!
//! The index lies outside the arena, in shards with a lock each; values lie in the arena. A command
//! locks the shards of the keys that it names, all at once and in order, so that it is atomic as it
//! is in Redis, and works on what [`Keys`] shows of them. Expired values are never shown.

#![allow(dead_code)]

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;

/// Milliseconds since the epoch.
pub type UnixMs = i64;

/// No room: the arena or `maxmemory` is full, and nothing may or can be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

/// Whether the value of a key is one that passes, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    Never,
    At(UnixMs),
}

impl Expiry {
    pub fn passed(self, now: UnixMs) -> bool {
        matches!(self, Self::At(at) if at <= now)
    }
}

/// What becomes of a key's expiry when it gets a new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewExpiry {
    Keep,
    Set(Expiry),
}

/// How a value came to be: what `OBJECT ENCODING` tells and the value's bytes do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Set as a whole.
    #[default]
    Whole,
    /// Set as a whole, and never an integer though it may look like one: by `INCRBYFLOAT`.
    Text,
    /// Changed in part.
    Edited,
}

/// What is known about a value without looking at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    pub expiry: Expiry,
    pub form: Form,
    pub len: usize,
    /// Since it was last read or written.
    pub idle_seconds: u64,
    /// Key, value, and what is kept about them.
    pub memory_bytes: usize,
}

type All = BTreeMap<Vec<u8>, (Vec<u8>, Expiry, Form)>;

/// All keys and values.
#[derive(Debug)]
pub struct Keyspace {
    all: Mutex<All>,
}

impl Keyspace {
    pub fn new() -> Self {
        Self { all: Mutex::default() }
    }

    /// Room for a command that may need more memory: evicts, by `maxmemory-policy`, until what is
    /// used is within `maxmemory`. To be called before [`keys`](Self::keys), as it takes locks.
    pub fn make_room(&self) -> Result<(), OutOfMemory> {
        Ok(())
    }

    /// Locks the shards of these keys, for a command that happens at `now`. While the result lives
    /// its thread must lock nothing else here.
    pub fn keys<K: AsRef<[u8]>>(&self, _keys: &[K], now: UnixMs) -> Keys<'_> {
        Keys { all: self.all.lock(), now }
    }

    /// Brings back what of these keys' values has been evicted, before a batch of commands reads
    /// them: without locks held, in this thread.
    pub fn prepare<K: AsRef<[u8]>>(&self, _keys: &[K]) {}

    /// Keys, expired ones that nobody has noticed included.
    pub fn len(&self) -> usize {
        self.all.lock().len()
    }

    /// Keys that have an expiry.
    pub fn volatile(&self) -> usize {
        self.all.lock().values().filter(|v| v.1 != Expiry::Never).count()
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.all.lock().clear();
    }

    /// A key, each as likely as any other (about).
    pub fn random_key(&self, now: UnixMs) -> Option<Vec<u8>> {
        let all = self.all.lock();
        all.iter().find(|(_, value)| !value.1.passed(now)).map(|(key, _)| key.clone())
    }

    /// Shows at least `count` keys behind `cursor`, unless the end comes first, and returns where to
    /// go on: 0 at the end. A key that is there from the first call to the last is shown at least
    /// once, whatever happens to others meanwhile.
    pub fn scan(
        &self,
        _cursor: u64,
        _count: usize,
        now: UnixMs,
        show: &mut dyn FnMut(&[u8]),
    ) -> u64 {
        let all = self.all.lock();
        all.iter().filter(|(_, value)| !value.1.passed(now)).for_each(|(key, _)| show(key));
        0
    }

    /// Removes some of what has expired. Called ten times a second.
    pub fn expire_some(&self, _now: UnixMs) {}
}

/// The keys of one command, locked. Keys that were not named to [`Keyspace::keys`] panic.
#[derive(Debug)]
pub struct Keys<'a> {
    all: MutexGuard<'a, All>,
    now: UnixMs,
}

impl Keys<'_> {
    /// The value, in memory, as it is while the lock is held. Counts as a use.
    pub fn get(&mut self, key: &[u8]) -> Option<&[u8]> {
        self.about(key)?;
        Some(&self.all.get(key)?.0)
    }

    /// As [`get`](Self::get), but counts as no use.
    pub fn peek(&mut self, key: &[u8]) -> Option<&[u8]> {
        self.about(key)?;
        Some(&self.all.get(key)?.0)
    }

    /// Counts as no use.
    pub fn about(&mut self, key: &[u8]) -> Option<About> {
        let (value, expiry, form) = self.all.get(key)?;
        if expiry.passed(self.now) {
            self.all.remove(key);
            return None;
        }
        let (len, expiry, form) = (value.len(), *expiry, *form);
        Some(About { expiry, form, len, idle_seconds: 0, memory_bytes: len })
    }

    /// Counts as a use of the value that is not looked at; whether it is there.
    pub fn touch(&mut self, key: &[u8]) -> bool {
        self.about(key).is_some()
    }

    /// Sets a value, [`Form::Whole`]. When there is no room the old value stays.
    pub fn set(&mut self, key: &[u8], value: &[u8], expiry: NewExpiry) -> Result<(), OutOfMemory> {
        let expiry = match expiry {
            NewExpiry::Keep => self.about(key).map_or(Expiry::Never, |a| a.expiry),
            NewExpiry::Set(expiry) => expiry,
        };
        self.all.insert(key.to_vec(), (value.to_vec(), expiry, Form::Whole));
        Ok(())
    }

    /// Makes a value, if there is one, [`Form::Text`].
    pub fn mark_text(&mut self, key: &[u8]) {
        if let Some(value) = self.all.get_mut(key) {
            value.2 = Form::Text;
        }
    }

    /// Appends to a value, which makes it [`Form::Edited`], or sets that of a missing key as a
    /// whole; its length after that.
    pub fn append(&mut self, key: &[u8], more: &[u8]) -> Result<usize, OutOfMemory> {
        if self.about(key).is_none() {
            self.set(key, more, NewExpiry::Set(Expiry::Never))?;
            return Ok(more.len());
        }
        let value = self.all.get_mut(key).expect("just seen");
        value.2 = Form::Edited;
        value.0.extend_from_slice(more);
        Ok(value.0.len())
    }

    /// Overwrites a part of a value, that of a missing key being empty, which grows with zeros where
    /// it is too short and becomes [`Form::Edited`]; its length after. `bytes` are not empty.
    pub fn overwrite(
        &mut self,
        key: &[u8],
        offset: usize,
        bytes: &[u8],
    ) -> Result<usize, OutOfMemory> {
        self.about(key);
        let missing = (Vec::new(), Expiry::Never, Form::Edited);
        let value = self.all.entry(key.to_vec()).or_insert(missing);
        value.2 = Form::Edited;
        if value.0.len() < offset + bytes.len() {
            value.0.resize(offset + bytes.len(), 0);
        }
        value.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(value.0.len())
    }

    /// Whether there was one.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.about(key).is_some() && self.all.remove(key).is_some()
    }

    /// Gives the value and expiry of `from` to `to`, whatever that had; whether `from` was there.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> bool {
        if self.about(from).is_none() {
            return false;
        }
        let value = self.all.remove(from).expect("just seen");
        self.all.insert(to.to_vec(), value);
        true
    }

    /// Gives a copy of the value, form and expiry of `from` to `to`, whatever that had; whether
    /// `from` was there. When there is no room the old value of `to` stays.
    pub fn copy(&mut self, from: &[u8], to: &[u8]) -> Result<bool, OutOfMemory> {
        if self.about(from).is_none() {
            return Ok(false);
        }
        let value = self.all[from].clone();
        self.all.insert(to.to_vec(), value);
        Ok(true)
    }

    /// Whether the key is there. An expiry that has passed already removes it.
    pub fn set_expiry(&mut self, key: &[u8], expiry: Expiry) -> bool {
        if self.about(key).is_none() {
            return false;
        }
        self.all.get_mut(key).expect("just seen").1 = expiry;
        true
    }
}
