//! Keeps the arena within its memory limit, by evicting keys, and by delaying or refusing commands that need
//! memory.
//!
//! | state  | condition                                              | a command that needs memory            |
//! |--------|--------------------------------------------------------|----------------------------------------|
//! | Calm   | the arena is at most a little above its limit          | runs                                   |
//! | Behind | the arena is further above it                          | waits for some milliseconds, then runs |
//! | Full   | Behind for [`PATIENCE`] without progress, or *crowded* | evicts keys above the *ceiling*        |
//!
//! The ceiling limits the bytes of keys and values, as `maxmemory` does. When the state becomes Full,
//! the ceiling is set to their size at that time. A command above it evicts keys by the policy, or is refused
//! if the policy evicts nothing. So a full cache evicts as many bytes as clients write.
//!
//! The ceiling follows the memory. Ten times a second the server lowers it by the bytes of keys and values
//! that take the memory above the limit, and raises it by a small part if there is room. It also lowers the
//! ceiling if the arena is *crowded*: compressed pages leave less than an eighth of the limit for pages in
//! memory. The memory of the store is more than the compressed pages take, but it has room for later ones.
//! When the ceiling is well above the size of keys and values, the server removes it, and the state becomes
//! Calm.
//!
//! The ceiling is not lowered below the *floor*, seven eighths of the arena's limit: values of that size
//! fit without compression. Memory above the limit at the floor is free space on partly used pages, and
//! evicting more keys would free little of it. At the floor commands do not wait.
//!
//! No worker sleeps: a command that has to wait stays in its connection's input, and the worker tries
//! the connection again some milliseconds later. It serves other connections meanwhile. After
//! [`MAX_TRIES`] the command runs. A command that needs no memory never waits.

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

/// The most bytes by which the arena may exceed its limit before commands wait. At 4 MiB the arena lets
/// threads wait that bring pages in, and all connections of a worker with them.
const MAX_SLACK: usize = 3 << 20;

/// The time for which the arena is above its limit, without coming nearer to it, before the state is Full
/// and before the ceiling is lowered again.
const PATIENCE: Duration = Duration::from_millis(100);

/// The arena comes nearer to its limit if its excess shrinks by this part.
const NEARER: u64 = 4;

/// How often a command may be tried before it runs. Workers try every 2 ms.
pub const MAX_TRIES: u32 = 5;

/// The longest time that one command evicts keys, approximately.
const MAX_EVICTING: Duration = Duration::from_micros(200);

/// The longest time that the maintenance evicts keys.
const MAX_EVICTING_IN_TEND: Duration = Duration::from_millis(10);

/// The divisors for the smallest and the largest part of the size by which the ceiling is lowered at a time.
const LOWERED: (usize, usize) = (256, 16);

/// The divisor for the part of the ceiling by which it is raised every tenth of a second.
const RAISED: usize = 256;

/// The ceiling is removed when it is this part, an eighth, above the size of keys and values.
const CLEAR: usize = 8;

/// The divisor for the part of the arena's limit that compressed pages leave for pages in memory.
const PAGES: usize = 8;

/// The divisor for the part of the store's memory that lies between compressed pages, approximately.
const BETWEEN: usize = 8;

/// An interval in which the arena is above its limit.
#[derive(Debug)]
struct Above {
    since: Instant,
    least_excess: u64,
}

impl Above {
    fn is_nearer(&self, excess: u64) -> bool {
        excess < self.least_excess - self.least_excess / NEARER
    }
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
    /// The arena's limit, and the bytes of its compressed pages, when they were last measured.
    limit: AtomicUsize,
    compressed: AtomicUsize,
}

