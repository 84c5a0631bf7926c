//! Who is connected, and the workers that serve them.

use super::budget::Budget;
use crate::net::Stream;
use crate::session::Client;
use mio::Waker;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};

/// What a worker is told.
#[derive(Debug)]
pub enum Message {
    Open(Stream, Arc<Client>),
    /// Some of the clients have been marked as killed.
    Kill,
    /// Finish what has been read, and end.
    Stop,
}

/// The way to a worker.
#[derive(Debug)]
pub struct Inbox {
    pub sender: Sender<Message>,
    pub waker: Waker,
}

impl Inbox {
    pub fn send(&self, message: Message) {
        // A worker that has ended has closed its connections already.
        if self.sender.send(message).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

/// All clients.
#[derive(Debug, Default)]
pub struct Clients {
    by_id: Mutex<BTreeMap<u64, Arc<Client>>>,
    opened: AtomicU64,
    rejected: AtomicU64,
    inboxes: OnceLock<Vec<Inbox>>,
    pub(super) budget: Budget,
}

impl Clients {
    /// To be called once, before anybody connects.
    pub fn set_inboxes(&self, inboxes: Vec<Inbox>) {
        self.inboxes.set(inboxes).expect("set once");
    }

    pub fn tell_all(&self, message: impl Fn() -> Message) {
        self.inboxes.get().into_iter().flatten().for_each(|inbox| inbox.send(message()));
    }

    /// Hands a connection to one of the workers, each in turn.
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
        self.gives_back(client);
    }

    pub fn count(&self) -> usize {
        self.by_id.lock().len()
    }

    /// All that are connected, the oldest first.
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

    /// Closes those that `wanted` says yes to; how many there were. The calling worker's own are
    /// closed after their current batch.
    pub fn kill(&self, mut wanted: impl FnMut(&Client) -> bool) -> usize {
        let killed = self.list().into_iter().filter(|client| wanted(client));
        let count = killed.inspect(|client| client.killed.store(true, Relaxed)).count();
        if count > 0 {
            self.tell_all(|| Message::Kill);
        }
        count
    }
}
