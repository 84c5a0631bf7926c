//! The connected clients, and the workers that serve them.

use super::budget::Budget;
use crate::net::Stream;
use crate::session::Client;
use mio::Waker;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};

/// A message to a worker.
#[derive(Debug)]
pub enum Message {
    Open(Stream, Arc<Client>),
    /// Close the clients that are marked as killed.
    Kill,
    /// Execute the requests that have been read, and end.
    Stop,
}

/// The sending side of a worker's queue.
#[derive(Debug)]
pub struct Inbox {
    pub sender: Sender<Message>,
    pub waker: Waker,
}

impl Inbox {
    pub fn send(&self, message: Message) {
        // A worker that has ended has closed its connections.
        if self.sender.send(message).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

/// All connected clients.
#[derive(Debug, Default)]
pub struct Clients {
    by_id: Mutex<BTreeMap<u64, Arc<Client>>>,
    opened: AtomicU64,
    rejected: AtomicU64,
    inboxes: OnceLock<Vec<Inbox>>,
    pub(super) budget: Budget,
}

impl Clients {
    /// Called once, before the first client connects.
    pub fn set_inboxes(&self, inboxes: Vec<Inbox>) {
        self.inboxes.set(inboxes).expect("set once");
    }

    pub fn tell_all(&self, message: impl Fn() -> Message) {
        self.inboxes.get().into_iter().flatten().for_each(|inbox| inbox.send(message()));
    }

    /// Hands a connection to the next worker in turn.
    pub fn open(&self, stream: Stream, client: impl FnOnce(u64) -> Client) {
        let count = self.opened.fetch_add(1, Relaxed);
        let client = Arc::new(client(count + 1));
        self.by_id.lock().insert(client.id, Arc::clone(&client));
        let inboxes = self.inboxes.get().map_or(&[][..], |inboxes| inboxes);
        let inbox = &inboxes[usize::try_from(count).unwrap_or(0) % inboxes.len()];
        inbox.send(Message::Open(stream, client));
    }

    pub fn closed(&self, client: &Client) {
        self.by_id.lock().remove(&client.id);
        self.release_memory(client);
    }

    pub fn count(&self) -> usize {
        self.by_id.lock().len()
    }

    /// All connected clients, the oldest first.
    pub fn list(&self) -> Vec<Arc<Client>> {
        self.by_id.lock().values().cloned().collect()
    }

    pub fn reject(&self) {
        self.rejected.fetch_add(1, Relaxed);
    }

    pub fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    pub fn rejected(&self) -> u64 {
        self.rejected.load(Relaxed)
    }

    /// Closes the clients that `selected` picks, and returns their number. Clients that are being closed do not
    /// count. The calling worker closes its own clients after their current batch.
    pub fn kill(&self, mut selected: impl FnMut(&Client) -> bool) -> usize {
        let chosen = self.list().into_iter().filter(|client| selected(client));
        let count = chosen.filter(|client| !client.killed.swap(true, Relaxed)).count();
        if count > 0 {
            self.tell_all(|| Message::Kill);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_being_closed_is_not_killed_again() {
        let clients = Clients::default();
        for id in 1..=2 {
            let client = Client::new(id, String::new(), String::new(), -1, 0);
            clients.by_id.lock().insert(id, Arc::new(client));
        }
        assert_eq!(clients.kill(|client| client.id == 1), 1);
        // Its worker has not closed it yet.
        assert_eq!(clients.count(), 2);
        assert_eq!(clients.kill(|_| true), 1);
        assert_eq!(clients.kill(|_| true), 0);
    }
}
