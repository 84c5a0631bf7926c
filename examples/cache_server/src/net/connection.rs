//! One connection: what has come, what is to be sent, and whose turn it is.

use super::input::{Input, Read};
use super::output::Output;
use super::scratch::Scratch;
use super::stream::Stream;
use crate::server::{Grant, Server, WorkerStats};
use crate::session::{Client, Session};
use mio::event::Event;
use mio::{Interest, Registry, Token};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Requests of a client who has more unsent replies than this are neither carried out nor read.
pub const MOST_UNSENT: usize = 1 << 20;

/// What a connection takes beside its buffers, about.
const BESIDE_BUFFERS: usize = 1 << 10;

/// Bytes that are still read from a client once the server is stopping.
const LAST_BYTES: usize = 1 << 20;

/// What becomes of a connection after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There is more that could be done at once.
    Again,
    /// There is a request that waits for memory. To be tried again some milliseconds later.
    Later,
    /// For the kernel to say that there is something to do.
    Wait,
    Close,
}

#[derive(Debug)]
pub struct Connection {
    pub stream: Stream,
    pub session: Session,
    pub input: Input,
    pub output: Output,
    /// Whether the kernel may have something to read, or room to write, for all we know.
    readable: bool,
    writable: bool,
    /// Whether we are told when there is room to write.
    awaits_room: bool,
    /// The client has ended its side, so the end is going to be read.
    hung_up: bool,
    /// Nothing more is going to be read.
    ended: bool,
    /// What may still be read, once the server is stopping.
    last_bytes: Option<usize>,
    /// The next request, or the rest of one, has to wait for memory.
    pub waits: bool,
    /// Its worker knows when to try that again.
    pub listed: bool,
    /// It has a turn coming.
    pub queued: bool,
}

impl Connection {
    pub fn new(stream: Stream, client: Arc<Client>, server: &Server) -> Self {
        Self {
            stream,
            session: Session::new(client, server),
            input: Input::default(),
            output: Output::default(),
            readable: false,
            writable: true,
            awaits_room: false,
            hung_up: false,
            ended: false,
            last_bytes: None,
            waits: false,
            listed: false,
            queued: false,
        }
    }

    pub fn note(&mut self, event: &Event) {
        // Errors show when the socket is used.
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.hung_up |= event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable();
    }

    /// The server is stopping: what the client has sent so far is the last that is read.
    pub fn finish(&mut self) {
        self.readable = true;
        self.last_bytes.get_or_insert(LAST_BYTES);
    }

    /// Reads once, carries out what can be, and sends what can be.
    pub fn turn(&mut self, server: &Server, stats: &WorkerStats, scratch: &mut Scratch) -> Turn {
        stats.turned();
        let turn = self.work(server, stats, scratch).unwrap_or(Turn::Close);
        self.input.rest(scratch);
        self.output.rest(scratch);
        self.show_figures(server);
        turn
    }

    fn work(
        &mut self,
        server: &Server,
        stats: &WorkerStats,
        scratch: &mut Scratch,
    ) -> io::Result<Turn> {
        self.waits = false;
        self.send(server, stats)?;
        if self.output.unsent() <= MOST_UNSENT && !self.session.close {
            if !self.input.may_hold_request() && self.readable && !self.ended {
                self.read_if_there_is_room(server, stats, scratch)?;
            }
            if self.input.may_hold_request() {
                self.carry_out(server, stats, scratch);
            }
            self.send(server, stats)?;
        }
        Ok(self.next())
    }

    fn next(&self) -> Turn {
        let (unsent, more) = (self.output.unsent(), self.input.may_hold_request());
        if self.session.close || self.ended && !more {
            return match unsent {
                0 => Turn::Close,
                _ if self.writable => Turn::Again,
                _ => Turn::Wait,
            };
        }
        // Room that we know of is no event any more.
        let to_send = unsent > 0 && self.writable;
        let to_read = unsent <= MOST_UNSENT && (more || self.readable && !self.ended);
        match to_send || to_read && !self.waits {
            true => Turn::Again,
            false if self.waits => Turn::Later,
            false => Turn::Wait,
        }
    }

    /// Reads, unless that takes memory which clients may not take now.
    fn read_if_there_is_room(
        &mut self,
        server: &Server,
        stats: &WorkerStats,
        scratch: &mut Scratch,
    ) -> io::Result<()> {
        let (growth, now) = (self.input.growth(), server.started.elapsed());
        match server.clients.grant(&self.session.client, growth, now) {
            Grant::Yes => self.read(server, stats, scratch)?,
            Grant::Later => self.waits = true,
            Grant::Never => server.clients.evict(&self.session.client),
        }
        Ok(())
    }

    fn read(
        &mut self,
        server: &Server,
        stats: &WorkerStats,
        scratch: &mut Scratch,
    ) -> io::Result<()> {
        let unauthenticated = self.session.must_authenticate(server);
        match self.input.read(&self.stream, unauthenticated, scratch)? {
            Read::Some { bytes, all } => {
                stats.read(bytes);
                // With less than it could take the socket is empty: another event will come.
                self.readable = !all || self.hung_up || self.last_bytes.is_some();
                self.session.client.active_at.store(server.seconds(), Relaxed);
                self.session.client.moved(server.started.elapsed());
                if let Some(left) = &mut self.last_bytes {
                    *left = left.saturating_sub(bytes);
                    self.ended = *left == 0;
                }
            }
            Read::Nothing => {
                self.readable = false;
                self.ended = self.last_bytes.is_some();
            }
            Read::End => self.ended = true,
        }
        Ok(())
    }

    fn send(&mut self, server: &Server, stats: &WorkerStats) -> io::Result<()> {
        if self.output.unsent() > 0 && self.writable {
            let sent = self.output.send(&mut self.stream)?;
            stats.sent(sent.bytes);
            if sent.bytes > 0 {
                self.session.client.moved(server.started.elapsed());
            }
            self.writable = !sent.full;
        }
        Ok(())
    }

    /// Asks to be told of room to write when, and only when, that is waited for: a client's reading
    /// would wake us up for nothing otherwise.
    pub fn update_interest(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let awaits_room = self.output.unsent() > 0 && !self.writable;
        if awaits_room != self.awaits_room {
            self.awaits_room = awaits_room;
            registry.reregister(&mut self.stream, token, Self::interest(awaits_room))?;
        }
        Ok(())
    }

    pub fn interest(awaits_room: bool) -> Interest {
        if awaits_room { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
    }

    fn show_figures(&self, server: &Server) {
        let client = &self.session.client;
        client.input.store(self.input.len(), Relaxed);
        client.input_free.store(self.input.free(), Relaxed);
        client.output.store(self.output.unsent(), Relaxed);
        let buffers = self.input.memory() + self.output.memory();
        server.clients.takes(client, BESIDE_BUFFERS + buffers);
    }
}
