//! A great many refaults, each checked: `THERMOCLINE_FAULTS=100000000 cargo test --release --test endurance
//! -- --nocapture`, with `THERMOCLINE_FAULT_MODES=inline` for one fault mode only.

#![allow(missing_docs)]
#![allow(clippy::print_stdout, reason = "the line at the end is the result")]

mod common;

use common::pages::{PAGE, Pages};
use common::{SetOnDrop, quiet, scaled, setups};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const WORDS: usize = PAGE / 8;
/// Pages of each thread: few, so that each is evicted often, but enough for many batches.
const PAGES: usize = 4096;
const THREADS: usize = 2;

/// Word `at` of a page after its `round`th write. Most pages are same-filled; every sixteenth page has to be
/// compressed.
fn stamp(page: usize, at: usize, round: u32) -> u64 {
    let mark = (page as u32).wrapping_mul(0x9E37_79B1) ^ round.wrapping_mul(0x85EB_CA77);
    if page.is_multiple_of(16) {
        u64::from(mark) << 32 | (at as u64 / 4)
    } else {
        u64::from(mark) << 32 | u64::from(mark)
    }
}

fn write(pages: Pages<'_>, page: usize, round: u32) {
    (0..WORDS).for_each(|at| pages.write(page, at, stamp(page, at, round)));
}

/// The words that a thread has checked.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    words: u64,
    wrong: u64,
}

impl Seen {
    /// Checks every `step`th word of the page.
    fn look(&mut self, pages: Pages<'_>, page: usize, round: u32, first: usize, step: usize) {
        for at in (first..WORDS).step_by(step) {
            self.words += 1;
            self.wrong += u64::from(pages.read(page, at) != stamp(page, at, round));
        }
    }
}

/// Reads the thread's own pages in random order: some words of each page, and all words of every eighth,
/// which it then rewrites.
fn work(pages: Pages<'_>, number: usize, over: &AtomicBool) -> Seen {
    let own = |i: usize| i * THREADS + number;
    let mut rounds = vec![0u32; PAGES];
    let mut state = 0x9E37_79B9_7F4A_7C15u64 ^ (number as u64 + 1);
    let mut seen = Seen::default();
    while !over.load(Ordering::Relaxed) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let i = state as usize % PAGES;
        seen.look(pages, own(i), rounds[i], state as usize >> 44 & 31, 32);
        if (state >> 40).is_multiple_of(8) {
            seen.look(pages, own(i), rounds[i], 0, 1);
            rounds[i] = rounds[i].wrapping_add(1);
            write(pages, own(i), rounds[i]);
        }
    }
    (0..PAGES).for_each(|i| seen.look(pages, own(i), rounds[i], 0, 1));
    seen
}

#[test]
fn no_byte_is_wrong_after_very_many_faults() {
    let wanted = std::env::var("THERMOCLINE_FAULTS").map_or(scaled(150_000, 6000), |text| {
        text.parse().expect("THERMOCLINE_FAULTS is a number")
    });
    for setup in setups("no_byte_is_wrong") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::new(&arena, PAGES * THREADS);
        (0..PAGES * THREADS).for_each(|page| write(pages, page, 0));
        let over = AtomicBool::new(false);
        let start = Instant::now();
        let seen = thread::scope(|scope| {
            let over = &over;
            let workers: Vec<_> =
                (0..THREADS).map(|number| scope.spawn(move || work(pages, number, over))).collect();
            let until = SetOnDrop(over);
            while arena.stats().refaults < wanted {
                arena.evict_now().unwrap();
                // Batches are of neighbours, so wait until most pages are resident.
                for _ in 0..1000 {
                    if arena.stats().resident_bytes >= (PAGES * THREADS * PAGE * 3 / 4) as u64 {
                        break;
                    }
                    thread::sleep(Duration::from_micros(200));
                }
            }
            drop(until);
            workers.into_iter().map(|worker| worker.join().unwrap()).fold(
                Seen::default(),
                |all, seen| Seen { words: all.words + seen.words, wrong: all.wrong + seen.wrong },
            )
        });
        let (faults, Seen { words, wrong }) = (arena.stats().refaults, seen);
        println!(
            "endurance {setup} faults={faults} bytes_checked={} wrong={wrong} seconds={:.1}",
            words * 8,
            start.elapsed().as_secs_f64()
        );
        let stats = arena.stats();
        assert_eq!((wrong, stats.lost_bytes, stats.kernel_errors), (0, 0, 0), "{setup}: {stats}");
        assert!(faults >= wanted && stats.evicted_pages >= wanted, "{setup}: {stats}");
        arena.check().unwrap();
    }
}
