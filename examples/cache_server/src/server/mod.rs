//! The state that all connections share.

mod budget;
mod clients;
mod settings;
mod stats;
mod stop;

pub use budget::{Grant, Share};
pub use clients::{Clients, Inbox, Message};
pub use settings::Settings;
pub use stats::{Totals, WorkerStats};
pub use stop::Stop;

use crate::keyspace::{Keyspace, UnixMs};
use crate::rates::Rates;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The state that all connections share.
#[derive(Debug)]
pub struct Server {
    pub keyspace: Keyspace,
    pub settings: Settings,
    pub clients: Clients,
    pub stop: Stop,
    /// One per worker, which alone writes it.
    pub workers: Vec<Arc<WorkerStats>>,
    /// The totals at the last `CONFIG RESETSTAT`, which later totals do not contain.
    pub baseline: Mutex<Totals>,
    pub rates: Rates,
    pub started: Instant,
    /// Forty random hexadecimal digits, as in Redis.
    pub run_id: String,
}

impl Server {
    pub fn new(keyspace: Keyspace, settings: Settings, workers: usize) -> Self {
        Self {
            keyspace,
            settings,
            clients: Clients::default(),
            stop: Stop::default(),
            workers: (0..workers).map(|_| Arc::default()).collect(),
            baseline: Mutex::default(),
            rates: Rates::default(),
            started: Instant::now(),
            run_id: run_id(),
        }
    }

    /// A server without clients.
    #[cfg(test)]
    pub fn for_tests() -> Self {
        let arena = thermocline::Arena::builder().plain_memory_fallback(true).build();
        let arena = arena.expect("plain memory at least");
        Self::new(Keyspace::new(arena, crate::keyspace::Options::default()), Settings::default(), 1)
    }

    /// Seconds since the server was started.
    pub fn seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// The counts since the start or the last `CONFIG RESETSTAT`.
    pub fn totals(&self) -> Totals {
        self.totals_since_start().since(&self.baseline.lock())
    }

    pub fn reset_totals(&self) {
        *self.baseline.lock() = self.totals_since_start();
    }

    /// The counts since the start.
    pub fn totals_since_start(&self) -> Totals {
        let mut totals = Totals::default();
        self.workers.iter().for_each(|worker| totals.add(worker));
        totals.connections = self.clients.opened();
        totals.rejected_connections = self.clients.rejected();
        totals.evicted_clients = self.clients.evicted();
        totals
    }
}

/// The wall-clock time.
pub fn unix_ms() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs::try_from(since.as_millis()).unwrap_or(UnixMs::MAX)
}

fn run_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    let word = || RandomState::new().hash_one(unix_ms());
    format!("{:016x}{:016x}{:08x}", word(), word(), word() >> 32)
}
