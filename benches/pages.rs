//! The time of evicting pages and bringing them back, and of allocating blocks.
//!
//! ```text
//! cargo bench --bench pages -- --quick
//! ```
//!
//! Times are per page where criterion counts elements (`elem`), else per operation. The arenas evict
//! nothing in the background.

mod common;

use allocator_api2::alloc::{Allocator, Global};
use allocator_api2::vec::Vec;
use common::{FEW, PAGES, evict, evicted_pages, quiet, records, shuffled, started, touch};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::{Duration, Instant};
use thermocline::Arena;

fn prefetch(arena: &Arena, bytes: &[u8]) -> Duration {
    let start = Instant::now();
    let pages = arena.prefetch(bytes).expect("the arena swaps");
    let time = start.elapsed();
    assert!(pages + FEW >= PAGES, "{pages} pages came back");
    time
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

/// One thread touches stored pages, one at a time. One handler thread is enough for it. But the number of
/// handler threads influences on which processor a handler thread wakes, and to wake a sleeping processor
/// takes longer than the rest of the fault.
fn refaults(criterion: &mut Criterion) {
    let order = shuffled(PAGES, 0);
    let mut group = criterion.benchmark_group("refault");
    group.throughput(Throughput::Elements(1));
    for handlers in [1, 2] {
        let Some(arena) = started(quiet().handler_threads(handlers)) else { return };
        let text = records(&arena);
        let name = BenchmarkId::new(format!("handlers={handlers}"), arena.swapping());
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                evicted_pages(times, &order, &arena, &text, |some| touch(&arena, &text, some))
            });
        });
    }
    group.finish();
}

/// Allocates a block and frees it, without touching it. For blocks of a page or more the kernel takes
/// most of the time: it zeroes the pages and frees them.
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
    // Short, because an operation takes microseconds and each sample has thousands of them.
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = pages, refaults, blocks
}
criterion_main!(benches);
