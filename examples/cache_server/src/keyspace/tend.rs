//! What is done behind the commands' backs, ten times a second.

use super::heat::TICK;
use super::{Keyspace, SHARDS, UnixMs};
use crate::footprint::Footprint;
use std::thread;
use std::time::{Duration, Instant};
use thermocline::Lane;

/// How far the rounds through all shards have come.
#[derive(Debug, Default)]
pub(super) struct Tending {
    next: usize,
    footprint: Footprint,
    /// Bytes that may be hot, where there is a limit.
    budget: Option<usize>,
}

/// A round through all shards takes ten seconds, and two where memory is short.
const ROUND: usize = 100;
const SHORT_ROUND: usize = 20;

/// What is found expired, of a shard's keys, for the next shard to be looked at right away.
const MANY: usize = 4;

/// How long one call takes at most, or a little longer.
const LONGEST: Duration = Duration::from_millis(25);

/// What an arena can be limited to at least.
const LEAST: usize = 256 << 10;

/// What may be hot, of the memory that a limit leaves for pages.
const HOT_PART: (usize, usize) = (7, 10);

impl Keyspace {
    /// Removes what has expired, moves what has cooled, and sees to it that the process stays within
    /// its limit on memory. To be called every tenth of a second, by one thread.
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
        while done < shards && start.elapsed() < LONGEST {
            let number = tending.next;
            tending.next = (number + 1) % SHARDS;
            let keys = self.shards[number].lock().len();
            let expired = self.expire(number, now);
            self.demote(number);
            // Where much has expired more will have.
            done += usize::from(expired * MANY <= keys);
            // Commands come first, where there are fewer processors than threads.
            thread::yield_now();
        }
    }

    /// Gives the arena what the rest of the process leaves of the limit.
    pub(super) fn govern(&self, tending: &mut Tending) {
        let Some(limit) = self.memory_limit() else {
            if tending.budget.take().is_some() {
                let _ = self.arena().set_memory_limit(None);
            }
            return;
        };
        let stored = self.arena().stats().store_bytes as usize;
        let left = limit.saturating_sub(tending.footprint.measure().saturating_sub(stored));
        // Fails where nothing is evicted in any case.
        let _ = self.arena().set_memory_limit(Some(left.max(LEAST)));
        self.gauge.arena_limit(left.max(LEAST));
        tending.budget = Some(left.saturating_sub(stored) / HOT_PART.1 * HOT_PART.0);
    }

    /// Moves what has cooled down in one shard next to other such values. What is not in memory has
    /// gone where it should be by itself.
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
                    self.heat.lost(record.value.capacity());
                    record.value.count_as_cold();
                }
            }
        }
        shard.events.demoted += demoted;
        shard.trim(&self.hasher);
    }
}
