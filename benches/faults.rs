//! The time of a touch of an evicted page, by fault mode, order of the touches and number of threads; and the
//! time of a scan for cold pages.
//!
//! ```text
//! cargo bench --bench faults -- --quick
//! cargo bench --bench faults -- threads/inline
//! ```
//!
//! Times are per page. `pages` measures eviction and `prefetch`, `vs_kernel` the kernel's own swap.

mod common;

use common::{
    HOUR, MODES, PAGE, PAGES, clustered, evict_again, evicted_pages, in_mode, quiet, records,
    shuffled, started, together, touch,
};
use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use std::fs;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

/// Touches without pauses: a handler thread that polls for the next message does not fall asleep.
fn orders(criterion: &mut Criterion) {
    let orders = [
        ("random", shuffled(PAGES, 0)),
        ("clustered", clustered(PAGES, 0)),
        ("sequential", (0..PAGES).collect()),
    ];
    let mut group = criterion.benchmark_group("touch");
    group.throughput(Throughput::Elements(1));
    for mode in MODES {
        let Some(arena) = started(in_mode(mode)) else { continue };
        let text = records(&arena);
        for (name, order) in &orders {
            group.bench_function(BenchmarkId::new(mode.to_string(), name), |bencher| {
                bencher.iter_custom(|times| {
                    evicted_pages(times, order, &arena, &text, |some| touch(&arena, &text, some))
                });
            });
        }
    }
    group.finish();
}

/// Touches with pauses of a millisecond, in which a handler thread falls asleep.
fn after_pauses(criterion: &mut Criterion) {
    const TOUCHES: u32 = 200;
    let order = shuffled(PAGES, 0);
    let mut group = criterion.benchmark_group("touch_after_pause");
    group.throughput(Throughput::Elements(1)).sampling_mode(SamplingMode::Flat);
    for mode in MODES {
        let Some(arena) = started(in_mode(mode)) else { continue };
        let text = records(&arena);
        group.bench_function(mode.to_string(), |bencher| {
            bencher.iter_custom(|times| {
                evict_again(&arena, &text);
                let touch = |page: &usize| {
                    thread::sleep(Duration::from_millis(1));
                    let start = Instant::now();
                    black_box(*black_box(&text[page * PAGE]));
                    start.elapsed()
                };
                let time: Duration = order.iter().take(TOUCHES as usize).map(touch).sum();
                scaled(time, u64::from(TOUCHES), times)
            });
        });
    }
    group.finish();
}

/// Pages that `ensure` brings back before they are read, one at a time.
fn ensured(criterion: &mut Criterion) {
    let order = shuffled(PAGES, 0);
    let Some(arena) = started(quiet()) else { return };
    let text = records(&arena);
    let read = |some: &[usize]| {
        let start = Instant::now();
        for page in some {
            arena.ensure(&text[page * PAGE..(page + 1) * PAGE]).expect("the arena swaps");
            black_box(*black_box(&text[page * PAGE]));
        }
        start.elapsed()
    };
    let mut group = criterion.benchmark_group("ensure");
    group.throughput(Throughput::Elements(1));
    group.bench_function("evicted", |bencher| {
        bencher.iter_custom(|times| evicted_pages(times, &order, &arena, &text, read));
    });
    group.bench_function("in memory", |bencher| {
        arena.prefetch(text.as_slice()).expect("the arena swaps");
        bencher.iter_custom(|times| {
            let time = (0..times.div_ceil(PAGES as u64)).map(|_| read(&order)).sum();
            scaled(time, times.next_multiple_of(PAGES as u64), times)
        });
    });
    group.finish();
}

/// Five hundred bytes of each page, read from the store with `peek`.
fn peeked(criterion: &mut Criterion) {
    let order = shuffled(PAGES, 0);
    let Some(arena) = started(quiet()) else { return };
    let text = records(&arena);
    evict_again(&arena, &text);
    let mut buffer = Vec::new();
    let mut group = criterion.benchmark_group("peek");
    group.throughput(Throughput::Elements(1));
    group.bench_function("evicted", |bencher| {
        let mut pages = order.iter().cycle();
        bencher.iter(|| {
            let page = pages.next().expect("a cycle");
            let bytes = &text[page * PAGE + 1000..][..500];
            arena.peek(bytes, &mut buffer).expect("nothing is damaged").len()
        });
    });
    group.finish();
}

/// Threads that touch pages at the same time, each its own.
fn threads(criterion: &mut Criterion) {
    let order = shuffled(PAGES, 0);
    let mut group = criterion.benchmark_group("threads");
    group.throughput(Throughput::Elements(PAGES as u64)).sampling_mode(SamplingMode::Flat);
    for mode in MODES {
        let Some(arena) = started(in_mode(mode)) else { continue };
        let text = records(&arena);
        for count in [1, 2, 4, 16, 64] {
            group.bench_function(BenchmarkId::new(mode.to_string(), count), |bencher| {
                bencher.iter_custom(|times| {
                    let round = |_| {
                        evict_again(&arena, &text);
                        together(&order, count, |page| {
                            black_box(text[page * PAGE]);
                        })
                    };
                    (0..times).map(round).sum()
                });
            });
        }
    }
    group.finish();
}

/// The evictor's processor time per page that it scans, in an arena that scans as often as possible and
/// evicts nothing. The time includes its other work in a scan interval. Scans adapt: the evictor scans
/// regions that are never or always touched less than once in an interval.
fn looks(criterion: &mut Criterion) {
    const WINDOW: Duration = Duration::from_millis(200);
    let often = quiet().scan_interval(Duration::from_millis(1)).cold_age(HOUR / 10);
    let Some(arena) = started(often) else { return };
    let text = records(&arena);
    let tracker = arena.swapping().to_string();
    let order: Vec<usize> = (0..PAGES).collect();
    let mut group = criterion.benchmark_group("look");
    group.throughput(Throughput::Elements(1)).sampling_mode(SamplingMode::Flat);
    for (name, touched) in [("untouched", &order[..0]), ("touched", &order[..])] {
        group.bench_function(BenchmarkId::new(name, &tracker), |bencher| {
            bencher.iter_custom(|times| {
                let (before, scanned) = (evictor_time(), arena.stats().scanned_pages);
                let start = Instant::now();
                loop {
                    for page in touched {
                        black_box(*black_box(&text[page * PAGE]));
                    }
                    let done = arena.stats().scanned_pages - scanned;
                    if start.elapsed() > WINDOW && done >= PAGES as u64 {
                        return scaled(evictor_time() - before, done, times);
                    }
                    thread::sleep(Duration::from_micros(500));
                }
            });
        });
    }
    group.finish();
}

/// The processor time of the evictor thread. There is one such thread, because there is one arena.
fn evictor_time() -> Duration {
    let threads = fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let nanos = threads.filter_map(|thread| {
        let read = |file| fs::read_to_string(thread.path().join(file)).ok();
        let ours = read("comm")?.trim_end() == "thermo-evict";
        let time = read("schedstat")?.split(' ').next()?.parse::<u64>().ok()?;
        ours.then_some(time)
    });
    Duration::from_nanos(nanos.sum())
}

/// The time for `times` operations, if `done` operations took `time`.
#[expect(clippy::cast_precision_loss, reason = "a time that was measured")]
fn scaled(time: Duration, done: u64, times: u64) -> Duration {
    time.mul_f64(times as f64 / done.max(1) as f64)
}

criterion_group! {
    name = benches;
    // Short, because an operation takes microseconds and each sample has thousands of them.
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = orders, after_pauses, ensured, peeked, threads, looks
}
criterion_main!(benches);
