//! The section about the arena and its compression.

use super::lines;
use crate::figures::{self, Memory, REFAULT_BOUNDS_US};
use crate::server::Server;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

pub fn thermocline(server: &Server, out: &mut String) {
    let memory = Memory::of(server);
    let events = figures::events(server);
    let totals = server.totals();
    let rate = server.rates.per_second();
    let stats = &memory.stats;
    let (index, keys) = (server.keyspace.index_bytes(), server.keyspace.len());
    let quantile = |q| {
        let time = stats.refault_time.quantile(q).unwrap_or_default();
        format!("{:.1}", time.as_nanos() as f64 / 1000.0)
    };
    lines!(out,
        swapping: memory.swapping,
        tracker: memory.tracker(),
        fault_mode: memory.fault_mode,
        memory_limit: server.settings.memory_limit.load(Relaxed),
        memory_pressure: server.keyspace.pressure().name(),
        memory_waits: totals.waits,
        memory_wait_ms_total: totals.wait_nanos / 1_000_000,
        memory_wait_ms_longest: totals.longest_wait_nanos / 1_000_000,
        page_waits: stats.limit_waits,
        page_wait_ms_total: stats.limit_wait_nanos / 1_000_000,
        cold_after_ms: server.settings.cold_after().as_millis(),
        resident_bytes: stats.resident_bytes,
        stored_bytes: stats.stored_bytes,
        compressed_bytes: stats.compressed_bytes,
        store_bytes: stats.store_bytes,
        saved_bytes: stats.saved_bytes(),
        compression_ratio: format!("{:.2}", memory.ratio()),
        refaults: stats.refaults,
        refaults_per_minute: format!("{:.1}", rate.refaults * 60.0),
        pages_brought_back_per_minute: format!("{:.1}", rate.pages * 60.0),
        refault_us_p50: quantile(0.5),
        refault_us_p99: quantile(0.99),
        refault_us_p999: quantile(0.999),
        pages_brought_along: stats.readahead_pages,
        pages_prefetched: stats.prefetched_pages,
        pages_evicted: stats.evicted_pages,
        pages_same_filled: stats.same_filled_pages,
        pages_incompressible: stats.incompressible_pages,
        store_full: stats.store_full_pages,
        values_read_where_stored: events.peeked,
        values_promoted: events.promoted,
        values_demoted: events.demoted,
        index_bytes: index,
        index_bytes_per_key: format!("{:.1}", index as f64 / (keys as f64).max(1.0)),
        hot_bytes: server.keyspace.hot_bytes(),
        hot_window_ms: server.keyspace.window().as_millis(),
        values_lost: events.lost,
        lost_bytes: stats.lost_bytes,
        large_bytes: memory.large_bytes,
        fragmentation: format!("{:.3}", memory.fragmentation),
    );
    for (lane, bytes) in memory.lanes {
        let _ = write!(out, "lane_{lane}_bytes:{bytes}\r\n");
    }
    // As Redis' latencystats: the number of refaults within each bound in microseconds.
    let within = figures::refaults_within(&stats.refault_time);
    let bounds = REFAULT_BOUNDS_US.iter().zip(within);
    let buckets: Vec<String> = bounds.map(|(us, count)| format!("{us}={count}")).collect();
    let _ = write!(out, "refault_us_histogram:{}\r\n", buckets.join(","));
}
