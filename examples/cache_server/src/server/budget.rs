//! The memory that all clients may take together: unfinished requests, unread replies, and buffers.
//!
//! Redis calls this limit `maxmemory-clients`: bytes, or a percentage of the memory limit. If a client's
//! request needs more memory than is left, the server does not read from that client until there is enough.
//! It still serves the other clients, and always reads from a client that takes little. If waiting is not
//! enough, the server closes the largest client and counts it in `evicted_clients`:
//!
//! - at once, if the clients exceed the limit, because the size of a reply is known only when it exists;
//! - at once, a client whose request alone exceeds the limit;
//! - when a client has waited for [`MAX_WAIT`], the largest client that holds much and has neither sent
//!   nor received anything for that time. The server does not read from waiting clients, so they do not
//!   count as idle; if every client that holds much waits, the server closes the largest of them.
//!
//! `CLIENT NO-EVICT` exempts a client from being closed, not from waiting.

use super::Clients;
use crate::session::Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Bytes that a client may always take. Ordinary requests need less.
const ALWAYS_GRANTED: usize = 128 << 10;

/// The longest wait of a client for memory before the server closes a client.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// The limit on the memory of all clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    Unlimited,
    Bytes(u64),
    /// A percentage of the memory limit, or of `maxmemory` if there is no memory limit.
    Percent(u64),
}

impl Share {
    /// The limit in bytes; the largest number if there is none.
    pub fn of(self, memory_limit: u64, maxmemory: u64) -> usize {
        let whole = if memory_limit > 0 { memory_limit } else { maxmemory };
        let bytes = match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) if whole > 0 => whole / 100 * percent,
            Self::Unlimited | Self::Percent(_) => u64::MAX,
        };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

impl std::str::FromStr for Share {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let percent = text.strip_suffix('%').map(str::parse::<u64>);
        match (percent, crate::size::parse(text)) {
            (Some(Ok(0)), _) | (None, Some(0)) => Ok(Self::Unlimited),
            (Some(Ok(percent @ 1..=100)), _) => Ok(Self::Percent(percent)),
            (Some(Ok(_)), _) => Err("percentage argument must be less or equal to 100"),
            (None, Some(bytes)) => Ok(Self::Bytes(bytes)),
            _ => Err("argument must be a memory or percent value"),
        }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unlimited => f.write_str("0"),
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Whether a client may take more memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    Yes,
    /// The client has to wait until other clients have freed memory.
    Later,
    Never,
}

#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    most: AtomicUsize,
    evicted: AtomicU64,
}

impl Default for Budget {
    fn default() -> Self {
        let most = AtomicUsize::new(usize::MAX);
        Self { used: AtomicUsize::new(0), most, evicted: AtomicU64::new(0) }
    }
}

impl Clients {
    /// Bytes that all clients take together.
    pub fn used_bytes(&self) -> usize {
        self.budget.used.load(Relaxed)
    }

    /// The limit in bytes; the largest number if there is none.
    pub fn most_bytes(&self) -> usize {
        self.budget.most.load(Relaxed)
    }

    pub fn set_most_bytes(&self, most: usize) {
        self.budget.most.store(most, Relaxed);
    }

    /// The number of clients that were closed for their memory.
    pub fn evicted(&self) -> u64 {
        self.budget.evicted.load(Relaxed)
    }

    /// The number of clients that wait for memory.
    pub fn waiting(&self) -> usize {
        self.list().iter().filter(|client| client.waits_since().is_some()).count()
    }

    /// Requests more memory for a client, at the time `now`.
    pub fn grant(&self, client: &Client, more: usize, now: Duration) -> Grant {
        let (own, most) = (client.memory.load(Relaxed), self.most_bytes());
        let is_small = own + more <= ALWAYS_GRANTED;
        if more == 0 || is_small {
            client.waits(None);
            return Grant::Yes;
        }
        if own + more > most {
            return Grant::Never;
        }
        let grown = |used: usize| used.checked_add(more).filter(|&used| used <= most);
        match self.budget.used.fetch_update(Relaxed, Relaxed, grown) {
            Ok(_) => {
                client.memory.store(own + more, Relaxed);
                client.waits(None);
                Grant::Yes
            }
            Err(_) => {
                client.waits(Some(now));
                Grant::Later
            }
        }
    }

    /// Sets the bytes that a client takes. Closes the largest clients if the sum exceeds the limit.
    pub fn set_memory(&self, client: &Client, bytes: usize) {
        let before = client.memory.swap(bytes, Relaxed);
        if before == bytes {
            return;
        }
        // Wrapping arithmetic: `bytes` may be less than `before`.
        self.budget.used.fetch_add(bytes.wrapping_sub(before), Relaxed);
        if self.used_bytes() > self.most_bytes() {
            self.evict_surplus();
        }
    }

    /// Releases the memory of a client that has disconnected.
    pub(super) fn release_memory(&self, client: &Client) {
        self.budget.used.fetch_sub(client.memory.swap(0, Relaxed), Relaxed);
    }

    /// Closes a client that takes too much memory.
    pub fn evict(&self, client: &Client) {
        if !client.killed.swap(true, Relaxed) {
            self.budget.evicted.fetch_add(1, Relaxed);
            self.tell_all(|| super::Message::Kill);
        }
    }

