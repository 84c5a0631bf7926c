//! The sections that Redis has too, with the fields that apply to this server.

use super::lines;
use crate::command::connection::REDIS_VERSION;
use crate::command::table::table;
use crate::figures::{self, Memory};
use crate::server::{Server, unix_ms};
use crate::{process, size};
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

pub fn server(server: &Server, out: &mut String) {
    let seconds = server.seconds();
    let setting = |name| {
        let found = server.settings.fixed.iter().find(|(other, _)| *other == name);
        found.map_or("", |(_, value)| value)
    };
    lines!(out,
        redis_version: REDIS_VERSION,
        redis_mode: "standalone",
        server_name: "thermocline-cache-server",
        server_version: env!("CARGO_PKG_VERSION"),
        arch_bits: usize::BITS,
        multiplexing_api: "epoll",
        process_id: std::process::id(),
        run_id: server.run_id,
        tcp_port: setting("port"),
        server_time_usec: unix_ms() * 1000,
        uptime_in_seconds: seconds,
        uptime_in_days: seconds / 86_400,
        worker_threads: server.workers.len(),
    );
}

pub fn clients(server: &Server, out: &mut String) {
    let list = server.clients.list();
    let input = list.iter().map(|c| c.input.load(Relaxed) + c.input_free.load(Relaxed)).max();
    let output = list.iter().map(|c| c.output.load(Relaxed)).max();
    lines!(out,
        connected_clients: list.len(),
        maxclients: server.settings.maxclients.load(Relaxed),
        client_recent_max_input_buffer: input.unwrap_or(0),
        client_recent_max_output_buffer: output.unwrap_or(0),
        blocked_clients: 0,
        clients_waiting_for_memory: server.clients.waiting(),
    );
}

pub fn memory(server: &Server, out: &mut String) {
    let memory = Memory::of(server);
    let used = figures::used_bytes(server) as u64;
    let (resident, system) = (process::resident_bytes(), process::system_bytes());
    let maxmemory = server.settings.maxmemory.load(Relaxed);
    lines!(out,
        used_memory: used,
        used_memory_human: size::human(used),
        used_memory_rss: resident,
        used_memory_rss_human: size::human(resident),
        used_memory_dataset: used,
        total_system_memory: system,
        total_system_memory_human: size::human(system),
        maxmemory: maxmemory,
        maxmemory_human: size::human(maxmemory),
        maxmemory_policy: server.settings.policy().name(),
        allocator_allocated: memory.stats.allocated_bytes,
        allocator_resident: memory.stats.resident_bytes,
        mem_clients_normal: server.clients.used_bytes(),
        mem_fragmentation_ratio: format!("{:.2}", memory.fragmentation_ratio(resident)),
        mem_fragmentation_bytes: memory.wasted_bytes(),
        mem_allocator: "thermocline",
    );
}

pub fn persistence(_: &Server, out: &mut String) {
    lines!(out,
        loading: 0,
        rdb_changes_since_last_save: 0,
        rdb_bgsave_in_progress: 0,
        aof_enabled: 0,
    );
}

pub fn stats(server: &Server, out: &mut String) {
    let totals = server.totals();
    let events = figures::events(server);
    let rate = server.rates.instantaneous();
    lines!(out,
        total_connections_received: totals.connections,
        total_commands_processed: totals.commands,
        instantaneous_ops_per_sec: rate.commands as u64,
        total_net_input_bytes: totals.bytes_in,
        total_net_output_bytes: totals.bytes_out,
        rejected_connections: totals.rejected_connections,
        expired_keys: events.expired,
        evicted_clients: totals.evicted_clients,
        evicted_keys: events.evicted,
        keyspace_hits: events.hits,
        keyspace_misses: events.misses,
        total_error_replies: totals.errors,
        total_turns: totals.turns,
    );
}

pub fn replication(_: &Server, out: &mut String) {
    lines!(out, role: "master", connected_slaves: 0,);
}

pub fn cpu(_: &Server, out: &mut String) {
    let (user, system) = process::cpu_seconds();
    lines!(out,
        used_cpu_sys: format!("{system:.6}"),
        used_cpu_user: format!("{user:.6}"),
    );
}

/// A command's time is its share of its batch's time.
pub fn commandstats(server: &Server, out: &mut String) {
    let totals = server.totals();
    for entry in table().all() {
        let of = totals.by_command(entry.index);
        if of.calls + of.refused == 0 {
            continue;
        }
        let micros = of.nanos as f64 / 1000.0;
        let each = micros / (of.calls as f64).max(1.0);
        let _ = write!(
            out,
            "cmdstat_{}:calls={},usec={micros:.0},usec_per_call={each:.2},rejected_calls={},\
             failed_calls={}\r\n",
            entry.full_name(),
            of.calls,
            of.refused,
            of.failed,
        );
    }
}

pub fn cluster(_: &Server, out: &mut String) {
    lines!(out, cluster_enabled: 0,);
}

pub fn keyspace(server: &Server, out: &mut String) {
    let keys = server.keyspace.len();
    if keys > 0 {
        let expires = server.keyspace.volatile();
        let _ = write!(out, "db0:keys={keys},expires={expires},avg_ttl=0\r\n");
    }
}
