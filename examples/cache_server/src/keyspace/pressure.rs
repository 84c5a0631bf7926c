//! Whether the arena keeps to its limit, and what that means for commands that need memory.
//!
//! | state  | the arena                                             | a command that needs memory        |
//! |--------|-------------------------------------------------------|------------------------------------|
//! | Calm   | is within its limit, or little above it               | is carried out                     |
//! | Behind | is above it, and compression has not yet come to rest | waits, with its connection         |
//! | Full   | was above it for [`PATIENCE`], with no progress       | is carried out below the *ceiling* |
//!
//! No command sleeps: one that has to wait is left in its connection's input, and the connection is
//! tried again some milliseconds later. Its worker serves other connections meanwhile.
//!
//! The ceiling bounds the bytes of keys and values, as `maxmemory` does. When the state becomes Full,
//! the ceiling is what they take at that time. A command above it evicts keys by the policy until they
//! are below it, or is refused where the policy evicts nothing. While the arena stays above its limit,
//! the ceiling is lowered by a small part ten times a second, and keys are evicted for it. While the
//! arena is within its limit, the ceiling is raised again; once it is well above what keys and values
//! take, it is given up, and the state is Calm. The ceiling stays in between, so that a full cache
//! evicts about as much as is written, and does not have to find out again that it is full.

use super::{Keyspace, OutOfMemory};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What a command that needs memory has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Nothing: there is room.
    Ready,
    /// Come again some milliseconds later.
    Later,
}

/// How the arena keeps to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    Calm,
    Behind,
    Full,
}

impl Pressure {
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Behind => "behind",
            Self::Full => "full",
        }
    }
}

/// How far above its limit the arena may be without a command waiting: a sixty-fourth.
const SLACK: usize = 64;

/// How far above its limit a full arena may be: a sixteenth. Beyond it commands wait until the ceiling
/// has been lowered far enough.
const FULL_SLACK: usize = 16;

/// How long the arena is above its limit, and does not come nearer to it, until it counts as full.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long one command evicts keys at most, or a little longer.
const EVICTING: Duration = Duration::from_micros(300);

/// How long tending evicts keys at most.
const EVICTING_BEHIND: Duration = Duration::from_millis(10);

/// The part of what keys and values take by which the ceiling is lowered every tenth of a second, at
/// least, and at most where the arena is far above its limit.
const LOWERED: usize = 128;
const LOWERED_FAR: usize = 32;

/// The part of the ceiling by which it is raised every tenth of a second.
const RAISED: usize = 256;

/// How far above what keys and values take the ceiling means nothing: an eighth.
const CLEAR: usize = 8;

/// The time for which the arena has been above its limit.
#[derive(Debug)]
struct Above {
    since: Instant,
    least_excess: usize,
}

#[derive(Debug)]
pub(super) struct Gauge {
    above: Mutex<Option<Above>>,
    /// Bytes that keys and values may take for the sake of the arena's limit. The largest number where
    /// the arena is not full.
    ceiling: AtomicUsize,
}

impl Default for Gauge {
    fn default() -> Self {
        Self { above: Mutex::default(), ceiling: AtomicUsize::new(usize::MAX) }
    }
}

impl Gauge {
    /// How long the arena has been above its limit without coming nearer to it.
    fn note(&self, excess: usize, now: Instant) -> Duration {
        let mut above = self.above.lock();
        match &mut *above {
            Some(above) if excess >= above.least_excess => now - above.since,
            above => {
                *above = Some(Above { since: now, least_excess: excess });
                Duration::ZERO
            }
        }
    }

    fn is_full(&self) -> bool {
        self.ceiling.load(Relaxed) < usize::MAX
    }
}

impl Keyspace {
    /// How the arena keeps to its limit.
    pub fn pressure(&self) -> Pressure {
        if self.gauge.is_full() {
            Pressure::Full
        } else if self.excess_above(SLACK).is_some() {
            Pressure::Behind
        } else {
            Pressure::Calm
        }
    }

    /// Room for a command that may need more memory: evicts keys by `maxmemory-policy` where there is
    /// too much of them. To be called before [`keys`](Self::keys), as it takes locks.
    pub fn make_room(&self) -> Result<Room, OutOfMemory> {
        if let Some(excess) = self.excess_above(SLACK)
            && !self.find_full(excess)
        {
            return Ok(Room::Later);
        }
        let most = self.maxmemory().min(self.gauge.ceiling.load(Relaxed));
        if self.used_bytes() > most && !self.evict_down_to(most, EVICTING)? {
            return Ok(Room::Later);
        }
        match self.excess_above(FULL_SLACK) {
            Some(_) if !self.policy().evicts() => Err(OutOfMemory),
            Some(_) => Ok(Room::Later),
            None => Ok(Room::Ready),
        }
    }

    /// Bytes by which the arena is above its limit, if that is more than this part of the limit.
    fn excess_above(&self, part: usize) -> Option<usize> {
        let excess = self.arena().excess_bytes();
        (excess > 0 && excess > self.memory_limit().unwrap_or(0) / part).then_some(excess)
    }

    /// Whether an arena that is above its limit is full.
    #[cold]
    fn find_full(&self, excess: usize) -> bool {
        if !self.gauge.is_full() && self.gauge.note(excess, Instant::now()) >= PATIENCE {
            self.gauge.ceiling.store(self.used_bytes(), Relaxed);
        }
        self.gauge.is_full()
    }

    /// Evicts keys until the others take at most so much. Whether they do: time may run out before.
    fn evict_down_to(&self, most: usize, time: Duration) -> Result<bool, OutOfMemory> {
        let begun = Instant::now();
        while self.used_bytes() > most {
            if begun.elapsed() > time {
                return Ok(false);
            }
            self.evict_one()?;
        }
        Ok(true)
    }

    /// Adjusts the ceiling. To be called every tenth of a second.
    pub(super) fn adjust_ceiling(&self) {
        let Some(excess) = self.excess_above(SLACK) else {
            *self.gauge.above.lock() = None;
            return self.raise_ceiling();
        };
        if self.find_full(excess) {
            let used = self.used_bytes();
            // What does not compress is gone with as much memory as it took.
            let less = (excess / 4).clamp(used / LOWERED, used / LOWERED_FAR);
            let less = if self.policy().evicts() { less } else { 0 };
            let ceiling = self.gauge.ceiling.load(Relaxed).min(used - less);
            self.gauge.ceiling.store(ceiling, Relaxed);
            // Where nothing can be evicted, commands are refused.
            let _ = self.evict_down_to(ceiling, EVICTING_BEHIND);
        }
    }

    fn raise_ceiling(&self) {
        let used = self.used_bytes();
        let ceiling = self.gauge.ceiling.load(Relaxed);
        let raised = ceiling.saturating_add(ceiling / RAISED + 1);
        let is_clear = raised > used + used / CLEAR;
        self.gauge.ceiling.store(if is_clear { usize::MAX } else { raised }, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_that_comes_nearer_to_its_limit_is_not_full() {
        let gauge = Gauge::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(gauge.note(1000, at(0)), Duration::ZERO);
        assert_eq!(gauge.note(1000, at(150)), Duration::from_millis(150));
        assert_eq!(gauge.note(999, at(190)), Duration::ZERO);
        assert_eq!(gauge.note(5000, at(390)), Duration::from_millis(200));
    }
}
