//! A thread that serves some of the connections.

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

/// How long a request that waits for memory is left alone.
const BREATHER: Duration = Duration::from_millis(2);

/// How long clients have, once the server stops, to take their last replies.
const LAST_REPLIES: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Worker {
    server: Arc<Server>,
    stats: Arc<WorkerStats>,
    poll: Poll,
    inbox: Receiver<Message>,
    connections: Slab<Connection>,
    /// Connections whose turn it is, in order.
    queue: Vec<usize>,
    /// Connections whose turn it is at some time, in order. Some may be closed by then.
    later: VecDeque<(Instant, usize)>,
    scratch: Scratch,
    /// When those that have not taken their replies are given up.
    stopping: Option<Instant>,
    looked_for_idle: u64,
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
            looked_for_idle: 0,
        }
    }

    /// Serves until it is told to stop and all connections are closed.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut current = Vec::new();
        while !self.is_done() {
            match self.poll.poll(&mut events, self.patience()) {
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
                self.hear(message)?;
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

    fn patience(&self) -> Option<Duration> {
        if !self.queue.is_empty() {
            return Some(Duration::ZERO);
        }
        // `CONFIG SET timeout` is to be noticed by a worker with nothing to do as well.
        let look = (!self.connections.is_empty()).then_some(Duration::from_secs(1));
        let due = self.later.front().map(|&(at, _)| at);
        let at = due.into_iter().chain(self.stopping).min();
        at.map(|at| at.saturating_duration_since(Instant::now())).or(look)
    }

    fn hear(&mut self, message: Message) -> io::Result<()> {
        match message {
            Message::Open(stream, client) => self.open(stream, client),
            Message::Kill => self.close_where(|c| c.session.client.killed.load(Relaxed)),
            Message::Stop => {
                self.stopping.get_or_insert_with(|| Instant::now() + LAST_REPLIES);
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
        // It fails where the kernel has no memory for it; the client is gone then.
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

    /// Gives those that have waited long enough their turn.
    fn enqueue_due(&mut self) {
        while let Some(&(at, key)) = self.later.front()
            && at <= Instant::now()
        {
            self.later.pop_front();
            if let Some(connection) = self.connections.get_mut(key) {
                connection.listed = false;
                self.enqueue(key);
            }
        }
    }

    fn turn(&mut self, key: usize) {
        // It may have been killed by another's turn.
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.queued = false;
        let turn = connection.turn(&self.server, &self.stats, &mut self.scratch);
        let registry = self.poll.registry();
        match connection.update_interest(registry, Token(key)).map_or(Turn::Close, |()| turn) {
            Turn::Again => self.enqueue(key),
            Turn::Later => self.put_off(key),
            Turn::Wait => {}
            Turn::Close => self.close(key),
        }
    }

    /// Has a connection tried again after a breather.
    fn put_off(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if !connection.listed {
            connection.listed = true;
            self.later.push_back((Instant::now() + BREATHER, key));
        }
    }

    fn close(&mut self, key: usize) {
        let mut connection = self.connections.remove(key);
        // Dropping it closes it, whatever comes of this.
        let _ = self.poll.registry().deregister(&mut connection.stream);
        connection.stream.end_output();
        self.server.clients.closed(&connection.session.client);
    }

    fn close_where(&mut self, wanted: impl Fn(&Connection) -> bool) {
        let keys = self.connections.iter().filter(|(_, connection)| wanted(connection));
        let keys: Vec<usize> = keys.map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.close(key));
    }

    /// Once a second, where there is a timeout.
    fn close_idle(&mut self) {
        let timeout = self.server.settings.timeout.load(Relaxed);
        if timeout == 0 {
            return;
        }
        let now = self.server.seconds();
        if now > self.looked_for_idle {
            self.looked_for_idle = now;
            self.close_where(|connection| {
                now.saturating_sub(connection.session.client.active_at.load(Relaxed)) > timeout
            });
        }
    }
}
