//! Collections of the standard library, and bumpalo. Their content follows from arithmetic.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::fmt::Write;
use std::sync::mpsc;

/// A number that depends on `seed` and `n`. Only its lowest byte is hard to compress.
pub fn mix(seed: u64, n: u64) -> u64 {
    let mut x = (seed << 40 ^ n).wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    seed << 40 | n << 8 | (x ^ (x >> 31)) & 0xff
}

/// Works on collections of all kinds, with content that depends on `seed`, and returns how many checks
/// failed.
pub fn wrong(seed: u64) -> usize {
    let parts =
        [vectors, strings, deque, ordered, hashed, nested, sorted, shared, sent, in_a_bump_arena];
    parts.iter().map(|part| part(seed)).sum()
}

fn count(conditions: impl IntoIterator<Item = bool>) -> usize {
    conditions.into_iter().filter(|right| !right).count()
}

fn vectors(seed: u64) -> usize {
    let mut numbers = Vec::new();
    (0..20_000).for_each(|n| numbers.push(mix(seed, n)));
    numbers.truncate(15_000);
    numbers.shrink_to_fit();
    numbers.extend((15_000..30_000).map(|n| mix(seed, n)));
    let tail = numbers.split_off(10_000);
    numbers.insert(0, seed);
    let copy = numbers.clone();
    count([numbers[0] == seed, numbers == copy])
        + count((0..10_000).map(|n| numbers[n as usize + 1] == mix(seed, n)))
        + count((0..20_000).map(|n| tail[n as usize] == mix(seed, n + 10_000)))
        + count(vec![0u64; 5000].iter().map(|n| *n == 0))
}

fn strings(seed: u64) -> usize {
    let mut text = String::new();
    (0..2000).for_each(|n| writeln!(text, "{} is {:x}", n, mix(seed, n)).unwrap());
    let upper = text.to_uppercase();
    let words: Vec<String> = text.lines().map(str::to_owned).collect();
    count((0..2000).map(|n| words[n as usize] == format!("{} is {:x}", n, mix(seed, n))))
        + count([upper.to_lowercase() == text, words.join("\n") + "\n" == text])
}

fn deque(seed: u64) -> usize {
    let mut queue = VecDeque::new();
    let (mut next, mut wrong) = (0, 0);
    for n in 0..20_000 {
        queue.push_back(mix(seed, n));
        if n % 3 == 0 {
            wrong += usize::from(queue.pop_front() != Some(mix(seed, next)));
            next += 1;
        }
    }
    queue.rotate_left(1000);
    queue.rotate_right(1000);
    queue.make_contiguous();
    wrong + count(queue.iter().zip(next..).map(|(value, n)| *value == mix(seed, n)))
}

fn ordered(seed: u64) -> usize {
    let mut map = BTreeMap::new();
    // Out of order: 7919 has no common divisor with the number of keys.
    map.extend((0..4000).map(|n| n * 7919 % 4000).map(|n| (n, mix(seed, n))));
    (0..4000).step_by(3).for_each(|n| assert!(map.remove(&n).is_some()));
    let left = (0..4000).filter(|n| n % 3 != 0);
    let mut wrong = usize::from(!map.keys().copied().eq(left));
    wrong += count(map.iter().map(|(n, value)| *value == mix(seed, *n)));
    let upper = map.split_off(&2000);
    wrong += count([map.len() + upper.len() == 2666, upper.keys().all(|n| *n >= 2000)]);
    let set: BTreeSet<u64> = upper.into_values().collect();
    wrong + count((2000..4000).map(|n| set.contains(&mix(seed, n)) == (n % 3 != 0)))
}

