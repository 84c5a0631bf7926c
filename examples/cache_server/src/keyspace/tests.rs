//! The keyspace compared with a plain map, and its maintenance.

use super::*;
use clap::ValueEnum;
use std::collections::BTreeMap;
use std::thread;

mod sleep;

fn arena() -> Arena {
    Arena::builder()
        .scan_interval(Duration::from_secs(3600))
        .cold_age(Duration::from_secs(3600))
        .plain_memory_fallback(true)
        .build()
        .unwrap()
}

fn space() -> Keyspace {
    Keyspace::new(arena(), Options::default())
}

/// Evicts all pages that can be evicted; none in plain memory.
fn evict(space: &Keyspace) {
    match space.arena().evict_now() {
        Ok(_) | Err(ArenaError::NotSwapping) => {}
        Err(e) => panic!("{e}"),
    }
}

/// Checks that the index and the sums contain exactly the existing keys.
fn check(space: &Keyspace) {
    let mut used = 0;
    let mut hot = 0;
    for shard in &space.shards {
        let shard = shard.lock();
        shard.check();
        used += shard.items().map(|item| space.size_of(item)).sum::<usize>();
        let hot_items = shard.items().filter(|item| item.is_hot());
        hot += hot_items.map(|item| space.items.size(item)).sum::<usize>();
    }
    assert_eq!((space.used_bytes(), space.hot_bytes()), (used, hot));
    space.arena().check().unwrap();
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    /// Bytes that differ from other bytes of the same length.
    fn bytes(&mut self) -> Vec<u8> {
        let len = [0, 1, 5, 100, 1000, 5000, 20_000][self.below(7)];
        let first = self.below(251);
        (0..len).map(|n| ((n / 3 + first) % 251) as u8).collect()
    }
}

/// The expected contents of a keyspace.
#[derive(Default)]
struct Model(BTreeMap<Vec<u8>, (Vec<u8>, Expiry)>);

impl Model {
    fn entry(&mut self, key: &[u8]) -> &mut (Vec<u8>, Expiry) {
        self.0.entry(key.to_vec()).or_insert((Vec::new(), Expiry::Never))
    }

    fn expire(&mut self, now: UnixMs) {
        self.0.retain(|_, (_, expiry)| !matches!(expiry, Expiry::At(at) if *at <= now));
    }
}

#[test]
fn a_keyspace_behaves_like_a_map() {
    let space = space();
    let mut model = Model::default();
    let mut random = Random(88_172_645_463_325_252);
    let mut names: Vec<Vec<u8>> = (0..60).map(|n| format!("key:{n}").into_bytes()).collect();
    // Some keys are longer than a page, and than the first part of a block that a look-up reads.
    for (n, len) in [300, 5000, 9000, 40_000].into_iter().enumerate() {
        names[n].resize(len, b'x');
    }
    for step in 0..30_000i64 {
        let now = step;
        model.expire(now);
        space.heat.tick(step as u32 / 10);
        if random.below(30) == 0 {
            evict(&space);
        }
        let key = &names[random.below(names.len())];
        let other = &names[random.below(names.len())];
        let mut keys = space.keys(&[key, other], now);
        let expiry = match random.below(3) {
            0 => Expiry::At(now + random.below(2000) as i64 - 100),
            _ => Expiry::Never,
        };
        match random.below(12) {
            0..3 => assert_eq!(keys.get(key), model.0.get(key).map(|v| &*v.0)),
            3 => {
                let value = random.bytes();
                let old = model.0.get(key).map_or(Expiry::Never, |v| v.1);
                let (new, after) = match random.below(2) {
                    0 => (NewExpiry::Keep, old),
                    _ => (NewExpiry::Set(expiry), expiry),
                };
                keys.set(key, &value, new).unwrap();
                *model.entry(key) = (value, after);
            }
            4 => {
                let more = random.bytes();
                let value = &mut model.entry(key).0;
                value.extend_from_slice(&more);
                assert_eq!(keys.append(key, &more), Ok(value.len()));
                if value.len() > 1 << 16 {
                    keys.remove(key);
                    model.0.remove(key);
                }
            }
            5 => {
                let (offset, bytes) = (random.below(9000), random.bytes());
                let value = &mut model.entry(key).0;
                let end = offset + bytes.len();
                value.resize(value.len().max(end), 0);
                value[offset..end].copy_from_slice(&bytes);
                assert_eq!(keys.overwrite(key, offset, &bytes), Ok(value.len()));
            }
            6 => assert_eq!(keys.remove(key), model.0.remove(key).is_some()),
            7 if key != other => {
                let moved = model.0.remove(key);
                assert_eq!(keys.rename(key, other), Ok(moved.is_some()));
                moved.map(|value| model.0.insert(other.clone(), value));
            }
            8 => {
                let found = model.0.get_mut(key).map(|value| value.1 = expiry).is_some();
                assert_eq!(keys.set_expiry(key, expiry), Ok(found));
            }
            9 => {
                let about = keys.about(key);
                let expected = model.0.get(key).map(|(value, expiry)| (value.len(), *expiry));
                assert_eq!(about.map(|a| (a.len, a.expiry)), expected);
            }
            _ if step % 50 == 0 => {
                drop(keys);
                evict(&space);
                space.expire(now, Duration::from_secs(60));
                // The wheel removes a key up to a slot later.
                names.iter().for_each(|name| {
                    assert!(
                        space.keys(&[name], now).about(name).is_some()
                            == model.0.contains_key(name)
                    )
                });
                check(&space);
                assert_eq!(space.len(), model.0.len());
            }
            _ => assert_eq!(keys.touch(key), model.0.contains_key(key)),
        }
    }
    let events = space.events();
    assert!(events.promoted > 0 && events.expired > 0 && events.hits > events.misses / 10);
    space.clear();
    check(&space);
    assert_eq!((space.len(), space.used_bytes(), space.volatile()), (0, 0, 0));
}

