//! Clients that watch keys: `WATCH`, and the gate that makes `EXEC` atomic.
//!
//! A command on a few keys locks their shards, which makes it atomic. `EXEC` executes many commands of any kind.
//! So it closes the *gate* for that time: every worker opens it for a batch of commands, and the maintenance for
//! each of its steps.
//!
//! A change of a key marks its watchers, under the lock of the key's shard. A client begins to watch under the same
//! lock, so it misses no change.

use super::shard::Spot;
use super::{Keyspace, UnixMs};
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// The keys that one client watches.
#[derive(Debug, Default)]
pub struct Watched {
    keys: Vec<Vec<u8>>,
    is_changed: Arc<AtomicBool>,
}

impl Watched {
    /// Whether a watched key has changed, or has expired.
    pub fn is_changed(&self) -> bool {
        self.is_changed.load(Relaxed)
    }
}

/// The watchers of all keys.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    /// The marks of the watchers by the key's spot. Keys with the same spot share their changes: one pair of keys
    /// in two thousand million.
    by_spot: Mutex<HashMap<Spot, Vec<Arc<AtomicBool>>>>,
    /// The number of spots.
    count: AtomicUsize,
    gate: RwLock<()>,
}

impl Watchers {
    /// Records a change of a key, whose shard is locked.
    pub(super) fn changed(&self, spot: Spot) {
        // Relaxed: the lock of the shard orders this after the beginning of the watch.
        if self.count.load(Relaxed) > 0 {
            self.mark(spot);
        }
    }

    #[cold]
    fn mark(&self, spot: Spot) {
        let by_spot = self.by_spot.lock();
        let marks = by_spot.get(&spot);
        marks.into_iter().flatten().for_each(|mark| mark.store(true, Relaxed));
    }

    fn begin(&self, spot: Spot, mark: &Arc<AtomicBool>) {
        let mut by_spot = self.by_spot.lock();
        by_spot.entry(spot).or_default().push(Arc::clone(mark));
        self.count.store(by_spot.len(), Relaxed);
    }

    fn end(&self, spot: Spot, mark: &Arc<AtomicBool>) {
        let mut by_spot = self.by_spot.lock();
        if let Some(marks) = by_spot.get_mut(&spot) {
            marks.retain(|other| !Arc::ptr_eq(other, mark));
            if marks.is_empty() {
                by_spot.remove(&spot);
            }
        }
        self.count.store(by_spot.len(), Relaxed);
    }
}

impl Keyspace {
    /// Begins to watch a key.
    pub fn watch(&self, watched: &mut Watched, key: &[u8], now: UnixMs) {
        if watched.keys.iter().any(|watched| watched == key) {
            return;
        }
        let mut keys = self.keys(&[key], now);
        // Removes the key if it has expired, which is no change after this.
        keys.about(key);
        self.watchers.begin(self.spot(key), &watched.is_changed);
        watched.keys.push(key.to_vec());
    }

    /// Ends the watch of all keys.
    pub fn unwatch(&self, watched: &mut Watched) {
        for key in watched.keys.drain(..) {
            self.watchers.end(self.spot(&key), &watched.is_changed);
        }
        watched.is_changed.store(false, Relaxed);
    }

    /// Marks the watcher of a key that has expired by now.
    pub fn notice_expired(&self, watched: &Watched, now: UnixMs) {
        for key in &watched.keys {
            self.keys(&[key], now).about(key);
        }
    }

    /// Opens the gate for commands that are atomic by themselves. A thread must not open it twice.
    pub fn open_gate(&self) -> RwLockReadGuard<'_, ()> {
        self.watchers.gate.read()
    }

    /// Closes the gate for several commands that are atomic together.
    pub fn close_gate(&self) -> RwLockWriteGuard<'_, ()> {
        self.watchers.gate.write()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Expiry, NewExpiry, Options};
    use super::*;
    use std::time::Duration;
    use thermocline::Arena;

    type Change = fn(&Keyspace);

    fn keyspace() -> Keyspace {
        let arena = Arena::builder().plain_memory_fallback(true).build().unwrap();
        let space = Keyspace::new(arena, Options::default());
        for key in [b"here", b"soon"] {
            let expiry = if key == b"soon" { Expiry::At(50) } else { Expiry::Never };
            space.keys(&[key], 0).set(key, b"1", NewExpiry::Set(expiry)).unwrap();
        }
        space
    }

    /// Whether a client that watches these keys notices the change.
    fn notices(keys: &[&str], change: Change) -> bool {
        let space = keyspace();
        let mut watched = Watched::default();
        keys.iter().for_each(|key| space.watch(&mut watched, key.as_bytes(), 0));
        change(&space);
        let changed = watched.is_changed();
        space.unwatch(&mut watched);
        assert!(!watched.is_changed() && space.watchers.count.load(Relaxed) == 0);
        changed
    }

    #[test]
    fn watchers_notice_every_change_of_their_keys() {
        const KEYS: [&str; 3] = ["here", "missing", "soon"];
        let changes: [Change; 12] = [
            |s| s.keys(&[b"here"], 0).set(b"here", b"1", NewExpiry::Keep).unwrap(),
            |s| s.keys(&[b"missing"], 0).set(b"missing", b"1", NewExpiry::Keep).unwrap(),
            |s| assert_eq!(s.keys(&[b"here"], 0).append(b"here", b""), Ok(1)),
            |s| assert_eq!(s.keys(&[b"here"], 0).overwrite(b"here", 0, b"x"), Ok(1)),
            |s| assert!(s.keys(&[b"here"], 0).remove(b"here")),
            |s| assert!(s.keys(&[b"here"], 0).set_expiry(b"here", Expiry::At(99)).unwrap()),
            |s| assert!(s.keys(&[&b"here"[..], b"other"], 0).rename(b"here", b"other").unwrap()),
            |s| assert!(s.keys(&[&b"here"[..], b"missing"], 0).copy(b"here", b"missing").unwrap()),
            |s| s.clear(),
            |s| s.tend(1000),
            |s| assert_eq!(s.evict_down_to(0, Duration::from_secs(60)), Ok(true)),
            |s| assert_eq!(s.keys(&[b"soon"], 50).get(b"soon"), None),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert!(notices(&KEYS, change), "{index}");
            assert!(!notices(&["another"], change), "{index}");
        }
        let reads: [Change; 6] = [
            |s| assert!(s.keys(&[b"here"], 0).get(b"here").is_some()),
            |s| assert!(s.keys(&[b"here"], 0).touch(b"here")),
            |s| assert!(s.keys(&[b"here"], 0).set_expiry(b"here", Expiry::Never).unwrap()),
            |s| assert!(!s.keys(&[b"missing"], 0).remove(b"missing")),
            |s| drop(s.random_key(0)),
            |s| s.tend(0),
        ];
        for (index, read) in reads.into_iter().enumerate() {
            assert!(!notices(&KEYS, read), "{index}");
        }
    }

    #[test]
    fn a_watched_key_that_expires_is_a_change_unless_it_had_expired_before() {
        let space = keyspace();
        let mut watched = Watched::default();
        space.watch(&mut watched, b"soon", 49);
        space.notice_expired(&watched, 49);
        assert!(!watched.is_changed());
        space.notice_expired(&watched, 50);
        assert!(watched.is_changed());
        space.unwatch(&mut watched);
        space.keys(&[b"soon"], 0).set(b"soon", b"1", NewExpiry::Set(Expiry::At(50))).unwrap();
        space.watch(&mut watched, b"soon", 50);
        space.tend(10_000);
        assert!(!watched.is_changed());
        space.unwatch(&mut watched);
    }
}
