//! Periodic maintenance of the keyspace, ten times a second.

use super::heat::TICK;
use super::{Keyspace, SHARDS, UnixMs};
use crate::footprint::Footprint;
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
}

/// A round through all shards takes ten seconds, and two with a memory limit.
const ROUND: usize = 100;
const SHORT_ROUND: usize = 20;

/// If more than one in this number of a shard's keys had expired, the call visits one more shard.
const EXPIRED_PART: usize = 4;

/// The longest time of one call, approximately.
const MAX_TIME: Duration = Duration::from_millis(25);

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
        let shards = SHARDS / if tending.budget.is_some() { SHORT_ROUND } else { ROUND };
        let start = Instant::now();
        let mut done = 0;
        while done < shards && start.elapsed() < MAX_TIME {
            let number = tending.next;
            tending.next = (number + 1) % SHARDS;
            let keys = self.shards[number].lock().len();
            let expired = self.expire(number, now);
            self.demote(number);
            // A shard with many expired keys suggests that other shards have many too.
            done += usize::from(expired * EXPIRED_PART <= keys);
            // Lets commands run if there are fewer processors than threads.
            thread::yield_now();
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

    /// Moves a shard's cooled values to the cold lane. A cooled value that is stored stays where it is:
    /// its page was evicted already.
    pub(super) fn demote(&self, number: usize) {
        let mut shard = self.shards[number].lock();
        let mut demoted = 0;
        for entry in shard.entries_mut() {
            let record = entry.record_mut();
            if self.heat.has_cooled(record) {
                record.value.heat = 0;
                if self.values.is_resident(&record.value) {
                    demoted += u64::from(self.move_to(Lane::Cold, record, None));
                } else {
                    self.heat.remove_hot_bytes(record.value.capacity());
                    record.value.count_as_cold();
                }
            }
        }
        shard.events.demoted += demoted;
        shard.trim(&self.hasher);
    }
}
