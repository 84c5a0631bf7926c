//! Several threads use memory that is evicted all the time. No byte may be wrong.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs)]
#![allow(clippy::print_stdout, reason = "the counts are a part of the result")]

mod common;

use allocator_api2::vec::Vec as AVec;
use common::{SetOnDrop, Setup, quiet, scaled, setups};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use thermocline::Arena;

/// Numbers that look random, the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Word `at` of a block after its `round`th write. The words of a page have most bits in common, so that it
/// compresses.
fn stamp(owner: u64, at: usize, round: u64) -> u64 {
    owner << 48 | round << 32 | at as u64
}

/// A block of one thread, with the rounds of its writes.
struct Block<'a> {
    words: AVec<u64, &'a Arena>,
    rounds: Vec<u8>,
    owner: u64,
}

/// Words that share one round.
const GRAIN: usize = 64;

impl<'a> Block<'a> {
    fn new(arena: &'a Arena, owner: u64, len: usize) -> Self {
        let mut words = AVec::with_capacity_in(len, arena);
        words.extend((0..len).map(|at| stamp(owner, at, 0)));
        Self { words, rounds: vec![0; len.div_ceil(GRAIN)], owner }
    }

    fn check_word(&self, at: usize) -> u64 {
        let wanted = stamp(self.owner, at, self.rounds[at / GRAIN].into());
        u64::from(self.words[at] != wanted)
    }

    fn write_grain(&mut self, grain: usize) -> u64 {
        let at = grain * GRAIN..((grain + 1) * GRAIN).min(self.words.len());
        let wrong: u64 = at.clone().map(|at| self.check_word(at)).sum();
        self.rounds[grain] = self.rounds[grain].wrapping_add(1);
        for at in at {
            self.words[at] = stamp(self.owner, at, self.rounds[grain].into());
        }
        wrong
    }

    fn check_all(&self) -> u64 {
        (0..self.words.len()).map(|at| self.check_word(at)).sum()
    }

    /// Grows or shrinks the block, through the allocator's own `grow` and `shrink`.
    fn resize(&mut self, len: usize) {
        let was = self.words.len();
        self.words.truncate(len);
        let owner = self.owner;
        if len < was {
            self.words.shrink_to_fit();
            self.rounds.truncate(len.div_ceil(GRAIN));
            return;
        }
        // The new words of the last grain get its round.
        let last = self.rounds.last().copied().unwrap_or(0);
        self.rounds.resize(len.div_ceil(GRAIN), 0);
        let end_of_last = was.div_ceil(GRAIN) * GRAIN;
        self.words.extend(
            (was..len).map(|at| stamp(owner, at, if at < end_of_last { last.into() } else { 0 })),
        );
    }
}

struct Outcome {
    wrong: u64,
    accesses: u64,
}

/// Reads, writes, frees and reallocates at random, until `stop` is set.
fn work(arena: &Arena, thread: u64, bytes: usize, stop: &AtomicBool) -> Outcome {
    let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ (thread + 1));
    let mut owner = thread << 12;
    let mut outcome = Outcome { wrong: 0, accesses: 0 };
    let sizes = [16, 300, 4096, 20_000, 200_000];
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let (mut held, mut pick) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        if held < bytes {
            owner += 1;
            let size = sizes[random.below(sizes.len())];
            let len = 1 + random.below(size);
            blocks.push(Block::new(arena, owner & 0xffff, len));
            held += len * 8;
            continue;
        }
        // The same block for a while, so that the rest becomes cold.
        if random.below(256) == 0 || pick >= blocks.len() {
            pick = random.below(blocks.len());
        }
        if random.below(512) == 0 {
            thread::sleep(Duration::from_micros(300));
        }
        let block = &mut blocks[pick];
        match random.below(1000) {
            0 => {
                outcome.wrong += block.check_all();
                held -= block.words.len() * 8;
                blocks.swap_remove(pick);
            }
            1..=3 => {
                held -= block.words.len() * 8;
                let len = 1 + random.below(block.words.len() * 3 / 2 + 64);
                block.resize(len);
                held += len * 8;
                outcome.wrong += block.check_all();
            }
            4..=400 => {
                let grain = random.below(block.rounds.len());
                outcome.wrong += block.write_grain(grain);
                outcome.accesses += 2 * GRAIN as u64;
            }
            _ => {
                let at = random.below(block.words.len());
                outcome.wrong += block.check_word(at);
                outcome.accesses += 1;
            }
        }
    }
    outcome.wrong += blocks.iter().map(Block::check_all).sum::<u64>();
    outcome
}

