//! Items that are stored.

use super::*;
use std::collections::HashSet;

/// Commands and maintenance that do not change a sleeping item leave it stored.
#[test]
fn sleeping_keys_are_found_walked_and_expired_without_their_pages() {
    let space = space();
    let name = |n: usize| format!("key:{n}").into_bytes();
    for n in 0..3000 {
        let expiry = if n % 3 == 0 { Expiry::At(1000 + n as i64) } else { Expiry::Never };
        let value = vec![(n % 251) as u8; 10 + n % 900];
        space.keys(&[name(n)], 0).set(&name(n), &value, NewExpiry::Set(expiry)).unwrap();
    }
    space.heat.tick(1000);
    evict(&space);
    let mut shown = HashSet::new();
    let mut cursor = 0;
    loop {
        cursor = space.scan(cursor, 100, 0, &mut |key| {
            shown.insert(key.to_vec());
        });
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(shown.len(), 3000);
    assert!(shown.contains(&space.random_key(0).unwrap()));
    for n in 0..3000 {
        let mut keys = space.keys(&[name(n)], 0);
        let about = keys.about(&name(n)).unwrap();
        assert_eq!((about.len, about.expiry != Expiry::Never), (10 + n % 900, n % 3 == 0));
        assert_eq!(keys.get(&name(n)), Some(&*vec![(n % 251) as u8; 10 + n % 900]));
        drop(keys);
        assert!(!space.keys(&[name(n + 3000)], 0).touch(&name(n + 3000)));
    }
    (0..SHARDS).for_each(|shard| space.demote(shard));
    assert!(space.expire(10_000, Duration::from_secs(600)));
    assert_eq!((space.len(), space.events().expired), (2000, 1000));
    space.evict_down_to(space.used_bytes() / 2, Duration::from_secs(600)).unwrap();
    check(&space);
    if space.arena().fault_mode().is_some() {
        let stats = space.arena().stats();
        assert_eq!((stats.refaults, stats.prefetched_pages), (0, 0), "{stats}");
    }
}

/// An item that changes while it sleeps moves, and its neighbours sleep on.
#[test]
fn changes_of_a_sleeping_item_leave_its_page_stored() {
    let space = space();
    let name = |n: usize| format!("key:{n}").into_bytes();
    for n in 0..2000 {
        space.keys(&[name(n)], 0).set(&name(n), &[7; 300], NewExpiry::Keep).unwrap();
    }
    evict(&space);
    let before = space.arena().stats();
    for n in (0..2000).step_by(10) {
        let (key, other) = (name(n), [name(n), vec![b'x'; 30]].concat());
        let mut keys = space.keys(&[&key, &other], 0);
        match n / 10 % 5 {
            0 => keys.set(&key, &[8; 400], NewExpiry::Keep).unwrap(),
            1 => assert_eq!(keys.append(&key, b"more"), Ok(304)),
            2 => assert_eq!(keys.overwrite(&key, 10, b"x"), Ok(300)),
            3 => assert_eq!(keys.set_expiry(&key, Expiry::At(1_000_000)), Ok(true)),
            _ => assert_eq!(keys.rename(&key, &other), Ok(true)),
        }
    }
    if space.arena().fault_mode().is_some() {
        let stats = space.arena().stats();
        // The new blocks are of other classes, so that none lies where a freed one was, on an evicted page.
        assert_eq!(stats.refaults, before.refaults, "{stats}");
    }
    check(&space);
}

/// A command reads stored items where they are stored. When their page returns for another one's sake, the items
/// still count as read at that time.
#[test]
fn a_read_of_a_sleeping_item_counts_after_its_page_returns() {
    let space = space();
    let name = |n: usize| format!("key:{n}").into_bytes();
    for n in 0..1000 {
        space.keys(&[name(n)], 0).set(&name(n), &[7; 490], NewExpiry::Keep).unwrap();
    }
    evict(&space);
    space.heat.tick(2000);
    for n in 0..500 {
        assert!(space.keys(&[name(n)], 0).get(&name(n)).is_some());
    }
    space.heat.tick(2010);
    for n in 0..1000 {
        let shard = space.shards[space.spot(&name(n)).shard()].lock();
        shard.items().for_each(|item| space.items.ensure(item));
    }
    for n in 0..500 {
        let idle = space.keys(&[name(n)], 0).about(&name(n)).unwrap().idle_seconds;
        assert_eq!(idle, 1, "{n}");
    }
    space.set_maxmemory(Some(space.used_bytes() / 10 * 6));
    space.evict_down_to(space.used_bytes() / 10 * 6, Duration::from_secs(600)).unwrap();
    let left = |n: &usize| space.keys(&[name(*n)], 0).about(&name(*n)).is_some();
    assert!((0..490).all(|n| left(&n)), "keys that were read were evicted");
    check(&space);
}

/// A hot item that slept and is hot again stays in the hot lane.
#[test]
fn a_hot_item_that_wakes_stays_hot() {
    let space = space();
    for tick in 1..4 {
        space.heat.tick(tick);
        set_or_get(&space);
    }
    assert_eq!((space.events().promoted, space.hot_bytes()), (1, 512));
    // The item sleeps for ten windows, but the maintenance has not come by.
    let window = (space.window().as_millis() / 100) as u32;
    evict(&space);
    for tick in 0..2 {
        space.heat.tick(10 * window + tick);
        set_or_get(&space);
    }
    (0..SHARDS).for_each(|shard| space.demote(shard));
    assert_eq!((space.events().demoted, space.hot_bytes()), (0, 512));
    check(&space);
}

/// Only the beginning of a large item is in memory: the maintenance does not move it.
#[test]
fn a_hot_item_that_sleeps_in_part_stays_where_it_is() {
    let space = space();
    for tick in 1..4 {
        space.heat.tick(tick);
        set_or_get(&space);
    }
    space.keys(&[b"key"], 0).set(b"key", &[7; 1 << 20], NewExpiry::Keep).unwrap();
    assert!(space.hot_bytes() > 1 << 20);
    evict(&space);
    let shard = space.shards[space.spot(b"key").shard()].lock();
    for item in shard.items() {
        let _ = space.arena().ensure(&space.items.bytes(item)[..8192]);
    }
    drop(shard);
    space.heat.tick(1_000_000);
    let before = space.arena().stats().stored_bytes;
    (0..SHARDS).for_each(|shard| space.demote(shard));
    if space.arena().fault_mode().is_some() {
        assert!(before > 1 << 19, "{before}");
        assert_eq!((space.arena().stats().stored_bytes, space.events().demoted), (before, 0));
    }
    assert_eq!(space.hot_bytes(), 0);
    assert_eq!(space.keys(&[b"key"], 0).get(b"key"), Some(&[7; 1 << 20][..]));
    check(&space);
}

fn set_or_get(space: &Keyspace) {
    let mut keys = space.keys(&[b"key"], 0);
    if keys.get(b"key").is_none() {
        keys.set(b"key", &[7; 490], NewExpiry::Keep).unwrap();
    }
}
