//! Whether the arena keeps to its limit, and what that means for commands that need memory.
//!
//! | state  | what is the case                                   | a command that needs memory          |
//! |--------|----------------------------------------------------|--------------------------------------|
//! | Calm   | the arena is at most a 64th above its limit        | is carried out                       |
//! | Behind | it is more above it                                | waits, with its connection           |
//! | Full   | it was, and for [`PATIENCE`] came no nearer to it  | is carried out below the *ceiling*   |
//!
//! No command sleeps: one that has to wait is left in its connection's input, and the connection is
//! tried again some milliseconds later. Its worker serves other connections meanwhile.
//!
//! The ceiling bounds the bytes of keys and values, as `maxmemory` does. When the state becomes Full,
//! the ceiling is what they take at that time. A command above it evicts keys by the policy until they
//! are below it, or is refused where the policy evicts nothing. So a full cache evicts as much as is
//! written, which the allocator puts in the place of what went.
//!
//! Commands write faster than the arena compresses for moments. So a full arena may be a 16th above its
//! limit. Beyond that commands wait as they do when it is Behind. If the arena comes no nearer to its
//! limit for [`PATIENCE`] then, the ceiling is lowered by a small part. While the arena is within its
//! limit the ceiling is raised, by a smaller one. Once it is well above what keys and values take it is
//! given up, and the state is Calm.
//!
//! The ceiling is not lowered below the *floor*, seven eighths of the arena's limit: so much would fit
//! without compression. What is above the limit at the floor lies between values, in pages that have
//! room left, and evicting more keys would bring little of it back. There commands do not wait.

use super::{Keyspace, OutOfMemory};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
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

/// How far above its limit the arena may be without a command waiting: this part of the limit.
const SLACK: usize = 64;

/// The same for an arena that is full.
const FULL_SLACK: usize = 16;

/// How long the arena is above its limit, and does not come nearer to it, until it counts as full.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long one command evicts keys at most, or a little longer.
const EVICTING: Duration = Duration::from_micros(300);

/// How long tending evicts keys at most.
const EVICTING_BEHIND: Duration = Duration::from_millis(10);

/// The part of what keys and values take by which the ceiling is lowered at a time.
const LOWERED: usize = 64;

/// The part of the ceiling by which it is raised every tenth of a second.
const RAISED: usize = 256;

/// How far above what keys and values take the ceiling means nothing: an eighth.
const CLEAR: usize = 8;

/// The time for which the arena has been above its limit.
#[derive(Debug)]
struct Above {
    since: Instant,
    least_excess: u64,
}

#[derive(Debug)]
pub(super) struct Gauge {
    above: Mutex<Option<Above>>,
    /// Whether there is something in `above`.
    is_above: AtomicBool,
    /// Bytes that keys and values may take for the sake of the arena's limit. The largest number where
    /// the arena is not full.
    ceiling: AtomicUsize,
    /// Bytes below which the ceiling is not lowered.
    floor: AtomicUsize,
}

impl Default for Gauge {
    fn default() -> Self {
        Self {
            above: Mutex::default(),
            is_above: AtomicBool::new(false),
            ceiling: AtomicUsize::new(usize::MAX),
            floor: AtomicUsize::new(0),
        }
    }
}

impl Gauge {
    /// The arena is too far above its limit. Whether it has been, for [`PATIENCE`], and has come no
    /// nearer to it. That is said once, and then found out anew.
    fn stalls(&self, excess: u64, now: Instant) -> bool {
        let mut above = self.above.lock();
        self.is_above.store(true, Relaxed);
        match &*above {
            Some(above) if excess >= above.least_excess && now - above.since < PATIENCE => false,
            before => {
                let stalls = before.as_ref().is_some_and(|before| excess >= before.least_excess);
                *above = Some(Above { since: now, least_excess: excess });
                stalls
            }
        }
    }

    /// The arena is near enough to its limit.
    fn relax(&self) {
        if self.is_above.load(Relaxed) {
            *self.above.lock() = None;
            self.is_above.store(false, Relaxed);
        }
    }

    fn is_full(&self) -> bool {
        self.ceiling.load(Relaxed) < usize::MAX
    }

    /// Whether it would not help to keep less.
    fn is_at_floor(&self) -> bool {
        self.ceiling.load(Relaxed) <= self.floor.load(Relaxed)
    }