/// Whether the arena has evicted and restored enough for a result to mean something.
fn is_enough(arena: &Arena) -> bool {
    let (stats, enough) = (arena.stats(), scaled(5000, 300));
    stats.evicted_pages > enough && stats.refaults > enough
}

/// Runs four threads on `bytes` in all, calls `evict` meanwhile, and checks that nothing is wrong.
fn stress(setup: Setup, arena: &Arena, bytes: usize, time: Duration, evict: impl Fn()) {
    let before = arena.stats().allocated_bytes;
    let (wrong, accesses) = (AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..4 {
            let (wrong, accesses, stop) = (&wrong, &accesses, &stop);
            scope.spawn(move || {
                let outcome = work(arena, number, bytes / 4, stop);
                wrong.fetch_add(outcome.wrong, Ordering::Relaxed);
                accesses.fetch_add(outcome.accesses, Ordering::Relaxed);
            });
        }
        let _stop = SetOnDrop(&stop);
        // A busy machine gets more time.
        let start = Instant::now();
        while start.elapsed() < time || (!is_enough(arena) && start.elapsed() < 10 * time) {
            evict();
        }
    });
    let stats = arena.stats();
    println!(
        "{setup}: {} accesses, {} evicted, {} refaults, {} taken back, {} touched in time",
        accesses.into_inner(),
        stats.evicted_pages,
        stats.refaults,
        stats.evictions_cancelled,
        stats.touched_during_eviction,
    );
    assert_eq!(wrong.into_inner(), 0, "{stats}");
    assert!(is_enough(arena), "too little: {stats}");
    assert_eq!((stats.lost_bytes, stats.kernel_errors), (0, 0), "{stats}");
    assert_eq!(stats.allocated_bytes, before, "{stats}");
    arena.check().unwrap();
}

/// Zeal evicts every page repeatedly, in large batches and page by page.
#[test]
fn no_byte_is_wrong_under_zeal() {
    for setup in setups("no_byte_is_wrong_under_zeal") {
        let interval = Duration::from_millis(1);
        let arena = quiet(setup).scan_interval(interval).cold_age(interval).zeal(true).build();
        let time = Duration::from_secs(scaled(10, 3));
        stress(setup, &arena.unwrap(), 128 << 20, time, || thread::sleep(interval));
    }
}

/// A quarter of the data fits in memory.
#[test]
fn no_byte_is_wrong_under_a_tiny_limit() {
    for setup in setups("no_byte_is_wrong_under_a_tiny_limit") {
        let arena = quiet(setup)
            .resident_limit(8 << 20)
            .scan_interval(Duration::from_millis(5))
            .cold_age(Duration::from_secs(600))
            .handler_threads(1)
            .build()
            .unwrap();
        let time = Duration::from_secs(scaled(5, 2));
        stress(setup, &arena, 32 << 20, time, || thread::sleep(Duration::from_millis(5)));
    }
}

/// Advice, prefetches and `evict_now` all the time.
#[test]
fn no_byte_is_wrong_during_advice_and_evictions() {
    for setup in setups("no_byte_is_wrong_during_advice_and_evictions") {
        let arena = quiet(setup).handler_threads(4).store_limit(16 << 20).build().unwrap();
        let mut shared = AVec::with_capacity_in(200_000, &arena);
        shared.extend((0..200_000u64).map(|n| n << 3));
        let rounds = AtomicU64::new(0);
        let evict = || {
            let round = rounds.fetch_add(1, Ordering::Relaxed);
            arena.evict_now().unwrap();
            let part = &shared[round as usize * 7919 % 100_000..][..50_000];
            match round % 3 {
                0 => drop(arena.prefetch(part).unwrap()),
                1 => arena.advise(part, thermocline::Advice::WillNeed).unwrap(),
                _ => arena.advise(part, thermocline::Advice::Cold).unwrap(),
            }
            let at = round as usize * 104_729 % shared.len();
            assert_eq!(shared[at], (at as u64) << 3);
        };
        let time = Duration::from_secs(scaled(5, 2));
        stress(setup, &arena, 32 << 20, time, evict);
        assert!(shared.iter().enumerate().all(|(n, number)| *number == (n as u64) << 3));
    }
}
