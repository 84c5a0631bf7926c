//! The arena in which the disturbances work.

use super::common::blocks::Random;
use super::common::scaled;
use super::standing::STANDING;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use thermocline::Arena;

/// One arena, and whether its time is over.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    pub arena: &'a Arena,
    pub over: &'a AtomicBool,
    /// The main thread, which outlives all arenas.
    pub main: libc::pid_t,
}

/// Runs until the scene is over, and returns its number of steps.
pub type Disturbance = fn(Scene<'_>, Random) -> u64;

impl Scene<'_> {
    pub fn is_over(self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Calls `step` until the scene is over and returns how often. Sleeps up to `pause` microseconds before
    /// each call, ten times as long under emulation.
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

/// Some of the standing pages: their numbers, and their bytes.
pub fn part(random: &mut Random) -> (Range<usize>, *const [u8]) {
    let pages = STANDING.pages();
    let first = random.below(pages);
    let most = if random.one_in(4) { pages } else { 40 };
    let count = 1 + random.below(most.min(pages - first));
    let range = first..first + count;
    (range.clone(), STANDING.range(range))
}
