//! What clients may take together: unfinished requests, replies that were not taken, and buffers.
//!
//! In Redis' words this is `maxmemory-clients`: bytes, or a percentage of the memory limit. A client
//! whose request needs more memory than is left is not read until there is some. Such a client does not
//! hinder others: one that takes little is always read. Where that is not enough the largest client is
//! closed, and counted in `evicted_clients`:
//!
//! - at once, where clients take more than they may, as replies are only seen when they are there;
//! - at once, a client whose request alone needs more than all may take;
//! - where a client has waited for [`PATIENCE`], the largest of those that hold much and have neither sent
//!   nor taken anything for so long. A client that waits is not read, so that it is not counted among
//!   these; if every client that holds much waits, the largest of them is closed.
//!
//! `CLIENT NO-EVICT` exempts a client from being closed, not from waiting.

use super::Clients;
use crate::session::Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// What a client may always take. Requests that are not unusual need less.
const LITTLE: usize = 128 << 10;

/// How long a client waits for memory until another one, or it, is closed.
const PATIENCE: Duration = Duration::from_secs(5);

/// What clients may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    Unlimited,
    Bytes(u64),
    /// Of the memory limit, or of `maxmemory` where there is no such limit.
    Percent(u64),
}

impl Share {
    /// Bytes; the largest number where there is no limit.
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
        let percent = text.strip_suffix('%').map(str::parse);
        match (percent, crate::size::parse(text)) {
            (Some(Ok(percent @ 1..=100)), _) => Ok(Self::Percent(percent)),
            (None, Some(0)) => Ok(Self::Unlimited),
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

/// Whether a client may take more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    Yes,
    /// When others have given some back.
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
    /// Bytes that clients take together.
    pub fn used_bytes(&self) -> usize {
        self.budget.used.load(Relaxed)
    }

    /// Bytes that they may take. The largest number where there is no limit.
    pub fn most_bytes(&self) -> usize {
        self.budget.most.load(Relaxed)
    }

    pub fn set_most_bytes(&self, most: usize) {
        self.budget.most.store(most, Relaxed);
    }

    /// Clients that were closed for what they took.
    pub fn evicted(&self) -> u64 {
        self.budget.evicted.load(Relaxed)
    }

    /// Clients whose requests wait for memory.
    pub fn waiting(&self) -> usize {
        self.list().iter().filter(|client| client.waits_since().is_some()).count()
    }

    /// Asks for more memory for a client, at the time `now`.
    pub fn grant(&self, client: &Client, more: usize, now: Duration) -> Grant {
        let (own, most) = (client.memory.load(Relaxed), self.most_bytes());
        let is_little = own + more <= LITTLE;
        if more == 0 || is_little {
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

    /// A client takes so much now. Closes the largest clients, if it is too much.
    pub fn takes(&self, client: &Client, bytes: usize) {
        let before = client.memory.swap(bytes, Relaxed);
        if before == bytes {
            return;
        }
        // Wraps around where it has become less, and is right in the end.
        self.budget.used.fetch_add(bytes.wrapping_sub(before), Relaxed);
        if self.used_bytes() > self.most_bytes() {
            self.evict_surplus();
        }
    }

    /// A client is gone.
    pub(super) fn gives_back(&self, client: &Client) {
        self.budget.used.fetch_sub(client.memory.swap(0, Relaxed), Relaxed);
    }

    /// Closes a client that takes too much.
    pub fn evict(&self, client: &Client) {
        if !client.killed.swap(true, Relaxed) {
            self.budget.evicted.fetch_add(1, Relaxed);
            self.tell_all(|| super::Message::Kill);
        }
    }

    /// Closes the largest clients until the others take no more than they may.
    #[cold]
    fn evict_surplus(&self) {
        let mut clients = self.list();
        // Those that are about to be closed give back what they have.
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

    /// Sees to it that no client waits for ever. To be called every now and then.
    pub fn tend(&self, now: Duration) {
        if self.most_bytes() == usize::MAX {
            return;
        }
        let clients = self.list();
        let is_long = |since: Duration| now.saturating_sub(since) >= PATIENCE;
        if clients.iter().any(|client| client.waits_since().is_some_and(is_long))
            && let Some(client) = whom_to_close(&clients, |client| is_long(client.moved_at()))
        {
            self.evict(client);
        }
    }
}

/// The client to close where one has waited for long; none while a client that holds much goes on.
fn whom_to_close(clients: &[Arc<Client>], is_idle: impl Fn(&Client) -> bool) -> Option<&Client> {
    let memory = |client: &&Arc<Client>| client.memory.load(Relaxed);
    let (waiting, served): (Vec<_>, Vec<_>) = clients
        .iter()
        .filter(|client| memory(client) > LITTLE)
        .partition(|client| client.waits_since().is_some());
    let held_up = if served.is_empty() {
        waiting
    } else {
        served.into_iter().filter(|client| is_idle(client)).collect()
    };
    let may_be_closed = held_up.into_iter().filter(|client| !client.no_evict.load(Relaxed));
    may_be_closed.max_by_key(memory).map(|client| &**client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_waits_is_closed_only_where_all_that_hold_much_wait() {
        let [small, served, waits] = [1, 2, 3].map(|id| Arc::new(client(id)));
        for (client, bytes) in [(&small, LITTLE), (&served, LITTLE + 1), (&waits, 2 * LITTLE)] {
            client.memory.store(bytes, Relaxed);
        }
        waits.waits(Some(Duration::from_secs(1)));
        let all = [small, served, waits];
        let closed = |idle: bool| whom_to_close(&all, |_| idle).map(|client| client.id);
        assert_eq!(closed(false), None, "one goes on");
        assert_eq!(closed(true), Some(2), "it holds less than the one that waits, and is idle");
        all[1].waits(Some(Duration::from_secs(1)));
        assert_eq!(closed(false), Some(3), "both wait for each other");
        all[2].no_evict.store(true, Relaxed);
        assert_eq!(closed(false), Some(2));
    }

    #[test]
    fn a_share_is_bytes_or_a_percentage() {
        for (text, share, shown) in [
            ("0", Share::Unlimited, "0"),
            ("1mb", Share::Bytes(1 << 20), "1048576"),
            ("25%", Share::Percent(25), "25%"),
        ] {
            assert_eq!(text.parse(), Ok(share));
            assert_eq!(share.to_string(), shown);
        }
        for text in ["", "%", "0%", "101%", "-1", "much", "5 %"] {
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
    fn what_does_not_fit_waits_and_what_never_fits_is_refused() {
        let clients = Clients::default();
        clients.set_most_bytes(1 << 20);
        let (one, other) = (client(1), client(2));
        let now = Duration::from_secs(1);
        assert_eq!(clients.grant(&one, 700 << 10, now), Grant::Yes);
        assert_eq!(clients.grant(&other, 700 << 10, now), Grant::Later);
        assert_eq!(other.waits_since(), Some(now));
        assert_eq!(clients.grant(&other, LITTLE, now), Grant::Yes, "little is always granted");
        assert_eq!(clients.grant(&other, (1 << 20) + 1, now), Grant::Never);
        clients.takes(&one, 0);
        assert_eq!(clients.grant(&other, 700 << 10, now), Grant::Yes);
        assert_eq!((other.waits_since(), clients.used_bytes()), (None, 700 << 10));
        clients.gives_back(&other);
        assert_eq!(clients.used_bytes(), 0);
    }
}
