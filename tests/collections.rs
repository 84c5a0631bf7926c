//! Collections of well-known crates in an arena under zeal, compared at each step with std's collections on
//! the system's allocator.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs)]

mod common;

use allocator_api2::alloc::Allocator;
use allocator_api2::boxed::Box as ABox;
use allocator_api2::vec::Vec as AVec;
use blart::TreeMap;
use common::blocks::Random;
use common::{LANES, quiet, scaled, setups};
use hashbrown::{HashMap, HashSet, HashTable};
use std::collections::{BTreeMap, HashMap as StdMap, HashSet as StdSet};
use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::Duration;
use thermocline::{Arena, ArenaLane, Lane, Stats};

fn is_enough(stats: &Stats) -> bool {
    stats.evicted_pages > scaled(100, 10)
}

/// Calls `work` in several threads, each with a number and a lane of its own, for an arena of each kind.
fn under_zeal(test: &str, work: impl Fn(u64, Random, &Arena, Lane) + Sync) {
    for setup in setups(test) {
        let interval = Duration::from_millis(1);
        let builder = quiet(setup).scan_interval(interval).cold_age(interval).zeal(true);
        let arena = builder.build().unwrap();
        thread::scope(|scope| {
            let (work, arena) = (&work, &arena);
            let run = |number: u64| {
                let lane = LANES[number as usize % 3];
                move || {
                    // A busy machine gets more rounds.
                    for seed in (number..4000).step_by(4) {
                        work(number, Random::new(seed), arena, lane);
                        if is_enough(&arena.stats()) {
                            break;
                        }
                    }
                }
            };
            let handles: Vec<_> = (0..4).map(|number| scope.spawn(run(number))).collect();
            handles.into_iter().for_each(|handle| handle.join().unwrap());
        });
        let stats = arena.stats();
        assert_eq!((stats.allocated_bytes, stats.lost_bytes), (0, 0), "{setup}: {stats}");
        assert!(is_enough(&stats), "{setup}: {stats}");
        arena.check().unwrap();
    }
}

/// Gives the evictor time now and then.
fn now_and_then(random: &mut Random) {
    if random.one_in(300) {
        thread::sleep(Duration::from_millis(1));
    }
}

fn boxed<A: Allocator>(value: u64, allocator: A) -> ABox<[u64; 20], A> {
    ABox::new_in([value; 20], allocator)
}

#[test]
fn maps() {
    under_zeal("collections::maps", |_, mut random, arena, lane| {
        let lane = &arena.lane(lane);
        let mut map = HashMap::new_in(lane);
        let mut wanted = StdMap::new();
        for n in 0..scaled(60_000, 4000) {
            let key = random.below(scaled(8000, 800)) as u64;
            match random.below(10) {
                0..=4 => {
                    let old = map.insert(key, boxed(n, lane)).map(|value| *value);
                    assert_eq!(old, wanted.insert(key, n).map(|n| [n; 20]));
                }
                5..=7 => {
                    let found = map.get(&key).map(|value| **value);
                    assert_eq!(found, wanted.get(&key).map(|n| [*n; 20]));
                }
                8 => {
                    let removed = map.remove(&key).map(|value| *value);
                    assert_eq!(removed, wanted.remove(&key).map(|n| [n; 20]));
                }
                _ if random.one_in(400) => {
                    map.retain(|key, _| key % 3 > 0);
                    wanted.retain(|key, _| key % 3 > 0);
                    map.shrink_to_fit();
                }
                _ => {
                    map.entry(key)
                        .and_modify(|v| v.iter_mut().for_each(|v| *v += 1))
                        .or_insert_with(|| boxed(n, lane));
                    wanted.entry(key).and_modify(|v| *v += 1).or_insert(n);
                }
            }
            now_and_then(&mut random);
        }
        assert_eq!(map.len(), wanted.len());
        assert!(map.iter().all(|(key, value)| **value == [wanted[key]; 20]));
        let copy = map.clone();
        drop(map);
        assert!(wanted.iter().all(|(key, value)| *copy[key] == [*value; 20]));
    });
}