#[test]
fn a_scan_shows_each_key_that_exists_throughout() {
    let space = space();
    let name = |n: usize| format!("key:{n}").into_bytes();
    let put = |n: usize, now| {
        space.keys(&[name(n)], now).set(&name(n), b"x", NewExpiry::Set(Expiry::Never)).unwrap();
    };
    (0..5000).for_each(|n| put(n, 0));
    for count in [1, 7, 100, 10_000] {
        let mut shown = std::collections::HashSet::new();
        let (mut cursor, mut calls) = (0, 0);
        loop {
            let mut here = 0;
            cursor = space.scan(cursor, count, 0, &mut |key| {
                shown.insert(key.to_vec());
                here += 1;
            });
            assert!(cursor == 0 || here >= count);
            assert!(i64::try_from(cursor).is_ok(), "{cursor} is negative in a signed number");
            if cursor == 0 {
                break;
            }
            // Tables grow and shrink during the scan.
            calls += 1;
            let n = 10_000 + calls * 17;
            (n..n + 17).for_each(|n| put(n, 0));
            for n in n - 34..n - 17 {
                space.keys(&[name(n)], 0).remove(&name(n));
            }
        }
        assert!((0..5000).all(|n| shown.contains(&name(n))), "{count} at a time");
    }
    let key = space.random_key(0).unwrap();
    assert!(space.keys(&[&key], 0).about(&key).is_some());
    space.clear();
    assert_eq!(space.random_key(0), None);
    assert_eq!(space.scan(0, 10, 0, &mut |_| panic!("the keyspace is empty")), 0);
}

/// An operation between two calls of a scan.
#[derive(Debug, Clone)]
enum Between {
    Grow(usize),
    Shrink(usize),
    Nothing,
}

