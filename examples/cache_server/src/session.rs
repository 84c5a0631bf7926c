//! What is known about a client: by its connection alone, and by everybody.

use crate::reply::Protocol;
use crate::server::Server;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// A client as its own connection sees it.
#[derive(Debug)]
pub struct Session {
    pub client: Arc<Client>,
    pub protocol: Protocol,
    pub authenticated: bool,
    pub replies: Replies,
    /// Nothing of this client is carried out any more; once its replies are sent, it is closed.
    pub close: bool,
}

/// Whether a client gets replies: `CLIENT REPLY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replies {
    On,
    Off,
    /// Not to this command, nor to the next one.
    SkipNext,
    /// Not to this one.
    Skip,
}

impl Session {
    pub fn new(client: Arc<Client>, server: &Server) -> Self {
        Self {
            client,
            protocol: Protocol::default(),
            authenticated: !server.settings.has_password(),
            replies: Replies::On,
            close: false,
        }
    }

    /// That of a client that has just connected, from nowhere.
    #[cfg(test)]
    pub fn for_tests(server: &Server) -> Self {
        let client = Client::new(1, "nowhere".into(), "here".into(), -1, 0);
        Self::new(Arc::new(client), server)
    }

    pub fn must_authenticate(&self, server: &Server) -> bool {
        !self.authenticated && server.settings.has_password()
    }

    /// Whether the command that was just carried out is answered. To be asked once for each.
    pub fn wants_reply(&mut self) -> bool {
        match self.replies {
            Replies::On => true,
            Replies::Off => false,
            Replies::SkipNext => {
                self.replies = Replies::Skip;
                false
            }
            Replies::Skip => {
                self.replies = Replies::On;
                false
            }
        }
    }

    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.client.resp3.store(protocol == Protocol::Resp3, Relaxed);
    }
}

/// A client as all see it. Its worker alone writes the figures.
#[derive(Debug)]
pub struct Client {
    pub id: u64,
    pub address: String,
    pub local_address: String,
    pub descriptor: i32,
    /// In seconds of the server's clock.
    pub connected_at: u64,
    pub active_at: AtomicU64,
    pub names: Mutex<Names>,
    /// Somebody wants it closed.
    pub killed: AtomicBool,
    pub resp3: AtomicBool,
    pub no_evict: AtomicBool,
    pub no_touch: AtomicBool,
    /// Bytes that have been read and not been carried out, and room for more.
    pub input: AtomicUsize,
    pub input_free: AtomicUsize,
    /// Bytes of replies that have not been sent.
    pub output: AtomicUsize,
    /// Bytes that its connection takes in all.
    pub memory: AtomicUsize,
    /// When it has sent or taken something last, in milliseconds of the server's clock.
    moved_at_ms: AtomicU64,
    /// Since when it has waited for memory, likewise. The largest number where it does not.
    waits_since_ms: AtomicU64,
    /// The last command's number in the table, plus 1.
    last_command: AtomicUsize,
}

const NEVER: u64 = u64::MAX;

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NEVER)
}

/// What a client calls itself.
#[derive(Debug, Default, Clone)]
pub struct Names {
    pub name: Vec<u8>,
    pub library: Vec<u8>,
    pub library_version: Vec<u8>,
}

impl Client {
    pub fn new(
        id: u64,
        address: String,
        local_address: String,
        descriptor: i32,
        seconds: u64,
    ) -> Self {
        Self {
            id,
            address,
            local_address,
            descriptor,
            connected_at: seconds,
            active_at: AtomicU64::new(seconds),
            names: Mutex::default(),
            killed: AtomicBool::new(false),
            resp3: AtomicBool::new(false),
            no_evict: AtomicBool::new(false),
            no_touch: AtomicBool::new(false),
            input: AtomicUsize::new(0),
            input_free: AtomicUsize::new(0),
            output: AtomicUsize::new(0),
            memory: AtomicUsize::new(0),
            moved_at_ms: AtomicU64::new(seconds * 1000),
            waits_since_ms: AtomicU64::new(NEVER),
            last_command: AtomicUsize::new(0),
        }
    }

    /// It has sent or taken something.
    pub fn moved(&self, now: Duration) {
        self.moved_at_ms.store(milliseconds(now), Relaxed);
    }

    pub fn moved_at(&self) -> Duration {
        Duration::from_millis(self.moved_at_ms.load(Relaxed))
    }

    /// It waits for memory, or does no longer.
    pub fn waits(&self, now: Option<Duration>) {
        let before = self.waits_since_ms.load(Relaxed);
        let since = now.map_or(NEVER, |now| milliseconds(now).min(before));
        if since != before {
            self.waits_since_ms.store(since, Relaxed);
        }
    }

    pub fn waits_since(&self) -> Option<Duration> {
        let since = self.waits_since_ms.load(Relaxed);
        (since != NEVER).then(|| Duration::from_millis(since))
    }

    pub fn note_command(&self, index: usize) {
        self.last_command.store(index + 1, Relaxed);
    }

    /// The number in the table of the command that was carried out last.
    pub fn last_command(&self) -> Option<usize> {
        self.last_command.load(Relaxed).checked_sub(1)
    }
}
