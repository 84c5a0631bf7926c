//! Shared by the benchmarks: arenas without background work, data, and orders in which threads touch
//! pages.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use allocator_api2::vec::Vec as ArenaVec;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};
use thermocline::{Arena, Builder, FaultMode};

pub(crate) const PAGE: usize = 4096;

/// Pages of [`records`].
pub(crate) const PAGES: usize = (32 << 20) / PAGE;

/// The most pages that an eviction may leave resident, or that a restore may find resident already. More
/// would distort the times.
pub(crate) const FEW: usize = PAGES / 50;

/// Neighbouring pages that [`clustered`] order keeps together.
pub(crate) const CLUSTER: usize = 16;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// Both ways in which an arena serves faults.
pub(crate) const MODES: [FaultMode; 2] = [FaultMode::Inline, FaultMode::Handler];

/// A quiet arena that serves faults in this way.
pub(crate) fn in_mode(mode: FaultMode) -> Builder {
    quiet().fault_mode(mode)
}

/// An arena that scans and evicts nothing by itself.
pub(crate) fn quiet() -> Builder {
    Arena::builder().reserve(1 << 30).scan_interval(HOUR).cold_age(HOUR)
}

/// Builds the arena. `None`, and a line on standard error, if arenas cannot swap here.
pub(crate) fn started(builder: Builder) -> Option<Arena> {
    match builder.build() {
        Ok(arena) => Some(arena),
        Err(reason) => {
            let line = format!("SKIPPED: {reason}\n");
            std::io::stderr().write_all(line.as_bytes()).expect("standard error");
            None
        }
    }
}

/// Pseudorandom numbers (xorshift64), a different sequence for each seed.
pub(crate) fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    // The product of an odd number and a number other than zero is not zero.
    let mut x = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed + 1);
    std::iter::repeat_with(move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    })
}

/// The numbers below `count` in an order that readahead cannot predict.
pub(crate) fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<(u64, usize)> = numbers(seed).skip(8).zip(0..count).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, number)| number).collect()
}

/// The numbers below `count`, a multiple of [`CLUSTER`], as clusters in random order.
pub(crate) fn clustered(count: usize, seed: u64) -> Vec<usize> {
    let clusters = shuffled(count / CLUSTER, seed);
    clusters.into_iter().flat_map(|c| c * CLUSTER..(c + 1) * CLUSTER).collect()
}

/// Pages of JSON records, as servers have them. All differ, and LZ4 halves their size.
pub(crate) fn records(arena: &Arena) -> ArenaVec<u8, &Arena> {
    let mut text = ArenaVec::with_capacity_in(PAGES * PAGE, arena);
    let mut record = String::new();
    for (id, n) in numbers(0).enumerate() {
        record.clear();
        let _ = writeln!(
            record,
            r#"{{"id": {id}, "user": "{n:x}", "visits": {}, "price": {}.{}, "active": {}}}"#,
            n % 100,
            n % 997,
            n % 10,
            n.is_multiple_of(3)
        );
        if text.len() + record.len() > PAGES * PAGE {
            text.resize(PAGES * PAGE, b' ');
            break;
        }
        text.extend_from_slice(record.as_bytes());
    }
    text
}

/// Evicts all of [`records`].
pub(crate) fn evict(arena: &Arena) -> Duration {
    let start = Instant::now();
    let evicted = arena.evict_now().expect("the arena swaps");
    let time = start.elapsed();
    assert!(evicted.pages + FEW >= PAGES, "{evicted:?}");
    time
}

/// Brings back all stored pages, so that the eviction takes every page, and evicts.
pub(crate) fn evict_again(arena: &Arena, bytes: &[u8]) {
    arena.prefetch(bytes).expect("the arena swaps");
    evict(arena);
}

/// Reads the pages of `order`, all of which are stored.
pub(crate) fn touch(arena: &Arena, bytes: &[u8], order: &[usize]) -> Duration {
    let brought = || arena.stats().refaults + arena.stats().readahead_pages;
    let before = brought();
    let start = Instant::now();
    for page in order {
        black_box(*black_box(&bytes[page * PAGE]));
    }
    let time = start.elapsed();
    let refaults = brought() - before;
    assert!(refaults + FEW as u64 >= order.len() as u64, "{refaults} refaults");
    time
}

/// Calls `act` with `times` stored pages in all, at most [`PAGES`] at a time.
pub(crate) fn evicted_pages(
    times: u64,
    order: &[usize],
    arena: &Arena,
    bytes: &[u8],
    act: impl Fn(&[usize]) -> Duration,
) -> Duration {
    let mut left = usize::try_from(times).expect("a number of pages");
    let mut time = Duration::ZERO;
    while left > 0 {
        let some = &order[..left.min(PAGES)];
        evict_again(arena, bytes);
        time += act(some);
        left -= some.len();
    }
    time
}

/// Lets `threads` threads touch the pages of `order`, each its own part, and returns the time from the
/// first touch to the last.
pub(crate) fn together(order: &[usize], threads: usize, touch: impl Fn(usize) + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    let (barrier, touch) = (&barrier, &touch);
    let spans: Vec<(Instant, Instant)> = thread::scope(|scope| {
        let part = |n| &order[order.len() * n / threads..order.len() * (n + 1) / threads];
        let work = |part: &[usize]| {
            barrier.wait();
            let start = Instant::now();
            part.iter().for_each(|place| touch(*place));
            (start, Instant::now())
        };
        let threads: Vec<_> =
            (0..threads).map(part).map(|part| scope.spawn(move || work(part))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it only reads")).collect()
    });
    let start = spans.iter().map(|span| span.0).min().expect("a thread");
    let end = spans.iter().map(|span| span.1).max().expect("a thread");
    end - start
}
