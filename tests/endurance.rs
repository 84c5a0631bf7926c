//! Very many refaults, served inline, each checked: `THERMOCLINE_FAULTS=100000000 cargo test --release
//! --test endurance -- --nocapture`.

#![allow(missing_docs)]
#![allow(clippy::print_stdout, reason = "the line at the end is the result")]

mod common;

use common::pages::{PAGE, Pages};
use common::{SetOnDrop, quiet, scaled, setups};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const WORDS: usize = PAGE / 8;
/// Pages of each thread. Few enough for the evictor to come round soon, many enough for it to have
/// something to do each time.
const PAGES: usize = 4096;
const THREADS: usize = 2;

/// What word `at` of a page holds after it was written for the `round`th time. Most pages hold the
/// same 32 bits all over, which costs the store nothing; every sixteenth has to be compressed.
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

/// How many words of the page are not what they must be, looking at every `step`th.
fn wrong(pages: Pages<'_>, page: usize, round: u32, first: usize, step: usize) -> u64 {
    let words = (first..WORDS).step_by(step);
    words.map(|at| u64::from(pages.read(page, at) != stamp(page, at, round))).sum()
}

/// Reads pages of its own in an order without a pattern, a part of each and every eighth whole, which
/// is then written anew.
fn work(pages: Pages<'_>, number: usize, over: &AtomicBool) -> u64 {
    let own = |i: usize| i * THREADS + number;
    let mut rounds = vec![0u32; PAGES];
    let mut state = 0x9E37_79B9_7F4A_7C15u64 ^ (number as u64 + 1);
    let mut found = 0;
    while !over.load(Ordering::Relaxed) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let i = state as usize % PAGES;
        found += wrong(pages, own(i), rounds[i], state as usize >> 44 & 31, 32);
        if (state >> 40).is_multiple_of(8) {
            found += wrong(pages, own(i), rounds[i], 0, 1);
            rounds[i] = rounds[i].wrapping_add(1);
            write(pages, own(i), rounds[i]);
        }
    }
    found + (0..PAGES).map(|i| wrong(pages, own(i), rounds[i], 0, 1)).sum::<u64>()
}

#[test]
fn no_byte_is_wrong_after_very_many_faults() {
    let wanted = std::env::var("THERMOCLINE_FAULTS").map_or(scaled(300_000, 10_000), |text| {
        text.parse().expect("THERMOCLINE_FAULTS is a number")
    });
    for setup in setups("no_byte_is_wrong").into_iter().filter(|setup| setup.is_inline()) {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::new(&arena, PAGES * THREADS);
        (0..PAGES * THREADS).for_each(|page| write(pages, page, 0));
        let (over, found) = (AtomicBool::new(false), AtomicU64::new(0));
        let start = Instant::now();
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (over, found) = (&over, &found);
                scope.spawn(move || found.fetch_add(work(pages, number, over), Ordering::Relaxed));
            }
            let _over = SetOnDrop(&over);
            while arena.stats().refaults < wanted {
                arena.evict_now().unwrap();
                // Pages that lie next to each other go together, so most should be there first.
                for _ in 0..1000 {
                    if arena.stats().resident_bytes >= PAGES * THREADS * PAGE * 3 / 4 {
                        break;
                    }
                    thread::sleep(Duration::from_micros(200));
                }
            }
        });
        let (faults, wrong) = (arena.stats().refaults, found.into_inner());
        let seconds = start.elapsed().as_secs_f64();
        println!("endurance faults={faults} wrong={wrong} seconds={seconds:.1}");
        let stats = arena.stats();
        assert_eq!((wrong, stats.lost_bytes, stats.kernel_refused), (0, 0, 0), "{setup}: {stats}");
        assert!(faults >= wanted && stats.evicted >= wanted, "{setup}: {stats}");
        arena.check().unwrap();
    }
}
