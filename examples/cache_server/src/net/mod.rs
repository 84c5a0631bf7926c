//! The network: listening sockets, and the threads that serve connections.

mod batch;
mod connection;
mod input;
mod listen;
mod output;
mod scratch;
mod stream;
mod worker;

pub use listen::Listeners;
pub use stream::Stream;

use crate::server::{Inbox, Message, Server};
use mio::{Poll, Waker};
use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use worker::Worker;

/// The threads that serve connections, one for each of the server's [`WorkerStats`].
///
/// [`WorkerStats`]: crate::server::WorkerStats
#[derive(Debug)]
pub struct Workers(Vec<JoinHandle<io::Result<()>>>);

impl Workers {
    pub fn start(server: &Arc<Server>) -> io::Result<Self> {
        let mut inboxes = Vec::new();
        let mut workers = Vec::new();
        for stats in &server.workers {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), worker::WAKER)?;
            let (sender, inbox) = mpsc::channel();
            inboxes.push(Inbox { sender, waker });
            workers.push(Worker::new(Arc::clone(server), Arc::clone(stats), poll, inbox));
        }
        server.clients.set_inboxes(inboxes);
        let start = |(i, worker): (usize, Worker)| {
            thread::Builder::new().name(format!("worker {i}")).spawn(|| worker.run())
        };
        let threads: io::Result<_> = workers.into_iter().enumerate().map(start).collect();
        Ok(Self(threads?))
    }

    /// Has the threads execute the requests that have been read, and waits for their end.
    pub fn stop(self, server: &Server) -> io::Result<()> {
        server.clients.tell_all(|| Message::Stop);
        // A panic aborts the process, so `join` returns no panic.
        self.0.into_iter().try_for_each(|thread| thread.join().expect("a worker never panics"))
    }
}