impl Default for Gauge {
    fn default() -> Self {
        Self {
            above: Mutex::default(),
            is_above: AtomicBool::new(false),
            ceiling: AtomicUsize::new(usize::MAX),
            floor: AtomicUsize::new(0),
            limit: AtomicUsize::new(usize::MAX),
            compressed: AtomicUsize::new(0),
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
            Some(above) if !above.is_nearer(excess) && now - above.since < PATIENCE => false,
            before => {
                let stalls = before.as_ref().is_some_and(|before| !before.is_nearer(excess));
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

    /// Records a new limit of the arena, and the bytes of its compressed pages.
    pub(super) fn measured(&self, limit: usize, compressed: usize) {
        self.floor.store(limit / 8 * 7, Relaxed);
        self.limit.store(limit, Relaxed);
        self.compressed.store(compressed, Relaxed);
    }

    /// Records that there is no limit.
    pub(super) fn unlimited(&self) {
        self.measured(usize::MAX, 0);
        self.ceiling.store(usize::MAX, Relaxed);
    }

    /// The bytes by which compressed pages exceed their share of the limit.
    fn crowding(&self) -> usize {
        let (limit, compressed) = (self.limit.load(Relaxed), self.compressed.load(Relaxed));
        (compressed + compressed / BETWEEN).saturating_sub(limit - limit / PAGES)
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
    /// `tries` is the number of times that the command was told to wait. Called before
    /// [`keys`](Self::keys), because it takes locks.
    pub fn make_room(&self, tries: u32) -> Result<Room, OutOfMemory> {
        let is_above = self.is_too_far_above();
        if is_above && !self.policy().evicts() && self.gauge.is_full() {
            return Err(OutOfMemory);
        }
        let most = self.maxmemory().min(self.gauge.ceiling.load(Relaxed));
        // If the time is over before, the next commands evict more.
        self.evict_down_to(most, MAX_EVICTING)?;
        Ok(if is_above && tries < MAX_TRIES { Room::Later } else { Room::Ready })
    }

    /// Whether values may move to pages in memory. If not, a read of a stored value leaves it stored.
    pub(super) fn may_promote(&self) -> bool {
        self.excess_above(SLACK).is_none()
    }

    /// The bytes by which the arena exceeds its limit, if they are more than the limit divided by `part`.
    fn excess_above(&self, part: usize) -> Option<u64> {
        let excess = self.arena().excess_bytes();
        let slack = || (self.memory_limit().unwrap_or(0) / part).min(MAX_SLACK);
        (excess > 0 && excess > slack() as u64).then_some(excess)
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
            self.lower_ceiling(usize::try_from(excess).unwrap_or(usize::MAX));
        }
        true
    }

    /// Lowers the ceiling, so that the arena takes about `excess` bytes less.
    #[cold]
    fn lower_ceiling(&self, excess: usize) {
        let used = self.used_bytes();
        let may_go = self.gauge.is_full() && self.policy().evicts();
        let floor = self.gauge.floor.load(Relaxed).min(used);
        let taken = self.gauge.limit.load(Relaxed).saturating_add(excess).max(1);
        let share = (excess as u128 * used as u128 / taken as u128) as usize;
        let less = share.clamp(used / LOWERED.0, used / LOWERED.1);
        let lowered = if may_go { (used - less).max(floor) } else { used };
        self.gauge.ceiling.fetch_min(lowered, Relaxed);
    }

    /// Adjusts the ceiling and evicts keys above it. Called every tenth of a second.
    pub(super) fn adjust_ceiling(&self) {
        let is_above = self.is_too_far_above() || self.excess_above(SLACK).is_some();
        let crowding = self.gauge.crowding();
        if crowding > 0 && !self.gauge.is_at_floor() {
            self.lower_ceiling(crowding);
        } else if !is_above {
            self.raise_ceiling();
        }
        let begun = Instant::now();
        while begun.elapsed() < MAX_EVICTING_IN_TEND {
            let _open = self.open_gate();
            // If no key can be evicted, commands are refused.
            if self.evict_down_to(self.gauge.ceiling.load(Relaxed), MAX_EVICTING) != Ok(false) {
                break;
            }
        }
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
        space.gauge.measured(floor / 7 * 8, 0);
        // The arena comes no nearer to its limit, however many keys are evicted.
        for _ in 0..500 {
            space.lower_ceiling(100_000);
            let ceiling = space.gauge.ceiling.load(Relaxed);
            assert_eq!(space.evict_down_to(ceiling, Duration::from_secs(60)), Ok(true));
        }
        assert!(space.gauge.is_at_floor());
        let used = space.used_bytes();
        // The last round may evict a little more.
        assert!((floor / 5 * 4..=floor).contains(&used), "{used} are left, expected {floor}");
    }

    #[test]
    fn an_arena_that_comes_nearer_to_its_limit_does_not_stall() {
        let gauge = Gauge::default();
        let start = Instant::now();
        let stalls = |excess, ms| gauge.stalls(excess, start + Duration::from_millis(ms));
        assert!(!stalls(1000, 0));
        assert!(!stalls(1000, 50));
        assert!(!stalls(749, 90), "nearer by a quarter");
        assert!(!stalls(5000, 189));
        assert!(stalls(5000, 190));
        assert!(!stalls(5000, 191), "a new interval begins");
        assert!(stalls(4000, 290), "not near enough");
        gauge.relax();
        assert!(!stalls(5000, 400));
    }
}
