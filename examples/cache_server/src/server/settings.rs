//! Settings that can change while the server runs.

use super::Share;
use crate::keyspace::Policy;
use parking_lot::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// The settings that `CONFIG SET` can change.
#[derive(Debug)]
pub struct Settings {
    /// Bytes of keys and values; 0 for no limit.
    pub maxmemory: AtomicU64,
    policy: RwLock<Policy>,
    password: RwLock<Vec<u8>>,
    has_password: AtomicBool,
    pub maxclients: AtomicUsize,
    /// Seconds after which an idle client is closed; 0 for never.
    pub timeout: AtomicU64,
    /// Seconds between keepalive probes on idle TCP connections; 0 for none.
    pub tcp_keepalive: AtomicU64,
    /// The most bytes of an argument.
    pub proto_max_bulk_len: AtomicU64,
    /// Bytes that the whole process may take; 0 for no limit.
    pub memory_limit: AtomicU64,
    /// Bytes that all clients may take together.
    client_share: RwLock<Share>,
    cold_after: RwLock<Duration>,
    /// Whether the `DEBUG` command is enabled.
    pub debug_command: bool,
    /// Options of the start that cannot change, for `CONFIG GET`.
    pub fixed: Vec<(&'static str, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            maxmemory: AtomicU64::new(0),
            policy: RwLock::default(),
            password: RwLock::default(),
            has_password: AtomicBool::new(false),
            maxclients: AtomicUsize::new(10_000),
            timeout: AtomicU64::new(0),
            tcp_keepalive: AtomicU64::new(300),
            proto_max_bulk_len: AtomicU64::new(512 << 20),
            memory_limit: AtomicU64::new(0),
            client_share: RwLock::new(Share::Percent(25)),
            cold_after: RwLock::new(Duration::from_secs(60)),
            debug_command: false,
            fixed: Vec::new(),
        }
    }
}

impl Settings {
    pub fn has_password(&self) -> bool {
        self.has_password.load(Relaxed)
    }

    /// Takes the same time for every wrong password of the right length.
    pub fn is_password(&self, given: &[u8]) -> bool {
        let password = self.password.read();
        let differing = password.iter().enumerate().fold(0, |differing, (i, byte)| {
            differing | (byte ^ given.get(i).copied().unwrap_or(!byte))
        });
        password.len() == given.len() && differing == 0
    }

    pub fn password(&self) -> Vec<u8> {
        self.password.read().clone()
    }

    /// An empty password disables authentication.
    pub fn set_password(&self, password: &[u8]) {
        *self.password.write() = password.to_vec();
        self.has_password.store(!password.is_empty(), Relaxed);
    }

    pub fn client_share(&self) -> Share {
        *self.client_share.read()
    }

    pub fn set_client_share(&self, share: Share) {
        *self.client_share.write() = share;
    }

    /// How long a value is idle before it is compressed.
    pub fn cold_after(&self) -> Duration {
        *self.cold_after.read()
    }

    pub fn set_cold_after(&self, time: Duration) {
        *self.cold_after.write() = time;
    }

    pub fn policy(&self) -> Policy {
        *self.policy.read()
    }

    pub fn set_policy(&self, policy: Policy) {
        *self.policy.write() = policy;
    }
}
