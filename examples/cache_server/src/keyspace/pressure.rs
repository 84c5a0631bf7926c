//! Keeps the arena within its memory limit, by delaying or refusing commands that need memory.
//!
//! | state  | condition                                            | a command that needs memory          |
//! |--------|------------------------------------------------------|--------------------------------------|
//! | Calm   | the arena is at most a 64th above its limit          | runs                                 |
//! | Behind | the arena is further above it                        | waits, with its connection           |
//! | Full   | Behind for [`PATIENCE`], and came no nearer to it    | runs below the *ceiling*             |
//!
//! No worker sleeps: a command that has to wait stays in its connection's input, and the worker tries
//! the connection again some milliseconds later. It serves other connections meanwhile.
//!
//! The ceiling limits the bytes of keys and values, as `maxmemory` does. When the state becomes Full,
//! the ceiling is set to their size at that time. A command above it evicts keys by the policy until the
//! size is below it, or is refused if the policy evicts nothing. So a full cache evicts as many bytes as
//! clients write, and the allocator places new values where evicted ones were.
//!
//! For short times commands write faster than the arena compresses. So a full arena may be a 16th above
//! its limit. Beyond that commands wait as in the state Behind. If the arena then comes no nearer to its
//! limit for [`PATIENCE`], the server lowers the ceiling by a small part. While the arena is within its limit,
//! the server raises the ceiling by a smaller part. When the ceiling is well above the size of keys and
//! values, the server removes it, and the state becomes Calm.
//!
//! The ceiling is not lowered below the *floor*, seven eighths of the arena's limit: values of that size
//! fit without compression. Memory above the limit at the floor is free space on partly used pages, and
//! evicting more keys would free little of it. At the floor commands do not wait.

use super::{Keyspace, OutOfMemory};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What a command that needs memory does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It runs.
    Ready,
    /// It waits; the worker tries it again some milliseconds later.
    Later,
}

/// The state of the arena's limit.
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

/// The divisor for the part of the limit by which the arena may exceed it before commands wait.
const SLACK: usize = 64;

/// The same divisor in the state Full.
const FULL_SLACK: usize = 16;

/// The time for which the arena is above its limit, without coming nearer to it, before the state is Full.
const PATIENCE: Duration = Duration::from_millis(200);

/// The longest time that one command evicts keys, approximately.
const MAX_EVICTING: Duration = Duration::from_micros(300);

/// The longest time that the maintenance evicts keys.
const MAX_EVICTING_IN_TEND: Duration = Duration::from_millis(10);

/// The divisor for the part of the size by which the ceiling is lowered at a time.
const LOWERED: usize = 64;

/// The divisor for the part of the ceiling by which it is raised every tenth of a second.
const RAISED: usize = 256;

/// The ceiling is removed when it is this part, an eighth, above the size of keys and values.
const CLEAR: usize = 8;

/// An interval in which the arena is above its limit.
#[derive(Debug)]
struct Above {
    since: Instant,
    least_excess: u64,
}

#[derive(Debug)]
pub(super) struct Gauge {
    above: Mutex<Option<Above>>,
    /// Whether `above` is `Some`.
    is_above: AtomicBool,
    /// The most bytes of keys and values that keep the arena within its limit. The largest number if the
    /// arena is not full.
    ceiling: AtomicUsize,
    /// The ceiling is not lowered below this.
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
    /// Records that the arena is too far above its limit. True if that has lasted for [`PATIENCE`], and the
    /// arena has come no nearer to its limit; a new interval begins then.
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

    /// Records that the arena is near enough to its limit.
    fn relax(&self) {
        if self.is_above.load(Relaxed) {
            *self.above.lock() = None;
            self.is_above.store(false, Relaxed);
        }
    }

    fn is_full(&self) -> bool {
        self.ceiling.load(Relaxed) < usize::MAX
    }

    /// Whether evicting more keys would not help.
    fn is_at_floor(&self) -> bool {
        self.ceiling.load(Relaxed) <= self.floor.load(Relaxed)
    }

    /// Records a new limit of the arena.
    pub(super) fn arena_limit(&self, limit: usize) {
        self.floor.store(limit / 8 * 7, Relaxed);
    }
}

impl Keyspace {
    /// The current state.
    pub fn pressure(&self) -> Pressure {
        if self.gauge.is_full() {
            Pressure::Full
        } else if self.excess_above(SLACK).is_some() {
            Pressure::Behind
        } else {
            Pressure::Calm
        }
    }

    /// Makes room for a command that may need memory: evicts keys by `maxmemory-policy` above a limit.
    /// Called before [`keys`](Self::keys), because it takes locks.
    pub fn make_room(&self) -> Result<Room, OutOfMemory> {
        if self.is_too_far_above() && !self.policy().evicts() && self.gauge.is_full() {
            return Err(OutOfMemory);
        }
        let most = self.maxmemory().min(self.gauge.ceiling.load(Relaxed));
        if self.used_bytes() > most && !self.evict_down_to(most, MAX_EVICTING)? {
            return Ok(Room::Later);
        }
        Ok(if self.is_too_far_above() { Room::Later } else { Room::Ready })
    }

    /// The bytes by which the arena exceeds its limit, if they are more than the limit divided by `part`.
    fn excess_above(&self, part: usize) -> Option<u64> {
        let excess = self.arena().excess_bytes();
        (excess > 0 && excess > self.memory_limit().unwrap_or(0) as u64 / part as u64)
            .then_some(excess)
    }

    /// Whether the arena is so far above its limit that commands have to wait. If it comes no nearer to its
    /// limit, the arena becomes full, or the ceiling is lowered.
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

    /// Evicts keys until they take at most `most` bytes. False if the time is over before.
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

    /// Adjusts the ceiling and evicts keys above it. Called every tenth of a second.
    pub(super) fn adjust_ceiling(&self) {
        if !self.is_too_far_above() && self.excess_above(SLACK).is_none() {
            self.raise_ceiling();
        }
        // If no key can be evicted, commands are refused.
        let _ = self.evict_down_to(self.gauge.ceiling.load(Relaxed), MAX_EVICTING_IN_TEND);
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
    fn keys_that_fit_uncompressed_are_not_evicted_for_the_arenas_limit() {
        let arena = Arena::builder().plain_memory_fallback(true).build().unwrap();
        let space = Keyspace::new(arena, Options::default());
        for n in 0..1000 {
            let key = format!("key:{n}").into_bytes();
            space.keys(&[&key], 0).set(&key, &[7; 1000], NewExpiry::Keep).unwrap();
        }
        let floor = space.used_bytes() / 2;
        space.gauge.arena_limit(floor / 7 * 8);
        // The arena comes no nearer to its limit, however many keys are evicted.
        for _ in 0..500 {
            space.lower_ceiling();
            let ceiling = space.gauge.ceiling.load(Relaxed);
            assert_eq!(space.evict_down_to(ceiling, Duration::from_secs(60)), Ok(true));
        }
        assert!(space.gauge.is_at_floor());
        let used = space.used_bytes();
        assert!((floor - 2000..=floor).contains(&used), "{used} are left, expected {floor}");
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
        assert!(!stalls(5000, 391), "a new interval begins");
        assert!(stalls(5000, 590));
        gauge.relax();
        assert!(!stalls(5000, 800));
    }
}
