//! What pages cost on their way out and back, and what blocks cost.
//!
//! ```text
//! cargo bench --bench pages -- --quick
//! ```
//!
//! Times are per page where elements are counted (`elem`), else per operation. Nothing is evicted
//! in the background: each benchmark says when.

use allocator_api2::alloc::{Allocator, Global};
use allocator_api2::vec::Vec;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};
use thermocline::{Arena, Builder};

const PAGE: usize = 4096;
const PAGES: usize = (32 << 20) / PAGE;

/// Pages that did not go, or were there already, are not to be timed as if they had: at most this
/// part of them may be missing.
const FEW: usize = PAGES / 50;

const HOUR: Duration = Duration::from_secs(3600);

fn quiet() -> Builder {
    Arena::builder().reserve(1 << 30).scan_interval(HOUR).cold_age(HOUR)
}

/// None, and a word about it, where arenas cannot swap.
fn started(builder: Builder) -> Option<Arena> {
    match builder.build() {
        Ok(arena) => Some(arena),
        Err(reason) => {
            let line = format!("SKIPPED: {reason}\n");
            std::io::stderr().write_all(line.as_bytes()).expect("standard error");
            None
        }
    }
}

/// A sequence of numbers that look random (xorshift64).
fn numbers() -> impl Iterator<Item = u64> {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    })
}

/// Pages of records such as servers keep, of which LZ4 makes about a half. They all differ.
fn records(arena: &Arena) -> Vec<u8, &Arena> {
    let mut text = Vec::with_capacity_in(PAGES * PAGE, arena);
    let mut record = String::new();
    for (id, n) in numbers().enumerate() {
        record.clear();
        let _ = writeln!(
            record,
            r#"{{"id": {id}, "user": "{n:x}", "visits": {}, "price": {}.{}, "active": {}}}"#,
            n % 100,
            n % 997,
            n % 10,
            n % 3 == 0
        );
        if text.len() + record.len() > PAGES * PAGE {
            text.resize(PAGES * PAGE, b' ');
            break;
        }
        text.extend_from_slice(record.as_bytes());
    }
    text
}

fn evict(arena: &Arena) -> Duration {
    let start = Instant::now();
    let evicted = arena.evict_now().expect("the arena swaps");
    let time = start.elapsed();
    assert!(evicted.pages + FEW >= PAGES, "{evicted:?}");
    time
}

fn prefetch(arena: &Arena, bytes: &[u8]) -> Duration {
    let start = Instant::now();
    let pages = arena.prefetch(bytes).expect("the arena swaps");
    let time = start.elapsed();
    assert!(pages + FEW >= PAGES, "{pages} pages came back");
    time
}

/// Reads `order` pages, each of which is in the store.
fn touch(arena: &Arena, bytes: &[u8], order: &[usize]) -> Duration {
    let before = arena.stats().refaults;
    let start = Instant::now();
    for page in order {
        black_box(*black_box(&bytes[page * PAGE]));
    }
    let time = start.elapsed();
    let refaults = arena.stats().refaults - before;
    assert!(refaults + FEW as u64 >= order.len() as u64, "{refaults} refaults");
    time
}

/// All pages in an order that no readahead guesses.
fn shuffled() -> std::vec::Vec<usize> {
    let mut order: std::vec::Vec<(u64, usize)> = numbers().zip(0..PAGES).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, page)| page).collect()
}

fn pages(criterion: &mut Criterion) {
    let Some(arena) = started(quiet()) else { return };
    let text = records(&arena);
    let tracker = arena.swapping().to_string();
    let mut group = criterion.benchmark_group("pages");
    group.throughput(Throughput::Elements(PAGES as u64));
    group.bench_function(BenchmarkId::new("evict_now", &tracker), |bencher| {
        bencher.iter_custom(|times| {
            let round = |_| {
                let time = evict(&arena);
                prefetch(&arena, &text);
                time
            };
            (0..times).map(round).sum()
        });
    });
    group.bench_function(BenchmarkId::new("prefetch", &tracker), |bencher| {
        bencher.iter_custom(|times| {
            let round = |_| {
                evict(&arena);
                prefetch(&arena, &text)
            };
            (0..times).map(round).sum()
        });
    });
    group.finish();
}

/// One thread touches pages in the store, one at a time. It needs one handler, but how many there
/// are has a say in where the one that serves it wakes: waking a sleeping processor takes longer
/// than all the rest.
fn refaults(criterion: &mut Criterion) {
    let order = shuffled();
    let mut group = criterion.benchmark_group("refault");
    group.throughput(Throughput::Elements(1));
    for handlers in [1, 2] {
        let Some(arena) = started(quiet().handler_threads(handlers)) else { return };
        let text = records(&arena);
        let name = BenchmarkId::new(format!("handlers={handlers}"), arena.swapping());
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let mut left = usize::try_from(times).expect("a number of pages");
                let mut time = Duration::ZERO;
                while left > 0 {
                    let some = &order[..left.min(PAGES)];
                    // What the last round has left in the store, so that all pages go.
                    arena.prefetch(text.as_slice()).expect("the arena swaps");
                    evict(&arena);
                    time += touch(&arena, &text, some);
                    left -= some.len();
                }
                time
            });
        });
    }
    group.finish();
}

/// Allocates a block and frees it, without touching it. From a page up that is a matter of the
/// kernel's: the pages are given zeros, and taken away again.
fn blocks(criterion: &mut Criterion) {
    let Some(arena) = started(quiet()) else { return };
    let mut group = criterion.benchmark_group("blocks");
    for bytes in [64, 64 << 10] {
        group.bench_function(BenchmarkId::new("arena", bytes), |bencher| {
            bencher.iter(|| block(bytes, &arena));
        });
        group.bench_function(BenchmarkId::new("global", bytes), |bencher| {
            bencher.iter(|| block(bytes, Global));
        });
    }
    group.finish();
}

fn block(bytes: usize, allocator: impl Allocator) {
    black_box(Vec::<u8, _>::with_capacity_in(bytes, allocator));
}

criterion_group! {
    name = benches;
    // Short: what is measured is microseconds, and each sample has thousands of them.
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = pages, refaults, blocks
}
criterion_main!(benches);