    /// Closes the largest clients until the remaining ones are within the limit.
    #[cold]
    fn evict_surplus(&self) {
        let mut clients = self.list();
        // Clients that are being closed release their memory soon.
        let memory = |client: &Arc<Client>| client.memory.load(Relaxed);
        let (closing, mut open): (Vec<_>, Vec<_>) =
            clients.drain(..).partition(|client| client.killed.load(Relaxed));
        let closing: usize = closing.iter().map(memory).sum();
        let mut used = self.used_bytes().saturating_sub(closing);
        open.retain(|client| !client.no_evict.load(Relaxed));
        open.sort_by_key(memory);
        while used > self.most_bytes()
            && let Some(largest) = open.pop()
        {
            used = used.saturating_sub(memory(&largest));
            self.evict(&largest);
        }
    }

    /// Closes a client if a client has waited too long. The server calls this regularly.
    pub fn tend(&self, now: Duration) {
        if self.most_bytes() == usize::MAX {
            return;
        }
        let clients = self.list();
        let is_long = |since: Duration| now.saturating_sub(since) >= MAX_WAIT;
        if clients.iter().any(|client| client.waits_since().is_some_and(is_long))
            && let Some(client) =
                choose_client_to_close(&clients, |client| is_long(client.moved_at()))
        {
            self.evict(client);
        }
    }
}

/// The client to close when a client has waited too long; none while a client that holds much makes progress.
fn choose_client_to_close(
    clients: &[Arc<Client>],
    is_idle: impl Fn(&Client) -> bool,
) -> Option<&Client> {
    let memory = |client: &&Arc<Client>| client.memory.load(Relaxed);
    let (waiting, served): (Vec<_>, Vec<_>) = clients
        .iter()
        .filter(|client| memory(client) > ALWAYS_GRANTED)
        .partition(|client| client.waits_since().is_some());
    let candidates = if served.is_empty() {
        waiting
    } else {
        served.into_iter().filter(|client| is_idle(client)).collect()
    };
    let may_be_closed = candidates.into_iter().filter(|client| !client.no_evict.load(Relaxed));
    may_be_closed.max_by_key(memory).map(|client| &**client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_client_is_closed_only_if_all_large_clients_wait() {
        let [small, served, waits] = [1, 2, 3].map(|id| Arc::new(client(id)));
        for (client, bytes) in
            [(&small, ALWAYS_GRANTED), (&served, ALWAYS_GRANTED + 1), (&waits, 2 * ALWAYS_GRANTED)]
        {
            client.memory.store(bytes, Relaxed);
        }
        waits.waits(Some(Duration::from_secs(1)));
        let all = [small, served, waits];
        let closed = |idle: bool| choose_client_to_close(&all, |_| idle).map(|client| client.id);
        assert_eq!(closed(false), None, "one makes progress");
        assert_eq!(closed(true), Some(2), "the idle one, although the waiting one holds more");
        all[1].waits(Some(Duration::from_secs(1)));
        assert_eq!(closed(false), Some(3), "both wait for each other");
        all[2].no_evict.store(true, Relaxed);
        assert_eq!(closed(false), Some(2));
    }

    #[test]
    fn a_share_is_bytes_or_a_percentage() {
        for (text, share, shown) in [
            ("0", Share::Unlimited, "0"),
            ("0%", Share::Unlimited, "0"),
            ("1mb", Share::Bytes(1 << 20), "1048576"),
            ("25%", Share::Percent(25), "25%"),
        ] {
            assert_eq!(text.parse(), Ok(share));
            assert_eq!(share.to_string(), shown);
        }
        for text in ["", "%", "101%", "-1", "much", "5 %"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        assert_eq!(Share::Percent(25).of(4000, 100_000), 1000);
        assert_eq!(Share::Percent(25).of(0, 100_000), 25_000);
        assert_eq!(Share::Percent(25).of(0, 0), usize::MAX);
        assert_eq!(Share::Bytes(7).of(0, 0), 7);
    }

    fn client(id: u64) -> Client {
        Client::new(id, String::new(), String::new(), -1, 0)
    }

    #[test]
    fn requests_wait_for_memory_unless_they_exceed_the_limit() {
        let clients = Clients::default();
        clients.set_most_bytes(1 << 20);
        let (one, other) = (client(1), client(2));
        let now = Duration::from_secs(1);
        assert_eq!(clients.grant(&one, 700 << 10, now), Grant::Yes);
        assert_eq!(clients.grant(&other, 700 << 10, now), Grant::Later);
        assert_eq!(other.waits_since(), Some(now));
        assert_eq!(
            clients.grant(&other, ALWAYS_GRANTED, now),
            Grant::Yes,
            "little is always granted"
        );
        assert_eq!(clients.grant(&other, (1 << 20) + 1, now), Grant::Never);
        clients.set_memory(&one, 0);
        assert_eq!(clients.grant(&other, 700 << 10, now), Grant::Yes);
        assert_eq!((other.waits_since(), clients.used_bytes()), (None, 700 << 10));
        clients.release_memory(&other);
        assert_eq!(clients.used_bytes(), 0);
    }
}
