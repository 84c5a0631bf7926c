//! Runs a load: one thread touches memory.

use crate::Trouble;
use crate::common::PAGE;
use crate::kernel::resident;
use crate::layout::{LINE, LINES, MARK, WORDS, walk};
use crate::loads::{Beat, Load, Objects, Setup, Timing};
use crate::zipf::{step, uniform};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Touches from one reading of the clock to the next.
const BATCH: usize = 512;

/// Pages from one write of the load `stride` to the next.
const STRIDE: usize = (64 << 10) / PAGE;

/// Reads of an object.
const READS: u64 = 8;

/// What a load did, and what it knows about its pages.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) touches: u64,
    /// The time in which the load did not rest.
    pub(crate) on_time: Duration,
    /// Touches that brought a page back within one cold age of its eviction. None if all refaults did.
    pub(crate) again: Option<u64>,
    /// Evictions by a tracker with exact ages, and those of them that a touch within one cold age follows.
    pub(crate) ideal: Option<(u64, u64)>,
    /// Pages without a touch for two cold ages, and those of them that are in memory.
    pub(crate) idle: Option<(u64, u64)>,
}

impl Setup {
    /// Runs the load for as long as it needs before it is measured.
    pub(crate) fn settle(&self, words: &[AtomicU64]) {
        let mut cursors = self.layout.first_words();
        let groups = cursors.len();
        drive(&self.timing, self.timing.settle, groups, &mut Done::default(), |group, _| {
            cursors[group] = black_box(walk(words, cursors[group], BATCH));
        });
    }

    pub(crate) fn touch(&self, words: &[AtomicU64], seed: u64) -> Result<Done, Trouble> {
        if let Some(objects) = &self.objects {
            return read_objects(words, objects, &self.timing, seed);
        }
        let mut done = Done::default();
        let mut cursors = self.layout.first_words();
        let groups = cursors.len();
        let mut part = |length: Duration, done: &mut Done| match self.load {
            Load::Idle => thread::sleep(length),
            Load::Stride => drive(&self.timing, length, groups, done, |_, from| {
                write(words, from);
            }),
            _ => drive(&self.timing, length, groups, done, |group, _| {
                cursors[group] = black_box(walk(words, cursors[group], BATCH));
            }),
        };
        if !self.load.evicts() {
            part(self.timing.length, &mut done);
            return Ok(done);
        }
        let found = self.timing.cold_age * 2;
        part(found, &mut done);
        let mut untouched = self.untouched.iter();
        let left = untouched.try_fold(0, |left, page| {
            resident(page_of(words, *page)).map(|here| left + u64::from(here))
        })?;
        done.idle = Some((self.untouched.len() as u64, left));
        part(self.timing.length - found, &mut done);
        Ok(done)
    }

    /// The number of pages with a wrong word.
    pub(crate) fn wrong_pages(&self, words: &[AtomicU64], done: &Done) -> usize {
        let stride = self.load == Load::Stride;
        let writes = self.layout.pages().div_ceil(STRIDE) as u64;
        self.layout.wrong_pages(words, |page| {
            if !stride || !page.is_multiple_of(STRIDE) {
                return 0;
            }
            let in_last_round = ((page / STRIDE) as u64) < done.touches % writes;
            done.touches / writes + u64::from(in_last_round)
        })
    }
}

/// Calls `batch` until `length` is over, except while the load rests. `batch` gets the group to touch, and
/// the number of touches before.
fn drive(
    timing: &Timing,
    length: Duration,
    groups: usize,
    done: &mut Done,
    mut batch: impl FnMut(usize, u64),
) {
    let start = Instant::now();
    let mut at = Duration::ZERO;
    while at < length {
        match timing.beat(at, groups) {
            Beat::Rest { left } => {
                thread::sleep(left.min(length - at));
                at = start.elapsed();
            }
            Beat::Touch { group } => {
                batch(group, done.touches);
                done.touches += BATCH as u64;
                let now = start.elapsed();
                done.on_time += now - at;
                at = now;
            }
        }
    }
}

/// The next writes of the load `stride`, after `from` writes. Each writes the number of its round.
fn write(words: &[AtomicU64], from: u64) {
    let marks = words.len() / WORDS;
    let writes = marks.div_ceil(STRIDE);
    let (mut round, mut place) = (from / writes as u64 + 1, (from % writes as u64) as usize);
    for _ in 0..BATCH {
        words[place * STRIDE * WORDS + MARK].store(round, Ordering::Relaxed);
        place += 1;
        if place == writes {
            (round, place) = (round + 1, 0);
        }
    }
}

fn read_objects(
    words: &[AtomicU64],
    objects: &Objects,
    timing: &Timing,
    seed: u64,
) -> Result<Done, Trouble> {
    let age = timing.cold_age.as_millis() as u64;
    // Milliseconds. The program has written every page shortly before.
    let mut touched = vec![0_u64; objects.pages.len()];
    let mut done = Done::default();
    let (mut again, mut ideal, mut ideal_again) = (0, 0, 0);
    let (mut state, mut read) = (seed, 0);
    let start = Instant::now();
    while start.elapsed() < timing.length {
        let due = (start.elapsed().as_secs_f64() * objects.rate) as u64;
        while done.touches < due {
            let rank = objects.ranks.rank(uniform(step(&mut state, read)));
            let number = objects.pages[rank];
            let page = page_of(words, number);
            let now = start.elapsed().as_millis() as u64;
            let gap = now - std::mem::replace(&mut touched[number as usize], now);
            again += u64::from(gap < 2 * age && !resident(page)?);
            ideal += u64::from(gap >= age);
            ideal_again += u64::from((age..2 * age).contains(&gap));
            let begin = Instant::now();
            read = black_box(read_object(page));
            done.on_time += begin.elapsed();
            done.touches += 1;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let now = start.elapsed().as_millis() as u64;
    let (mut idle, mut left) = (0, 0);
    for (number, touched) in touched.iter().enumerate() {
        ideal += u64::from(now - touched >= age);
        if now - touched >= 2 * age {
            idle += 1;
            left += u64::from(resident(&words[number * WORDS..][..WORDS])?);
        }
    }
    (done.again, done.ideal) = (Some(again), Some((ideal, ideal_again)));
    done.idle = Some((idle, left));
    Ok(done)
}

/// Reads some lines of a page. Each line depends on the word before.
fn read_object(page: &[AtomicU64]) -> u64 {
    (0..READS).fold(0, |read, n| {
        let line = (read / LINE as u64 + n * 7) as usize % LINES;
        page[line * LINE].load(Ordering::Relaxed)
    })
}

fn page_of(words: &[AtomicU64], page: u32) -> &[AtomicU64] {
    &words[page as usize * WORDS..][..WORDS]
}