fn hashed(seed: u64) -> usize {
    let mut map = HashMap::new();
    (0..3000).for_each(|n| {
        drop(map.insert(format!("key {n}"), vec![mix(seed, n); 1 + n as usize % 40]))
    });
    map.retain(|_, values| values.len() % 5 != 0);
    map.shrink_to_fit();
    let is_right = |n: u64| match map.get(&format!("key {n}")) {
        Some(values) => *values == vec![mix(seed, n); 1 + n as usize % 40],
        None => (1 + n as usize % 40).is_multiple_of(5),
    };
    count((0..3000).map(is_right))
}

/// Neighbouring blocks that grow and shrink across the threshold.
fn nested(seed: u64) -> usize {
    let mut rows: Vec<Vec<u8>> = vec![Vec::new(); 64];
    let mut wrong = 0;
    for n in 0..3000 {
        let random = mix(seed, n);
        let row = &mut rows[random as usize % 64];
        let len = (random >> 8) as usize % if n % 10 == 0 { 20_000 } else { 300 };
        let (old, new) = (row.len().min(len), row.first().copied().unwrap_or(n as u8));
        row.resize(len, new);
        wrong += count([row[..old].iter().all(|byte| *byte == new)]);
        if n % 2 == 0 {
            row.shrink_to_fit();
        }
        if n % 7 == 0 {
            let len = row.len();
            row.clear();
            row.resize(len, n as u8);
        }
        wrong += count([row.iter().all(|byte| Some(byte) == row.first())]);
    }
    wrong
}

fn sorted(seed: u64) -> usize {
    let mut heap: BinaryHeap<u64> = (0..5000).map(|n| mix(seed, n)).collect();
    let mut numbers: Vec<u64> = (0..5000).map(|n| mix(seed, n)).collect();
    numbers.sort();
    let falling: Vec<u64> = std::iter::from_fn(|| heap.pop()).collect();
    let sum = (0..5000).fold(0, |sum: u64, n| sum.wrapping_add(mix(seed, n)));
    count([
        numbers.is_sorted(),
        falling.iter().rev().eq(&numbers),
        numbers.iter().fold(0, |sum: u64, n| sum.wrapping_add(*n)) == sum,
    ])
}

/// Reference counts and the values beside them.
fn shared(seed: u64) -> usize {
    let one: std::sync::Arc<[u64]> = (0..1000).map(|n| mix(seed, n)).collect();
    let many = vec![one; 1000];
    let boxes: Vec<Box<[u64; 32]>> = (0..300).map(|n| Box::new([mix(seed, n); 32])).collect();
    count(many.iter().map(|other| other[999] == mix(seed, 999)))
        + count([std::sync::Arc::strong_count(&many[0]) == 1000])
        + count(boxes.iter().zip(0..).map(|(array, n)| **array == [mix(seed, n); 32]))
}

/// Blocks that one thread allocates and another thread frees.
fn sent(seed: u64) -> usize {
    let (sender, receiver) = mpsc::channel::<(u64, Vec<u64>)>();
    let reader = std::thread::spawn(move || {
        receiver
            .into_iter()
            .map(|(n, values)| usize::from(values != vec![mix(seed, n); values.len()]))
            .sum::<usize>()
    });
    for n in 0..500 {
        let values = vec![mix(seed, n); 1 + mix(seed, n) as usize % 200];
        sender.send((n, values)).unwrap();
    }
    drop(sender);
    reader.join().unwrap()
}

fn in_a_bump_arena(seed: u64) -> usize {
    let mut bump = bumpalo::Bump::new();
    let mut wrong = 0;
    for round in 0..3 {
        let slices: Vec<&[u64]> = (0..400)
            .map(|n| {
                &*bump.alloc_slice_fill_with(n % 50, |i| mix(seed + round, (n * 50 + i) as u64))
            })
            .collect();
        for (n, slice) in slices.iter().enumerate() {
            let is_right =
                |(i, value): (usize, &u64)| *value == mix(seed + round, (n * 50 + i) as u64);
            wrong += count(slice.iter().enumerate().map(is_right)) + count([slice.len() == n % 50]);
        }
        bump.reset();
    }
    wrong
}