/// Tables of shards grow and shrink by thousands of keys between the calls of a scan. The scan shows each
/// key that stays, and cursors are not negative as signed numbers.
#[test]
fn a_scan_shows_remaining_keys_while_tables_are_resized() {
    use proptest::prelude::*;
    let between = prop_oneof![
        2 => (1000usize..20_000).prop_map(Between::Grow),
        2 => (1000usize..20_000).prop_map(Between::Shrink),
        1 => Just(Between::Nothing),
    ];
    let plan = (1usize..3000, 1usize..2000, proptest::collection::vec(between, 1..40));
    let config = proptest::test_runner::Config::with_cases(24);
    let run = proptest::test_runner::TestRunner::new(config).run(&plan, |(stay, count, plan)| {
        let space = space();
        let put = |key: &str| {
            space.keys(&[key], 0).set(key.as_bytes(), b"x", NewExpiry::Keep).unwrap();
        };
        (0..stay).for_each(|n| put(&format!("stays:{n}")));
        let (mut cursor, mut passing, mut plan) = (0, 0, plan.iter());
        let mut shown = std::collections::HashSet::new();
        loop {
            cursor = space.scan(cursor, count, 0, &mut |key| {
                shown.insert(key.to_vec());
            });
            prop_assert!(i64::try_from(cursor).is_ok(), "{cursor} is negative when it is signed");
            if cursor == 0 {
                break;
            }
            match plan.next() {
                Some(Between::Grow(more)) => {
                    (passing..passing + more).for_each(|n| put(&format!("passes:{n}")));
                    passing += more;
                }
                Some(Between::Shrink(less)) => {
                    let left = passing.saturating_sub(*less);
                    for n in left..passing {
                        let key = format!("passes:{n}");
                        space.keys(&[&key], 0).remove(key.as_bytes());
                    }
                    passing = left;
                    // Frees the room of removed keys, as the maintenance does.
                    (0..SHARDS).for_each(|shard| space.demote(shard));
                }
                _ => {}
            }
        }
        let is_shown = |n| shown.contains(format!("stays:{n}").as_bytes());
        prop_assert!((0..stay).all(is_shown));
        Ok(())
    });
    run.unwrap_or_else(|failure| panic!("{failure}"));
}

/// One value on each of a hundred pages is used all the time, its neighbours are not.
#[test]
fn hot_values_gather_on_few_pages_and_leave_after_cooling() {
    let space = space();
    let name = |n: usize| format!("key:{n}").into_bytes();
    // Eight blocks to a page.
    let value = |n: usize| vec![(n % 251) as u8; 490];
    for n in 0..800 {
        space.keys(&[name(n)], 0).set(&name(n), &value(n), NewExpiry::Keep).unwrap();
    }
    let hot: Vec<usize> = (0..800).step_by(8).collect();
    for tick in 1..4 {
        space.heat.tick(tick);
        evict(&space);
        for &n in &hot {
            assert_eq!(space.keys(&[name(n)], 0).get(&name(n)), Some(&*value(n)));
        }
    }
    assert_eq!(space.events().promoted, 100);
    assert_eq!(space.hot_bytes(), 100 * 512);
    if space.arena().fault_mode().is_some() {
        let stats = space.arena().stats();
        assert!(space.events().peeked >= 150, "{:?}", space.events());
        assert!(stats.resident_bytes <= 40 * 4096, "{stats}");
        assert_eq!(stats.refaults, 0, "{stats}");
    }
    space.heat.tick(1_000_000);
    (0..SHARDS).for_each(|shard| space.demote(shard));
    assert_eq!((space.hot_bytes(), space.events().demoted), (0, 100));
    for n in 0..800 {
        assert_eq!(space.keys(&[name(n)], 0).get(&name(n)), Some(&*value(n)));
    }
    check(&space);
}

/// A counter is read and written in the same command, and again later.
#[test]
fn a_value_that_is_read_and_written_repeatedly_is_hot() {
    for edit in [false, true] {
        let space = space();
        space.keys(&[b"n"], 0).set(b"n", &[7; 100], NewExpiry::Keep).unwrap();
        for tick in 1..4 {
            space.heat.tick(tick);
            let mut keys = space.keys(&[b"n"], 0);
            assert_eq!(keys.get(b"n").map(<[u8]>::len), Some(100));
            if edit {
                assert_eq!(keys.overwrite(b"n", 0, b"x"), Ok(100));
            } else {
                keys.set(b"n", &[tick as u8; 100], NewExpiry::Keep).unwrap();
            }
        }
        assert_eq!(space.events().promoted, 1, "{edit}");
        check(&space);
    }
}

/// Whether a command that needs memory is refused.
fn is_refused(space: &Keyspace) -> bool {
    match space.make_room(0) {
        Ok(room) => room != Room::Ready,
        Err(OutOfMemory) => true,
    }
}

