//! The wheel, and the keys that it visits.

use super::super::{Expiry, NewExpiry, Options, Policy};
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

fn visits(space: &Keyspace) -> usize {
    let wheel = space.expiries.0.lock();
    let searched = wheel.searched.iter().flat_map(|searched| [&searched.left, &searched.kept]);
    assert_eq!(wheel.len, wheel.slots.values().chain(searched).map(Vec::len).sum::<usize>());
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
            let due = due_slot(at);
            let (slot, ahead) = (slot_for(due, now), due - slot_of(now));
            assert!(slot > slot_of(now) && slot <= due && due - slot <= ahead / 16, "{at}");
            assert_eq!(due, slot_of(at) + 1, "{at}");
            let visit = Visit { spot: Spot::new(0, 0), due: due as u32 };
            assert_eq!(visit.due(slot), due, "{at}");
        }
    }
    assert_eq!(due_slot(START - 1000), slot_of(START - 1000) + 1, "the past");
    assert_eq!((slot_of(-1), due_slot(UnixMs::MIN)), (0, 1));
    // Ten years, to the millisecond: some hundred slots.
    let slots = (0..100_000i64).map(|n| slot_for(due_slot(START + n * n * 31), START));
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
    assert_eq!(visits(&space), 5000);
    let (mut now, mut visited) = (START, 0);
    while space.volatile() > 0 {
        now += 100;
        let slots = space.expiries.0.lock();
        visited += slots.slots.range(..=slot_of(now)).map(|(_, of)| of.len()).sum::<usize>();
        drop(slots);
        assert!(space.expire(now, LONG));
        let late = now - 1000;
        let expired =
            |item: &Item| space.items.peek_head(item, &mut Vec::new()).unwrap().has_expired(late);
        assert!(space.shards.iter().all(|s| !s.lock().items().any(expired)), "{now}");
        assert_eq!(visits(&space), space.volatile());
    }
    assert_eq!((space.len(), space.events().expired), (5000, 5000));
    assert!(visited <= 5 * 5000, "{visited}");
}

#[test]
fn a_key_that_is_renewed_has_one_visit_and_expires_at_its_last_time() {
    let space = space();
    for n in 0..10_000 {
        set(&space, 1, Expiry::At(START + 60_000 + n), START + n);
    }
    assert_eq!(visits(&space), 1);
    assert!(space.expire(START + 69_998, LONG));
    assert_eq!(space.len(), 1);
    assert!(space.expire(START + 71_000, LONG));
    assert_eq!((space.len(), visits(&space)), (0, 0));
    // An earlier time applies at once, and a later one after it.
    set(&space, 2, Expiry::At(START + 60_000), START);
    set(&space, 2, Expiry::At(START + 1000), START);
    set(&space, 2, Expiry::At(START + 30_000), START);
    assert!(space.expire(START + 29_000, LONG));
    assert_eq!((space.len(), visits(&space)), (1, 2));
    set(&space, 2, Expiry::Never, START);
    assert!(space.expire(START + 100_000, LONG));
    assert_eq!((space.len(), visits(&space)), (1, 0));
}

#[test]
fn visits_of_removed_keys_are_dropped() {
    // Half a minute and a day.
    for ttl in [30_000, 86_400_000] {
        drop_visits_of_removed_keys(START + ttl);
    }
}

fn drop_visits_of_removed_keys(last: UnixMs) {
    let space = space();
    let mut cleaning = Cleaning::default();
    for round in 0..50 {
        for n in 0..2000 {
            let key = n.to_string().into_bytes();
            space.keys(&[&key], START).remove(&key);
            set(&space, n, Expiry::At(last + (round * n) as i64), START);
        }
        space.drop_stale(&mut cleaning, START, LONG);
        assert!(visits(&space) <= 2 * (2 * 2000 + FEW), "{}", visits(&space));
    }
    assert!(cleaning.slot.is_none() && space.expiries.0.lock().searched.is_none());
    assert!(space.expire(last + 200_000, LONG));
    assert_eq!((space.len(), visits(&space), space.used_bytes()), (0, 0, 0));
    set(&space, 1, Expiry::At(last), START);
    space.clear();
    assert_eq!(visits(&space), 0);
}

#[test]
fn keys_that_expire_in_the_farthest_future_can_be_evicted() {
    let space = space();
    space.set_policy(Policy::VolatileTtl);
    for n in 0..100 {
        // The last time that a client can name, and some times from decades to millions of years.
        let years = [i64::MAX, 1 << 40, 1 << 45, 1 << 55][n % 4];
        set(&space, n, Expiry::At(years - n as i64), START);
    }
    // A visit may move once to a finer slot.
    let calls = (0..1000).take_while(|_| space.volatile() > 0 && space.evict_soonest()).count();
    assert_eq!((space.volatile(), space.used_bytes()), (0, 0), "after {calls} calls");
}

#[test]
fn keys_can_be_evicted_while_their_visits_are_searched() {
    let space = space();
    space.set_policy(Policy::VolatileTtl);
    let day = START + 86_400_000;
    for n in 0..3000 {
        // Most visits are of removed keys. All are in one slot.
        for _ in 0..5 {
            space.keys(&[n.to_string()], START).remove(n.to_string().as_bytes());
            set(&space, n, Expiry::At(day), START);
        }
    }
    let mut cleaning = Cleaning::default();
    assert!(space.begin_cleaning(&mut cleaning, START));
    while cleaning.slot.is_some() {
        let before = space.events().evicted;
        // A command needs memory between two steps of the search.
        let most = space.used_bytes() - 1;
        assert_eq!(space.evict_down_to(most, LONG), Ok(true));
        assert!(space.events().evicted > before);
        space.clean(&mut cleaning);
    }
    assert!(space.len() > 1000, "{}", space.len());
    assert!(space.expire(day + 1000, LONG));
    assert_eq!((space.len(), visits(&space), space.used_bytes()), (0, 0, 0));
}

#[test]
fn keys_with_the_same_spot_and_time_all_expire() {
    let space = space();
    let mut by_spot = std::collections::HashMap::new();
    let (a, b) = (0..)
        .find_map(|n: usize| by_spot.insert(space.spot(n.to_string().as_bytes()), n).zip(Some(n)))
        .expect("two of some hundred thousand names");
    let day = START + 86_400_000;
    for n in [a, b] {
        set(&space, n, Expiry::At(day), START);
    }
    // So many stale visits that the server searches for them.
    let other = b + 1;
    for n in 0..20_000 {
        set(&space, other, Expiry::At(day + 1_000_000 - 300 * n), START);
    }
    space.drop_stale(&mut Cleaning::default(), START, LONG);
    assert!(space.expire(day + 2_000_000, LONG));
    assert_eq!((space.len(), space.events().expired), (0, 3));
}
