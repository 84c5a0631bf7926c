//! Periodic maintenance of the keyspace, ten times a second.

use super::block::Head;
use super::expiries::Cleaning;
use super::heat::TICK;
use super::{Keyspace, SHARDS, UnixMs};
use crate::footprint::Footprint;
use crate::process;
use std::thread;
use std::time::{Duration, Instant};
use thermocline::Lane;

/// The state of the maintenance between its calls.
#[derive(Debug, Default)]
pub(super) struct Tending {
    next: usize,
    footprint: Footprint,
    /// The most bytes that may be hot, if there is a memory limit.
    budget: Option<usize>,
    cleaning: Cleaning,
    /// The most keys since the heap was trimmed.
    most_keys: usize,
}

/// A round through all shards takes ten seconds, and two with a memory limit.
const ROUND: usize = 100;
const SHORT_ROUND: usize = 20;

/// The longest time of one call for moving values, approximately.
const MAX_TIME: Duration = Duration::from_millis(25);

/// The longest time of one call for removing expired keys, some hundred thousand.
const MAX_EXPIRING: Duration = Duration::from_millis(100);

/// The longest time of one call for the search for stale visits.
const MAX_CLEANING: Duration = Duration::from_millis(10);

/// The heap is trimmed when at least this number of keys is gone, and half of all keys.
const MANY: usize = 50_000;

/// The smallest limit of the arena.
const MIN_LIMIT: usize = 256 << 10;

/// The share of the arena's memory for pages that may be hot.
const HOT_PART: (usize, usize) = (7, 10);

impl Keyspace {
    /// Removes expired keys, moves cooled values, and keeps the process within its memory limit. One
    /// thread calls this every tenth of a second.
    pub fn tend(&self, now: UnixMs) {
        let ticks = self.started.elapsed().as_millis() / TICK.as_millis();
        #[expect(clippy::cast_possible_truncation, reason = "ticks turn over after 13 years")]
        self.heat.tick(ticks as u32);
        let mut tending = self.tending.lock();
        self.govern(&mut tending);
        self.adjust_ceiling();
        self.heat.adjust(tending.budget);
        if self.expire(now, MAX_EXPIRING) {
            self.drop_stale(&mut tending.cleaning, now, MAX_CLEANING);
        }
        let shards = SHARDS / if tending.budget.is_some() { SHORT_ROUND } else { ROUND };
        let start = Instant::now();
        for _ in 0..shards {
            if start.elapsed() > MAX_TIME {
                break;
            }
            let number = tending.next;
            tending.next = (number + 1) % SHARDS;
            self.demote(number);
            // Lets commands run if there are fewer processors than threads.
            thread::yield_now();
        }
        self.trim_heap(&mut tending.most_keys);
    }

    /// Gives the memory of tables back, when many keys are gone.
    fn trim_heap(&self, most_keys: &mut usize) {
        let keys = self.len();
        *most_keys = keys.max(*most_keys);
        if *most_keys - keys >= MANY.max(*most_keys / 2) {
            *most_keys = keys;
            process::trim_heap();
        }
    }

    /// Sets the arena's limit to the memory that the rest of the process leaves.
    pub(super) fn govern(&self, tending: &mut Tending) {
        let Some(limit) = self.memory_limit() else {
            if tending.budget.take().is_some() {
                let _ = self.arena().set_memory_limit(None);
                self.gauge.unlimited();
            }
            return;
        };
        let stats = self.arena().stats();
        let (stored, compressed) = (stats.store_bytes as usize, stats.compressed_bytes as usize);
        let left = limit.saturating_sub(tending.footprint.measure().saturating_sub(stored));
        // Fails if the arena evicts nothing.
        let _ = self.arena().set_memory_limit(Some(left.max(MIN_LIMIT)));
        self.gauge.measured(left.max(MIN_LIMIT), compressed);
        tending.budget = Some(left.saturating_sub(stored) / HOT_PART.1 * HOT_PART.0);
    }

    /// Moves a shard's cooled items to the cold lane, and removes old stamps. A hot item that is stored stays where
    /// it is, because its page was evicted already.
    pub(super) fn demote(&self, number: usize) {
        let mut shard = self.shards[number].lock();
        let mut demoted = 0;
        for item in shard.items_mut() {
            let is_recent = item.stamp() != 0 && self.heat.is_recent(item.stamp());
            if item.stamp() != 0 && !is_recent {
                item.set_stamp(0);
            }
            if !item.is_hot() {
                continue;
            }
            if !self.items.is_resident(item) {
                let is_warm = |head| !self.heat.has_cooled(self.last_use(item, &head));
                if !is_recent && !self.items.resident_head(item).is_some_and(is_warm) {
                    self.heat.remove_hot_bytes(self.items.size(item));
                    item.set_hot(false);
                }
                continue;
            }
            let head = Head::read(self.items.bytes(item));
            if self.heat.has_cooled(self.last_use(item, &head)) {
                let head = Head { heat: 0, ..head };
                demoted += u64::from(self.move_to(Lane::Cold, item, &head, None));
            }
        }
        shard.events.demoted += demoted;
        shard.trim();
    }
}
