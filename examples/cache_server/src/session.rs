//! The state of a client: a part that its connection owns, and a part that all threads see.

use crate::command::Transaction;
use crate::reply::Protocol;
use crate::server::Server;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The part that the connection owns.
#[derive(Debug)]
pub struct Session {
    pub client: Arc<Client>,
    pub protocol: Protocol,
    pub authenticated: bool,
    pub replies: Replies,
    /// The server executes no more requests of this client, and closes it after its last reply.
    pub close: bool,
    /// The wait of the next command for memory.
    pub wait: Wait,
    pub transaction: Transaction,
}

/// A command's wait for memory.
#[derive(Debug, Default)]
pub struct Wait {
    /// How often the command was told to wait.
    pub tries: u32,
    since: Option<Instant>,
}

impl Wait {
    pub fn begin_or_continue(&mut self) {
        self.tries += 1;
        self.since.get_or_insert_with(Instant::now);
    }

    /// Ends the wait, and returns its time if there was one.
    pub fn end(&mut self) -> Option<Duration> {
        self.tries = 0;
        self.since.take().map(|since| since.elapsed())
    }
}

/// Whether a client gets replies: `CLIENT REPLY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replies {
    On,
    Off,
    /// No reply to this command, nor to the next one.
    SkipNext,
    /// No reply to this command.
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
            wait: Wait::default(),
            transaction: Transaction::default(),
        }
    }

    /// The session of a newly connected client, with an invented address.
    #[cfg(test)]
    pub fn for_tests(server: &Server) -> Self {
        let client = Client::new(1, "nowhere".into(), "here".into(), -1, 0);
        Self::new(Arc::new(client), server)
    }

    pub fn must_authenticate(&self, server: &Server) -> bool {
        !self.authenticated && server.settings.has_password()
    }

    /// Whether the last command gets a reply. Called once per command.
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

/// The part that all threads see. Only the client's worker writes the figures.
#[derive(Debug)]
pub struct Client {
    pub id: u64,
    pub address: String,
    pub local_address: String,
    pub descriptor: i32,
    /// In seconds since the server's start.
    pub connected_at: u64,
    pub active_at: AtomicU64,
    pub names: Mutex<Names>,
    /// The client is to be closed.
    pub killed: AtomicBool,
    pub resp3: AtomicBool,
    pub no_evict: AtomicBool,
    pub no_touch: AtomicBool,
    /// Bytes that were read but not executed, and free capacity of the buffer.
    pub input: AtomicUsize,
    pub input_free: AtomicUsize,
    /// Bytes of unsent replies.
    pub output: AtomicUsize,
    /// The number of commands of its transaction, or -1 without a transaction, and their bytes.
    pub queued: AtomicI64,
    pub queued_bytes: AtomicUsize,
    /// Bytes that the connection takes in total.
    pub memory: AtomicUsize,
    /// When bytes were last received or sent, in milliseconds since the server's start.
    moved_at_ms: AtomicU64,
    /// When the client began to wait for memory, likewise; the largest number if it does not wait.
    waits_since_ms: AtomicU64,
    /// The last command's index in the table, plus 1.
    last_command: AtomicUsize,
}

const NEVER: u64 = u64::MAX;

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NEVER)
}

/// The names that a client has given itself.
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
            queued: AtomicI64::new(-1),
            queued_bytes: AtomicUsize::new(0),
            memory: AtomicUsize::new(0),
            moved_at_ms: AtomicU64::new(seconds * 1000),
            waits_since_ms: AtomicU64::new(NEVER),
            last_command: AtomicUsize::new(0),
        }
    }

    /// Records that bytes were received or sent.
    pub fn moved(&self, now: Duration) {
        self.moved_at_ms.store(milliseconds(now), Relaxed);
    }

    pub fn moved_at(&self) -> Duration {
        Duration::from_millis(self.moved_at_ms.load(Relaxed))
    }

    /// Records that the client waits for memory, or with `None` that it does not.
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

    /// The table's index of the last executed command.
    pub fn last_command(&self) -> Option<usize> {
        self.last_command.load(Relaxed).checked_sub(1)
    }
}
