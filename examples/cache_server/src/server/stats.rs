//! Counts of requests and bytes. Each worker has its own, on cache lines of its own.

use crate::command::table::{Found, table};
use crossbeam::utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A count that one thread increments and all threads read.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    fn add(&self, n: u64) {
        // This thread is the only writer, so no increment is lost.
        self.0.store(self.0.load(Relaxed) + n, Relaxed);
    }

    fn raise_to(&self, n: u64) {
        self.0.store(self.get().max(n), Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[derive(Debug, Default)]
struct Counts {
    commands: Count,
    errors: Count,
    bytes_in: Count,
    bytes_out: Count,
    turns: Count,
    waits: Count,
    wait_nanos: Count,
    longest_wait_nanos: Count,
}

#[derive(Debug, Default)]
struct CommandCounts {
    calls: Count,
    nanos: Count,
    failed: Count,
    refused: Count,
}

/// The counts of one worker.
#[derive(Debug)]
pub struct WorkerStats {
    counts: CachePadded<Counts>,
    /// By index in the table of commands.
    commands: Box<[CommandCounts]>,
}

impl Default for WorkerStats {
    fn default() -> Self {
        let commands = (0..table().len()).map(|_| CommandCounts::default()).collect();
        Self { counts: CachePadded::default(), commands }
    }
}

impl WorkerStats {
    pub fn executed(&self, index: usize, failed: bool) {
        self.counts.commands.add(1);
        self.commands[index].calls.add(1);
        if failed {
            self.counts.errors.add(1);
            self.commands[index].failed.add(1);
        }
    }

    /// Counts a request that was answered with an error and not executed; `index` is its command, if known.
    pub fn refused(&self, index: Option<usize>) {
        self.counts.errors.add(1);
        if let Some(index) = index {
            self.commands[index].refused.add(1);
        }
    }

    /// Divides the time of a batch equally among its commands.
    pub fn took(&self, batch: &[Found], time: Duration) {
        let share = time.as_nanos() / (batch.len() as u128).max(1);
        let share = u64::try_from(share).unwrap_or(u64::MAX);
        for found in batch {
            if let Found::Command(entry) = found {
                self.commands[entry.index].nanos.add(share);
            }
        }
    }

    pub fn read(&self, bytes: usize) {
        self.counts.bytes_in.add(bytes as u64);
    }

    pub fn sent(&self, bytes: usize) {
        self.counts.bytes_out.add(bytes as u64);
    }

    /// Counts a command that has waited for memory.
    pub fn waited(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counts.waits.add(1);
        self.counts.wait_nanos.add(nanos);
        self.counts.longest_wait_nanos.raise_to(nanos);
    }

    pub fn turned(&self) {
        self.counts.turns.add(1);
    }
}

/// The counts of one command.
#[derive(Debug, Default, Clone, Copy)]
pub struct CommandTotals {
    pub calls: u64,
    pub nanos: u64,
    pub failed: u64,
    pub refused: u64,
}

/// The sums over all workers.
#[derive(Debug, Default, Clone)]
pub struct Totals {
    pub connections: u64,
    pub rejected_connections: u64,
    pub evicted_clients: u64,
    pub commands: u64,
    pub errors: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// The number of turns of connections.
    pub turns: u64,
    /// The number of commands that waited for memory, and their times.
    pub waits: u64,
    pub wait_nanos: u64,
    /// Since the start.
    pub longest_wait_nanos: u64,
    by_command: Vec<CommandTotals>,
}

impl Totals {
    pub fn add(&mut self, worker: &WorkerStats) {
        self.by_command.resize_with(worker.commands.len(), CommandTotals::default);
        let counts = &worker.counts;
        self.commands += counts.commands.get();
        self.errors += counts.errors.get();
        self.bytes_in += counts.bytes_in.get();
        self.bytes_out += counts.bytes_out.get();
        self.turns += counts.turns.get();
        self.waits += counts.waits.get();
        self.wait_nanos += counts.wait_nanos.get();
        self.longest_wait_nanos = self.longest_wait_nanos.max(counts.longest_wait_nanos.get());
        for (total, counts) in self.by_command.iter_mut().zip(&worker.commands) {
            total.calls += counts.calls.get();
            total.nanos += counts.nanos.get();
            total.failed += counts.failed.get();
            total.refused += counts.refused.get();
        }
    }

    pub fn since(mut self, earlier: &Self) -> Self {
        self.connections -= earlier.connections;
        self.rejected_connections -= earlier.rejected_connections;
        self.evicted_clients -= earlier.evicted_clients;
        self.commands -= earlier.commands;
        self.errors -= earlier.errors;
        self.bytes_in -= earlier.bytes_in;
        self.bytes_out -= earlier.bytes_out;
        self.turns -= earlier.turns;
        self.waits -= earlier.waits;
        self.wait_nanos -= earlier.wait_nanos;
        for (total, earlier) in self.by_command.iter_mut().zip(&earlier.by_command) {
            total.calls -= earlier.calls;
            total.nanos -= earlier.nanos;
            total.failed -= earlier.failed;
            total.refused -= earlier.refused;
        }
        self
    }

    /// The counts of the command with this index in the table.
    pub fn by_command(&self, index: usize) -> CommandTotals {
        self.by_command.get(index).copied().unwrap_or_default()
    }
}