#[test]
fn sets_and_tables() {
    under_zeal("collections::sets_and_tables", |_, mut random, arena, lane| {
        let (lane, state) = (&arena.lane(lane), RandomState::new());
        let [mut one, mut two] = [HashSet::new_in(lane), HashSet::new_in(lane)];
        let [mut first, mut second] = [StdSet::new(), StdSet::new()];
        let mut table: HashTable<(u64, u64), _> = HashTable::new_in(lane);
        let mut wanted = StdMap::new();
        let hash = |entry: &(u64, u64)| state.hash_one(entry.0);
        for n in 0..scaled(40_000, 3000) {
            let key = random.below(scaled(30_000, 2000)) as u64;
            assert_eq!(one.insert(key), first.insert(key));
            assert_eq!(two.insert(key * 2), second.insert(key * 2));
            if random.one_in(4) {
                assert_eq!(one.remove(&(key / 2)), first.remove(&(key / 2)));
            }
            match table.entry(hash(&(key, 0)), |entry| entry.0 == key, hash) {
                hashbrown::hash_table::Entry::Occupied(entry) if n % 3 == 0 => {
                    assert_eq!(Some(entry.remove().0.1), wanted.remove(&key));
                }
                hashbrown::hash_table::Entry::Occupied(mut entry) => {
                    assert_eq!(Some(entry.get().1), wanted.insert(key, n));
                    entry.get_mut().1 = n;
                }
                hashbrown::hash_table::Entry::Vacant(entry) => {
                    entry.insert((key, n));
                    assert_eq!(wanted.insert(key, n), None);
                }
            }
            now_and_then(&mut random);
        }
        assert!(one.intersection(&two).all(|key| first.contains(key) && second.contains(key)));
        assert_eq!(one.intersection(&two).count(), first.intersection(&second).count());
        assert_eq!(one.difference(&two).count(), first.difference(&second).count());
        assert_eq!(table.len(), wanted.len());
        assert!(table.drain().all(|(key, value)| wanted.remove(&key) == Some(value)));
        assert!(wanted.is_empty());
    });
}

