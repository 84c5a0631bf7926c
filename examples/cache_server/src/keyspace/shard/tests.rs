//! The tables of a shard compared with a plain map.

use super::super::item::Class;
use super::super::table::MOST_HOMES;
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};

/// An item that is known by its place.
fn item(number: u32, tag: u32) -> Item {
    let mut item = Item::new(number, Class::of(16));
    item.set_tag(Spot::new(0, tag).item_tag());
    item
}

fn put(shard: &mut Shard, number: u32, tag: u32) {
    shard.insert(tag, item(number, tag));
}

/// A tag for a number: scattered over all tags, or over some.
fn tag(number: u32, tags: u32) -> u32 {
    (number.wrapping_mul(0x9e37_79b9) >> (32 - Spot::TAG_BITS)) % tags
}

fn place_of(shard: &Shard, number: u32, tag: u32) -> Option<Place> {
    let places = std::iter::successors(shard.find(tag), |place| shard.next(*place));
    places.into_iter().find(|place| shard.item(*place).place() == number)
}

const ALL: u32 = 1 << Spot::TAG_BITS;

#[test]
fn a_shard_grows_step_by_step_and_finds_every_item_after_each() {
    let mut shard = Shard::default();
    let mut before = 0;
    for number in 0..60_000u32 {
        put(&mut shard, number, tag(number, ALL));
        let bytes = shard.bytes();
        if bytes != before || number % 4999 == 0 {
            shard.check();
            let sample = (0..=number).step_by(1 + number as usize / 300);
            for number in sample {
                assert!(place_of(&shard, number, tag(number, ALL)).is_some(), "{number}");
            }
            // No step copies more than a table's items.
            assert!(shard.tables.iter().all(|table| table.len() <= MOST_HOMES));
        }
        before = bytes;
        if number > 1000 {
            let each = bytes as f64 / f64::from(number);
            assert!(each < 12.5, "{each} bytes for each of {number}");
        }
    }
    assert!(shard.tables.len() >= 8);
    assert_eq!(shard.len(), 60_000);
}

#[test]
fn items_with_the_same_tag_are_all_found() {
    let mut shard = Shard::default();
    for number in 0..3000 {
        put(&mut shard, number, [0, 7, ALL - 1][number as usize % 3]);
    }
    shard.check();
    for number in (0..3000).rev() {
        let tag = [0, 7, ALL - 1][number as usize % 3];
        let place = place_of(&shard, number, tag).unwrap();
        assert_eq!(shard.remove(place).place(), number);
        assert_eq!(place_of(&shard, number, tag), None);
        if number % 500 == 0 {
            shard.check();
        }
    }
    shard.trim();
    assert_eq!((shard.len(), shard.find(7)), (0, None));
}

#[test]
fn removed_items_leave_no_trace_and_their_room_is_given_back() {
    let mut shard = Shard::default();
    (0..40_000).for_each(|number| put(&mut shard, number, tag(number, ALL)));
    let full = shard.bytes();
    let taken = shard.take_where(|item| item.place() % 10 > 0, |_| ());
    assert_eq!((taken.len(), shard.len()), (36_000, 4000));
    shard.check();
    shard.trim();
    shard.check();
    assert!(shard.bytes() < full / 5, "{} of {full}", shard.bytes());
    for number in 0..40_000 {
        let found = place_of(&shard, number, tag(number, ALL)).is_some();
        assert_eq!(found, number % 10 == 0, "{number}");
    }
    assert_eq!(shard.take_all().len(), 4000);
    assert_eq!((shard.len(), shard.items().count()), (0, 0));
}

#[test]
fn a_walk_from_any_slot_shows_each_item_once() {
    let mut shard = Shard::default();
    assert!(shard.from(5).next().is_none());
    (0..20_000).for_each(|number| put(&mut shard, number, tag(number, ALL)));
    let mut firsts = BTreeSet::new();
    for part in 0..64 {
        let walk = shard.from((part << 26) + 12_345);
        let numbers: Vec<u32> = walk.map(Item::place).collect();
        firsts.insert(numbers[0]);
        assert_eq!(numbers.len(), 20_000);
        assert_eq!(numbers.into_iter().collect::<BTreeSet<_>>().len(), 20_000);
    }
    assert!(firsts.len() > 60, "{}", firsts.len());
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u32),
    Remove(u32),
    Replace(u32),
    Volatile(u32, bool),
    TakeWhere(u32),
    Trim,
    /// A part of a walk through all tags.
    Walk(u32),
}

