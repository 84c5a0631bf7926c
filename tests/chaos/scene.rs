//! What all pieces work on.

use super::common::blocks::Random;
use super::common::scaled;
use super::standing::STANDING;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use thermocline::Arena;

/// An arena for as long as it lives.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    pub arena: &'a Arena,
    pub over: &'a AtomicBool,
    /// The thread that lives through all arenas.
    pub main: libc::pid_t,
}

/// Something that goes on until it is over, and says how often it did what it does.
pub type Disturbance = fn(Scene<'_>, Random) -> u64;

impl Scene<'_> {
    pub fn is_over(self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Does something again and again, with a pause of up to so many microseconds before each time, longer
    /// under emulation, and says how often.
    pub fn repeat(
        self,
        mut random: Random,
        pause: usize,
        mut step: impl FnMut(&mut Random),
    ) -> u64 {
        let (pause, mut steps) = (scaled(pause, 10 * pause), 0);
        while !self.is_over() {
            thread::sleep(Duration::from_micros(random.below(pause) as u64));
            step(&mut random);
            steps += 1;
        }
        steps
    }
}

/// A part of the pages that stand in the arena, and whose bytes it is.
pub fn part(random: &mut Random) -> (Range<usize>, *const [u8]) {
    let pages = STANDING.pages();
    let first = random.below(pages);
    let most = if random.one_in(4) { pages } else { 40 };
    let count = 1 + random.below(most.min(pages - first));
    let range = first..first + count;
    (range.clone(), STANDING.range(range))
}