#[test]
fn vectors() {
    under_zeal("collections::vectors", |_, mut random, arena, lane| {
        let lane = &arena.lane(lane);
        let mut vec: AVec<u64, _> = AVec::new_in(lane);
        let mut wanted: Vec<u64> = Vec::new();
        for n in 0..scaled(1500u64, 150) {
            let at = random.below(wanted.len() + 1);
            let len = random.below(3000);
            let some = (0..len as u64).map(|i| n << 32 | i);
            match random.below(12) {
                0..=2 => {
                    vec.extend(some.clone());
                    wanted.extend(some);
                }
                3 => {
                    let end = (at + random.below(4000)).min(wanted.len());
                    assert!(vec.drain(at..end).eq(wanted.drain(at..end)));
                }
                4 => {
                    let end = (at + random.below(2000)).min(wanted.len());
                    let out: Vec<_> = vec.splice(at..end, some.clone()).collect();
                    assert!(out.into_iter().eq(wanted.splice(at..end, some)));
                }
                5 => {
                    vec.sort_unstable_by_key(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                    wanted.sort_unstable_by_key(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                }
                6 => {
                    vec.insert(at, n);
                    wanted.insert(at, n);
                }
                7 => {
                    let (tail, wanted_tail) = (vec.split_off(at), wanted.split_off(at));
                    assert_eq!(*tail, *wanted_tail);
                    if random.one_in(2) {
                        vec.extend_from_slice(&tail);
                        wanted.extend_from_slice(&wanted_tail);
                    }
                }
                8 => {
                    vec.dedup_by_key(|n| *n & !1);
                    wanted.dedup_by_key(|n| *n & !1);
                }
                9 => {
                    vec.shrink_to_fit();
                    vec.reserve_exact(random.below(10_000));
                }
                10 => {
                    vec.retain(|n| n % 5 > 0);
                    wanted.retain(|n| n % 5 > 0);
                }
                _ => {
                    vec.reverse();
                    wanted.reverse();
                }
            }
            assert_eq!(*vec, *wanted, "after step {n}");
            if wanted.len() > 300_000 {
                vec.truncate(100);
                wanted.truncate(100);
            }
            now_and_then(&mut random);
        }
        // A vector of many vectors, each of which grows.
        let mut vecs: AVec<AVec<u32, _>, _> = AVec::new_in(lane);
        vecs.extend((0..200).map(|_| AVec::new_in(lane)));
        for n in 0..scaled(200_000, 10_000) {
            vecs[n as usize * 7919 % 200].push(n);
        }
        let all = vecs.iter().flatten().map(|n| u64::from(*n)).sum::<u64>();
        let count = scaled(200_000, 10_000);
        assert_eq!(all, count * (count - 1) / 2);
    });
}

/// A block whose size is known at run time only.
type Function<'a> = ABox<dyn Fn(u64) -> u64 + 'a, &'a ArenaLane>;

#[test]
fn boxes() {
    under_zeal("collections::boxes", |number, mut random, arena, lane| {
        let lane = &arena.lane(lane);
        let mut boxes: Vec<(u64, Function<'_>)> = Vec::new();
        let mut slices: Vec<ABox<[u64], _>> = Vec::new();
        for n in 0..scaled(30_000, 2000) {
            if boxes.len() > 2000 {
                let (n, function) = boxes.swap_remove(random.below(2000));
                assert_eq!(function(1), n + number + 1);
            }
            let more = [n; 9];
            let function = ABox::new_in(move |x| more[x as usize % 9] + number + x, lane);
            boxes.push((n, allocator_api2::unsize_box!(function)));
            if n % 10 == 0 {
                let mut vec = AVec::with_capacity_in(random.below(9000), lane);
                vec.extend((0..random.below(9000) as u64).map(|at| at ^ n));
                slices.push(vec.into_boxed_slice());
                let slice = &slices[random.below(slices.len())];
                assert!(
                    slice.windows(2).all(|pair| (pair[0] ^ slice[0]) + 1 == pair[1] ^ slice[0])
                );
                if slices.len() > 60 {
                    slices.swap_remove(random.below(60));
                }
            }
            now_and_then(&mut random);
        }
        assert!(boxes.iter().all(|(n, function)| function(2) == n + number + 2));
    });
}

/// An ordered map with nodes of four sizes, each of which is a block of its own.
#[test]
fn ordered_maps() {
    under_zeal("collections::ordered_maps", |_, mut random, arena, lane| {
        let lane = &arena.lane(lane);
        let mut map: TreeMap<[u8; 8], u64, 16, _> = TreeMap::with_prefix_len_in(lane);
        let mut wanted: BTreeMap<[u8; 8], u64> = BTreeMap::new();
        for n in 0..scaled(60_000, 4000) {
            let key = (random.below(20_000) as u64).wrapping_mul(0x1_0001_0003).to_be_bytes();
            match random.below(8) {
                0..=3 => assert_eq!(map.try_insert(key, n).unwrap(), wanted.insert(key, n)),
                4 | 5 => assert_eq!(map.get(&key), wanted.get(&key)),
                6 => assert_eq!(map.remove(&key), wanted.remove(&key)),
                _ => {
                    assert_eq!(map.first_key_value(), wanted.first_key_value());
                    assert_eq!(map.last_key_value(), wanted.last_key_value());
                }
            }
            now_and_then(&mut random);
        }
        assert_eq!(map.len(), wanted.len());
        assert!(map.iter().eq(wanted.iter()));
    });
}
