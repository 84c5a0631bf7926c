//! The figures of the keyspace and its arena, for `INFO`, `MEMORY` and the metrics.

use crate::keyspace::Events;
use crate::server::Server;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use thermocline::{Arena, HeapStats, Lane, LatencyHistogram, Stats, Swapping};

/// The arena that holds the values.
pub fn arena(server: &Server) -> &Arena {
    server.keyspace.arena()
}

/// Counts of events on keys since the start or the last `CONFIG RESETSTAT`.
pub fn events(server: &Server) -> Events {
    server.keyspace.events()
}

pub fn reset_events(server: &Server) {
    server.keyspace.reset_events();
}

/// Bytes that keys and values take before compression, which `maxmemory` limits.
pub fn used_bytes(server: &Server) -> usize {
    server.keyspace.used_bytes()
}

/// Applies changed limits and a changed policy.
pub fn settings_changed(server: &Server) {
    let limit = |setting: &AtomicU64| {
        usize::try_from(setting.load(Relaxed)).ok().filter(|&limit| limit > 0)
    };
    server.keyspace.set_maxmemory(limit(&server.settings.maxmemory));
    server.keyspace.set_memory_limit(limit(&server.settings.memory_limit));
    server.keyspace.set_policy(server.settings.policy());
    let settings = &server.settings;
    let share = settings.client_share();
    let most = share.of(settings.memory_limit.load(Relaxed), settings.maxmemory.load(Relaxed));
    server.clients.set_most_bytes(most);
}

/// Changes the cold age. The error says why not.
pub fn set_cold_after(server: &Server, time: Duration) -> Result<(), String> {
    server.keyspace.set_cold_after(time).map_err(|error| error.to_string())?;
    server.settings.set_cold_after(time);
    Ok(())
}

/// A snapshot of the memory figures.
#[derive(Debug, Clone)]
pub struct Memory {
    pub stats: Stats,
    pub swapping: Swapping,
    pub fault_mode: String,
    /// Bytes of values in the hot, the default and the cold lane, without large values.
    pub lanes: [(&'static str, u64); 3],
    pub large_bytes: u64,
    pub fragmentation: f64,
}

impl Memory {
    pub fn of(server: &Server) -> Self {
        let arena = arena(server);
        let heap = arena.heap_stats();
        let of_lane = |lane| heap.as_ref().map_or(0, |heap| lane_bytes(heap, lane));
        Self {
            stats: arena.stats(),
            swapping: arena.swapping(),
            fault_mode: arena.fault_mode().map_or_else(|| "none".into(), |mode| mode.to_string()),
            lanes: [("hot", Lane::Hot), ("default", Lane::Default), ("cold", Lane::Cold)]
                .map(|(name, lane)| (name, of_lane(lane))),
            large_bytes: heap.as_ref().map_or(0, |heap| heap.large_bytes),
            fragmentation: heap.as_ref().map_or(0.0, HeapStats::fragmentation),
        }
    }

    /// `rwp` or `zap`; `none` if the arena does not evict.
    pub fn tracker(&self) -> String {
        match &self.swapping {
            Swapping::On(tracker) => tracker.to_string(),
            _ => "none".into(),
        }
    }

    /// Bytes in memory that hold nothing: free space on pages with values, and between compressed pages.
    pub fn wasted_bytes(&self) -> u64 {
        let on_pages = self.stats.resident_bytes as f64 * self.fragmentation;
        on_pages as u64 + self.stats.store_bytes.saturating_sub(self.stats.compressed_bytes)
    }

    /// The memory of the process divided by the part that holds something. Compressed values count as their
    /// compressed bytes, so that the ratio does not depend on how many are.
    pub fn fragmentation_ratio(&self, resident: u64) -> f64 {
        let used = resident.saturating_sub(self.wasted_bytes());
        resident as f64 / (used as f64).max(1.0)
    }

    /// Stored bytes divided by the store's bytes; 1 if the store is empty.
    pub fn ratio(&self) -> f64 {
        self.stats.ratio().unwrap_or(1.0)
    }
}

fn lane_bytes(heap: &HeapStats, lane: Lane) -> u64 {
    heap.lanes.iter().filter(|stats| stats.lane == lane).map(|stats| stats.live_bytes()).sum()
}

/// Bounds of the histogram of refault times, in microseconds.
pub const REFAULT_BOUNDS_US: [u64; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 10_000];

/// The number of refaults within each bound. A bucket of the histogram that extends beyond a bound
/// counts as above it.
pub fn refaults_within(times: &LatencyHistogram) -> [u64; REFAULT_BOUNDS_US.len()] {
    REFAULT_BOUNDS_US.map(|bound| {
        let below = times.buckets().filter(|(ceiling, _)| ceiling.as_micros() < bound.into());
        below.map(|(_, count)| count).sum()
    })
}