fn steps() -> impl Strategy<Value = (u32, Vec<Step>)> {
    let number = 0..4000u32;
    let step = prop_oneof![
        30 => number.clone().prop_map(Step::Insert),
        10 => number.clone().prop_map(Step::Remove),
        3 => number.clone().prop_map(Step::Replace),
        3 => (number.clone(), any::<bool>()).prop_map(|(n, volatile)| Step::Volatile(n, volatile)),
        1 => (2..20u32).prop_map(Step::TakeWhere),
        1 => Just(Step::Trim),
        2 => (1..300u32).prop_map(Step::Walk),
    ];
    // Few tags, so that many items have the same one, or all.
    let tags = prop_oneof![Just(1u32), Just(3), Just(50), Just(1000), Just(ALL)];
    (tags, prop::collection::vec(step, 1..3000))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Items that exist from the beginning of a walk to its end are shown, however the tables change.
    #[test]
    fn a_shard_behaves_like_a_map((tags, steps) in steps()) {
        let mut shard = Shard::default();
        let mut model: HashMap<u32, bool> = HashMap::new();
        // Where the walk goes on, and the items that have existed since it began.
        let (mut from, mut throughout) = (0, BTreeSet::<u32>::new());
        let mut shown = BTreeSet::new();
        for step in steps {
            match step {
                Step::Insert(n) if !model.contains_key(&n) => {
                    put(&mut shard, n, tag(n, tags));
                    model.insert(n, false);
                }
                Step::Insert(_) => {}
                Step::Remove(n) => {
                    let place = place_of(&shard, n, tag(n, tags));
                    prop_assert_eq!(place.is_some(), model.remove(&n).is_some());
                    place.map(|place| shard.remove(place));
                    throughout.remove(&n);
                }
                Step::Replace(n) => if let Some(place) = place_of(&shard, n, tag(n, tags)) {
                    let old = shard.replace(place, item(n, tag(n, tags)));
                    prop_assert_eq!(model.insert(n, false), Some(old.is_volatile()));
                },
                Step::Volatile(n, volatile) => {
                    if let Some(place) = place_of(&shard, n, tag(n, tags)) {
                        shard.set_volatile(place, volatile);
                        prop_assert!(model.insert(n, volatile).is_some());
                    }
                }
                Step::TakeWhere(part) => {
                    let mut gone = Vec::new();
                    let taken = shard.take_where(|item| item.place() % part == 1, |tag| gone.push(tag));
                    prop_assert_eq!(taken.len(), gone.len());
                    for (item, gone) in taken.into_iter().zip(gone) {
                        prop_assert_eq!(gone, tag(item.place(), tags));
                        prop_assert!(item.place() % part == 1);
                        prop_assert!(model.remove(&item.place()).is_some());
                        throughout.remove(&item.place());
                    }
                    prop_assert!(model.keys().all(|n| n % part != 1));
                }
                Step::Trim => shard.trim(),
                Step::Walk(count) => {
                    if from == 0 {
                        (throughout, shown) = (model.keys().copied().collect(), BTreeSet::new());
                    }
                    let mut last = None;
                    let mut left = count;
                    for (tag, item) in shard.items_from(from) {
                        if left == 0 && last != Some(tag) {
                            break;
                        }
                        last = Some(tag);
                        shown.insert(item.place());
                        left = left.saturating_sub(1);
                    }
                    from = match last {
                        Some(last) if left == 0 && last + 1 < ALL => last + 1,
                        _ => {
                            prop_assert!(throughout.is_subset(&shown));
                            0
                        }
                    };
                }
            }
            prop_assert_eq!(shard.len(), model.len());
            prop_assert_eq!(shard.volatile(), model.values().filter(|volatile| **volatile).count());
        }
        shard.check();
        for n in 0..4000 {
            let place = place_of(&shard, n, tag(n, tags));
            let volatile = place.map(|place| shard.item(place).is_volatile());
            prop_assert_eq!(volatile, model.get(&n).copied());
        }
    }
}