#[test]
fn the_policy_evicts_keys_above_maxmemory() {
    for &policy in Policy::value_variants() {
        let options = Options { maxmemory: Some(200_000), policy, ..Options::default() };
        let space = Keyspace::new(arena(), options);
        let name = |n: usize| format!("key:{n}").into_bytes();
        let mut refused = 0;
        for n in 0..2000 {
            space.heat.tick(n as u32);
            if is_refused(&space) {
                refused += 1;
                continue;
            }
            let expiry = if n % 2 == 0 { Expiry::Never } else { Expiry::At(1_000_000 - n as i64) };
            space.keys(&[name(n)], 0).set(&name(n), &[7; 400], NewExpiry::Set(expiry)).unwrap();
            // Used repeatedly, so that this key is never the longest idle.
            space.keys(&[name(1)], 0).touch(&name(1));
        }
        assert!(space.used_bytes() <= 200_000 + 600, "{policy:?}");
        let evicted = space.events().evicted;
        let there = |n: usize| space.keys(&[name(n)], 0).about(&name(n)).is_some();
        match policy {
            Policy::NoEviction => assert!(refused > 1000 && evicted == 0),
            Policy::AllKeysLru => {
                assert!(refused == 0 && evicted > 1000 && there(1) && there(1999));
            }
            Policy::AllKeysRandom => assert!(refused == 0 && evicted > 1000),
            _ => {
                assert!(evicted > 100, "{policy:?}");
                assert!((0..300).step_by(2).all(there), "{policy:?}: only what expires");
            }
        }
        check(&space);
    }
}

#[test]
fn tending_removes_expired_keys_and_keeps_the_limit() {
    let options = Options { memory_limit: Some(1 << 30), ..Options::default() };
    let space = Keyspace::new(arena(), options);
    let name = |n: usize| format!("key:{n}").into_bytes();
    for n in 0..5000 {
        let expiry = NewExpiry::Set(Expiry::At(if n % 5 == 0 { 1000 } else { 10 }));
        space.keys(&[name(n)], 0).set(&name(n), b"x", expiry).unwrap();
    }
    // A call ends when its time is over, which other programs may take.
    let is_done = |_| {
        space.tend(300);
        space.volatile() == 1000
    };
    assert!((0..1000).any(is_done), "{} are left", space.volatile());
    assert_eq!((space.len(), space.volatile(), space.events().expired), (1000, 1000, 4000));
    // The process takes more than this, so the arena gets its smallest limit.
    space.set_memory_limit(Some(1));
    space.tend(100);
    space.set_memory_limit(None);
    space.tend(100);
    assert_eq!(space.arena().excess_bytes(), 0);
    check(&space);
}

#[test]
fn the_index_takes_ten_bytes_per_key_outside_the_arena() {
    const KEYS: usize = 400_000;
    let space = space();
    let empty = space.index_bytes();
    let name = |n: usize| format!("{n:020}").into_bytes();
    for n in 0..KEYS {
        space.keys(&[name(n)], 0).set(&name(n), &[7; 100], NewExpiry::Keep).unwrap();
        if n > KEYS / 2 && n % 4999 == 0 {
            let each = (space.index_bytes() - empty) as f64 / n as f64;
            assert!((8.0..13.0).contains(&each), "{each} bytes for each of {n} keys");
        }
    }
    assert_eq!(space.used_bytes(), KEYS * (128 + 10));
    let volatile = |n| Expiry::At(1_000_000 + n as i64);
    for n in 0..KEYS / 10 {
        space.keys(&[name(n)], 0).set_expiry(&name(n), volatile(n)).unwrap();
    }
    let each = (space.index_bytes() - empty) as f64 / KEYS as f64;
    assert!((8.8..15.0).contains(&each), "{each} bytes when a tenth of the keys expires");
    space.clear();
    assert!(space.index_bytes() <= empty);
}

#[test]
fn commands_of_several_keys_are_atomic() {
    let space = space();
    let names: Vec<Vec<u8>> = (0..8).map(|n| format!("key:{n}").into_bytes()).collect();
    thread::scope(|scope| {
        for thread in 0..3u8 {
            let (space, names) = (&space, &names);
            scope.spawn(move || {
                for round in 0..2000u32 {
                    let value = [&[thread][..], &round.to_le_bytes()].concat();
                    let mut keys = space.keys(names, 0);
                    let first = keys.get(&names[0]).map(<[u8]>::to_vec);
                    for name in names {
                        assert_eq!(keys.get(name), first.as_deref());
                        keys.set(name, &value, NewExpiry::Keep).unwrap();
                    }
                }
            });
        }
    });
    check(&space);
}