    /// The arena's limit is another one.
    pub(super) fn arena_limit(&self, limit: usize) {
        self.floor.store(limit / 8 * 7, Relaxed);
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

    /// Room for a command that may need more memory: evicts keys by `maxmemory-policy` where they take
    /// too much. To be called before [`keys`](Self::keys), as it takes locks.
    pub fn make_room(&self) -> Result<Room, OutOfMemory> {
        if self.is_too_far_above() && !self.policy().evicts() && self.gauge.is_full() {
            return Err(OutOfMemory);
        }
        let most = self.maxmemory().min(self.gauge.ceiling.load(Relaxed));
        if self.used_bytes() > most && !self.evict_down_to(most, EVICTING)? {
            return Ok(Room::Later);
        }
        Ok(if self.is_too_far_above() { Room::Later } else { Room::Ready })
    }

    /// Bytes by which the arena is above its limit, if that is more than this part of the limit.
    fn excess_above(&self, part: usize) -> Option<u64> {
        let excess = self.arena().excess_bytes();
        (excess > 0 && excess > self.memory_limit().unwrap_or(0) as u64 / part as u64)
            .then_some(excess)
    }

    /// Whether the arena is so far above its limit that commands have to wait. Where that does not get
    /// better, it is full, or keeps less from now on.
    fn is_too_far_above(&self) -> bool {
        let part = if self.gauge.is_full() { FULL_SLACK } else { SLACK };
        let Some(excess) = self.excess_above(part).filter(|_| !self.gauge.is_at_floor()) else {
            self.gauge.relax();
            return false;
        };
        if self.gauge.stalls(excess, Instant::now()) {
            self.lower_ceiling();
        }
        true
    }

    #[cold]
    fn lower_ceiling(&self) {
        let used = self.used_bytes();
        let may_go = self.gauge.is_full() && self.policy().evicts();
        let floor = self.gauge.floor.load(Relaxed).min(used);
        let lowered = if may_go { (used - used / LOWERED).max(floor) } else { used };
        self.gauge.ceiling.fetch_min(lowered, Relaxed);
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

    /// Adjusts the ceiling, and evicts keys for it. To be called every tenth of a second.
    pub(super) fn adjust_ceiling(&self) {
        if !self.is_too_far_above() && self.excess_above(SLACK).is_none() {
            self.raise_ceiling();
        }
        // Where nothing can be evicted, commands are refused.
        let _ = self.evict_down_to(self.gauge.ceiling.load(Relaxed), EVICTING_BEHIND);
    }

    fn raise_ceiling(&self) {
        if self.gauge.is_full() {
            let used = self.used_bytes();
            let ceiling = self.gauge.ceiling.load(Relaxed);
            let raised = ceiling + ceiling / RAISED + 1;
            let is_clear = raised > used + used / CLEAR;
            self.gauge.ceiling.store(if is_clear { usize::MAX } else { raised }, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NewExpiry, Options};
    use super::*;
    use thermocline::Arena;

    #[test]
    fn keys_that_would_fit_uncompressed_are_not_evicted_for_the_sake_of_the_arena() {
        let arena = Arena::builder().plain_memory_fallback(true).build().unwrap();
        let space = Keyspace::new(arena, Options::default());
        for n in 0..1000 {
            let key = format!("key:{n}").into_bytes();
            space.keys(&[&key], 0).set(&key, &[7; 1000], NewExpiry::Keep).unwrap();
        }
        let floor = space.used_bytes() / 2;
        space.gauge.arena_limit(floor / 7 * 8);
        // The arena never comes nearer to its limit, whatever goes.
        for _ in 0..500 {
            space.lower_ceiling();
            let ceiling = space.gauge.ceiling.load(Relaxed);
            assert_eq!(space.evict_down_to(ceiling, Duration::from_secs(60)), Ok(true));
        }
        assert!(space.gauge.is_at_floor());
        let used = space.used_bytes();
        assert!((floor - 2000..=floor).contains(&used), "{used} are left, {floor} should be");
    }

    #[test]
    fn an_arena_that_comes_nearer_to_its_limit_does_not_stall() {
        let gauge = Gauge::default();
        let start = Instant::now();
        let stalls = |excess, ms| gauge.stalls(excess, start + Duration::from_millis(ms));
        assert!(!stalls(1000, 0));
        assert!(!stalls(1000, 150));
        assert!(!stalls(999, 190), "nearer by a byte");
        assert!(!stalls(5000, 389));
        assert!(stalls(5000, 390));
        assert!(!stalls(5000, 391), "it is found out anew");
        assert!(stalls(5000, 590));
        gauge.relax();
        assert!(!stalls(5000, 800));
    }
}
