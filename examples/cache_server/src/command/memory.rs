//! `MEMORY`: the use of memory.

use super::Call;
use super::client::never_executed;
use super::help::help;
use super::keys::object::MEMORY_USAGE;
use super::row::{Command, NO_KEY};
use crate::figures::{self, Memory};
use crate::keyspace::Pressure;
use crate::server::Server;
use crate::{process, size};
use std::fmt::Write;
use thermocline::Swapping;

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::new("memory", -2, &[], NO_KEY, "Commands about memory", never_executed),
    Command::new("memory|doctor", 2, &[], NO_KEY, "Describes problems with memory", doctor),
    Command::new("memory|help", 2, &["loading", "stale"], NO_KEY, "Help on commands about memory", memory_help),
    Command::new("memory|malloc-stats", 2, &[], NO_KEY, "Describes the arena's allocator", malloc_stats),
    Command::new("memory|purge", 2, &[], NO_KEY, "Gives free memory back to the system", purge),
    Command::new("memory|stats", 2, &[], NO_KEY, "Figures about memory", stats),
    MEMORY_USAGE,
];

fn purge(call: &mut Call<'_>) {
    figures::arena(call.server).trim();
    call.reply.ok();
}

fn malloc_stats(call: &mut Call<'_>) {
    let heap = figures::arena(call.server).heap_stats();
    let text = heap.map(|heap| heap.to_string()).unwrap_or_default();
    call.reply.verbatim(*b"txt", text.as_bytes());
}

fn doctor(call: &mut Call<'_>) {
    call.reply.verbatim(*b"txt", diagnosis(call.server).as_bytes());
}

/// A paragraph: the memory saved, and the obstacles to saving more.
fn diagnosis(server: &Server) -> String {
    let memory = Memory::of(server);
    let stats = &memory.stats;
    let bytes = size::human;
    let mut text = String::new();
    let _ = match &memory.swapping {
        Swapping::On(tracker) => writeln!(
            text,
            "Idle values are compressed (tracker {tracker}, faults {}): {} in memory, {} compressed \
             into {} ({:.2} to 1), which saves {}.",
            memory.fault_mode,
            bytes(stats.resident_bytes),
            bytes(stats.stored_bytes),
            bytes(stats.store_bytes),
            memory.ratio(),
            bytes(stats.saved_bytes()),
        ),
        Swapping::Off(reason) => writeln!(text, "Nothing is compressed: {reason}."),
        _ => writeln!(text, "Nothing is compressed any more: the arena was stopped."),
    };
    let p99 = stats.refault_time.quantile(0.99).unwrap_or_default();
    let refaults = server.rates.per_second().refaults;
    let tried = stats.evicted_pages + stats.incompressible_pages;
    let (clients, waiting) = (server.clients.used_bytes(), server.clients.waiting());
    let pressure = server.keyspace.pressure();
    let evicted = figures::events(server).evicted;
    let findings = [
        (
            pressure == Pressure::Full && server.settings.policy().evicts(),
            format!(
                "The memory is full: compression alone does not keep to the limit, so keys are evicted ({} so far, by {}). Give more memory (--memory-limit).",
                evicted,
                server.settings.policy().name()
            ),
        ),
        (
            pressure == Pressure::Full && !server.settings.policy().evicts(),
            "The memory is full: compression alone does not keep to the limit, so commands that need memory are refused (noeviction). Give more memory (--memory-limit), remove keys, or choose another maxmemory-policy.".into(),
        ),
        (
            waiting > 0 || clients > server.clients.most_bytes() / 4 * 3,
            format!(
                "Clients take {} of the {} that they may (maxmemory-clients): {waiting} wait for memory, {} were closed for it.",
                bytes(clients as u64),
                bytes(server.clients.most_bytes() as u64),
                server.clients.evicted(),
            ),
        ),
        (
            pressure == Pressure::Behind,
            "Compression is behind: commands that need memory wait for it.".into(),
        ),
        (
            stats.lost_bytes > 0,
            format!(
                "{} are lost: their compressed copies are damaged. Check the memory of this machine.",
                bytes(stats.lost_bytes)
            ),
        ),
        (
            stats.store_full_pages > 0,
            format!(
                "The store was full {} times, so idle pages stayed. Raise its limit.",
                stats.store_full_pages
            ),
        ),
        (
            stats.kernel_errors > 0,
            format!(
                "The kernel refused to let {} pages or regions be evicted.",
                stats.kernel_errors
            ),
        ),
        (
            tried > 1000 && stats.incompressible_pages > tried / 2,
            format!(
                "{} of {tried} pages did not compress: values that are compressed already gain nothing here.",
                stats.incompressible_pages
            ),
        ),
        (
            memory.fragmentation > 0.4 && stats.allocated_bytes > 64 << 20,
            format!(
                "{:.0} percent of the memory that values hold is between them. MEMORY PURGE gives back what is free.",
                memory.fragmentation * 100.0
            ),
        ),
        (
            refaults > 1000.0,
            format!(
                "{refaults:.0} values a second are brought back (p99 {p99:?}). If that is too many, let values be idle for longer (--cold-after) or give more memory (--memory-limit)."
            ),
        ),
    ];
    for (_, finding) in findings.iter().filter(|(found, _)| *found) {
        let _ = writeln!(text, "{finding}");
    }
    if !findings.iter().any(|(found, _)| *found) {
        text.push_str("I found nothing to complain about.\n");
    }
    text
}

fn stats(call: &mut Call<'_>) {
    let memory = Memory::of(call.server);
    let stats = &memory.stats;
    let keys = call.server.keyspace.len() as u64;
    let used = figures::used_bytes(call.server) as u64;
    let resident = process::resident_bytes();
    let integers = [
        ("total.allocated", used),
        ("keys.count", keys),
        ("keys.bytes-per-key", used.checked_div(keys).unwrap_or(0)),
        ("dataset.bytes", used),
        ("index.bytes", call.server.keyspace.index_bytes() as u64),
        ("allocator.allocated", stats.allocated_bytes),
        ("allocator.resident", stats.resident_bytes),
        ("arena.stored", stats.stored_bytes),
        ("arena.store", stats.store_bytes),
        ("arena.saved", stats.saved_bytes()),
        ("process.resident", resident),
    ];
    call.reply.map(integers.len() + 2);
    for (name, value) in integers {
        call.reply.bulk(name.as_bytes());
        call.reply.integer(value.try_into().unwrap_or(i64::MAX));
    }
    for (name, value) in [
        ("arena.compression-ratio", memory.ratio()),
        ("fragmentation", memory.fragmentation_ratio(resident)),
    ] {
        call.reply.bulk(name.as_bytes());
        call.reply.double(value);
    }
}

fn memory_help(call: &mut Call<'_>) {
    help(
        call,
        "DOCTOR
    What there is to say about memory.
MALLOC-STATS
    What the arena's allocator holds.
PURGE
    Give free memory back to the system.
STATS
    Figures about memory.
USAGE <key> [SAMPLES <count>]
    Bytes that a key and its value take.",
    );
}
