//! A thread that serves a part of the connections.

use super::connection::{Connection, Turn};
use super::scratch::Scratch;
use super::stream::Stream;
use crate::server::{Message, Server, WorkerStats};
use crate::session::Client;
use mio::{Events, Poll, Token};
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

pub const WAKER: Token = Token(usize::MAX);

/// The time between two attempts of a request that waits for memory.
const RETRY_AFTER: Duration = Duration::from_millis(2);

/// The time for clients to receive their last replies while the server stops.
const REPLY_GRACE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Worker {
    server: Arc<Server>,
    stats: Arc<WorkerStats>,
    poll: Poll,
    inbox: Receiver<Message>,
    connections: Slab<Connection>,
    /// Connections that have a turn now, in order.
    queue: Vec<usize>,
    /// Connections that have a turn at a later time, in order. Some may be closed by then.
    later: VecDeque<(Instant, usize)>,
    scratch: Scratch,
    /// When the worker closes connections that have not received their replies.
    stopping: Option<Instant>,
    idle_checked_at: u64,
}

impl Worker {
    pub fn new(
        server: Arc<Server>,
        stats: Arc<WorkerStats>,
        poll: Poll,
        inbox: Receiver<Message>,
    ) -> Self {
        Self {
            server,
            stats,
            poll,
            inbox,
            connections: Slab::new(),
            queue: Vec::new(),
            later: VecDeque::new(),
            scratch: Scratch::default(),
            stopping: None,
            idle_checked_at: 0,
        }
    }

    /// Serves until the worker is told to stop and all connections are closed.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut current = Vec::new();
        while !self.is_done() {
            match self.poll.poll(&mut events, self.poll_timeout()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                if let Some(connection) = self.connections.get_mut(event.token().0) {
                    connection.note(event);
                    self.enqueue(event.token().0);
                }
            }
            while let Ok(message) = self.inbox.try_recv() {
                self.handle_message(message)?;
            }
            self.enqueue_due();
            std::mem::swap(&mut current, &mut self.queue);
            for &key in &current {
                self.turn(key);
            }
            current.clear();
            self.close_idle();
        }
        self.close_where(|_| true);
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.stopping.is_some_and(|at| self.connections.is_empty() || at <= Instant::now())
    }

    fn poll_timeout(&self) -> Option<Duration> {
        if !self.queue.is_empty() {
            return Some(Duration::ZERO);
        }
        // An idle worker must notice `CONFIG SET timeout` too.
        let look = (!self.connections.is_empty()).then_some(Duration::from_secs(1));
        let due = self.later.front().map(|&(at, _)| at);
        let at = due.into_iter().chain(self.stopping).min();
        at.map(|at| at.saturating_duration_since(Instant::now())).or(look)
    }

    fn handle_message(&mut self, message: Message) -> io::Result<()> {
        match message {
            Message::Open(stream, client) => self.open(stream, client),
            Message::Kill => self.close_where(|c| c.session.client.killed.load(Relaxed)),
            Message::Stop => {
                self.stopping.get_or_insert_with(|| Instant::now() + REPLY_GRACE);
                let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
                for key in keys {
                    self.connections[key].finish();
                    self.enqueue(key);
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, stream: Stream, client: Arc<Client>) {
        let mut connection = Connection::new(stream, client, &self.server);
        let entry = self.connections.vacant_entry();
        let (token, interest) = (Token(entry.key()), Connection::interest(false));
        // Fails if the kernel has no memory; dropping the stream closes the connection.
        if self.poll.registry().register(&mut connection.stream, token, interest).is_err() {
            self.server.clients.closed(&connection.session.client);
            return;
        }
        if self.stopping.is_some() {
            connection.finish();
        }
        entry.insert(connection);
        self.enqueue(token.0);
    }

    fn enqueue(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if !connection.queued {
            connection.queued = true;
            self.queue.push(key);
        }
    }

    /// Enqueues the connections whose retry is due.
    fn enqueue_due(&mut self) {
        while let Some(&(at, key)) = self.later.front()
            && at <= Instant::now()
        {
            self.later.pop_front();
            if let Some(connection) = self.connections.get_mut(key) {
                connection.retry_scheduled = false;
                self.enqueue(key);
            }
        }
    }

    fn turn(&mut self, key: usize) {
        // Another connection's turn may have closed this one.
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.queued = false;
        let turn = connection.turn(&self.server, &self.stats, &mut self.scratch);
        let registry = self.poll.registry();
        match connection.update_interest(registry, Token(key)).map_or(Turn::Close, |()| turn) {
            Turn::Again => self.enqueue(key),
            Turn::Later => self.retry_later(key),
            Turn::Wait => {}
            Turn::Close => self.close(key),
        }
    }

    /// Schedules a retry of the connection.
    fn retry_later(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if !connection.retry_scheduled {
            connection.retry_scheduled = true;
            self.later.push_back((Instant::now() + RETRY_AFTER, key));
        }
    }

    fn close(&mut self, key: usize) {
        let mut connection = self.connections.remove(key);
        // Dropping the stream closes it even if this fails.
        let _ = self.poll.registry().deregister(&mut connection.stream);
        connection.stream.end_output();
        connection.session.end_transaction(&self.server);
        self.server.clients.closed(&connection.session.client);
    }

    fn close_where(&mut self, selected: impl Fn(&Connection) -> bool) {
        let keys = self.connections.iter().filter(|(_, connection)| selected(connection));
        let keys: Vec<usize> = keys.map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.close(key));
    }

    /// Closes idle connections once a second, if there is a timeout.
    fn close_idle(&mut self) {
        let timeout = self.server.settings.timeout.load(Relaxed);
        if timeout == 0 {
            return;
        }
        let now = self.server.seconds();
        if now > self.idle_checked_at {
            self.idle_checked_at = now;
            self.close_where(|connection| {
                now.saturating_sub(connection.session.client.active_at.load(Relaxed)) > timeout
            });
        }
    }
}
