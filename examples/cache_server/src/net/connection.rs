//! One connection: its input, its output, and its turns.

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

/// The server neither executes nor reads requests of a client with more unsent bytes of replies than this.
pub const MAX_UNSENT: usize = 1 << 20;

/// Bytes of a connection apart from its buffers, approximately.
const CONNECTION_BYTES: usize = 1 << 10;

/// Bytes that the server still reads from a client while it stops.
const LAST_BYTES: usize = 1 << 20;

/// How a connection continues after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It can continue at once.
    Again,
    /// A request waits for memory. The worker tries it again some milliseconds later.
    Later,
    /// It waits for an event from the kernel.
    Wait,
    Close,
}

#[derive(Debug)]
pub struct Connection {
    pub stream: Stream,
    pub session: Session,
    pub input: Input,
    pub output: Output,
    /// Whether the socket may have input, or room for output, as far as the events tell.
    readable: bool,
    writable: bool,
    /// Whether the poll reports room for output.
    awaits_writable: bool,
    /// The client has closed its side, so reading will reach the end.
    peer_closed: bool,
    /// The end of the input was reached.
    ended: bool,
    /// The bytes that may still be read while the server stops.
    last_bytes: Option<usize>,
    /// The next request, or the rest of one, waits for memory.
    pub waits_for_memory: bool,
    /// The connection is in its worker's list of retries.
    pub retry_scheduled: bool,
    /// The connection is in its worker's queue.
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
            awaits_writable: false,
            peer_closed: false,
            ended: false,
            last_bytes: None,
            waits_for_memory: false,
            retry_scheduled: false,
            queued: false,
        }
    }

    pub fn note(&mut self, event: &Event) {
        // Errors are reported by the next read or write.
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.peer_closed |= event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable();
    }

    /// Makes this the connection's last input: the bytes that the client has sent so far.
    pub fn finish(&mut self) {
        self.readable = true;
        self.last_bytes.get_or_insert(LAST_BYTES);
    }

    /// Reads once, executes requests, and sends replies.
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
        self.waits_for_memory = false;
        self.send(server, stats)?;
        if self.output.unsent() <= MAX_UNSENT && !self.session.close {
            if !self.input.may_hold_request() && self.readable && !self.ended {
                self.read_if_there_is_room(server, stats, scratch)?;
            }
            if self.input.may_hold_request() {
                self.execute(server, stats, scratch);
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
        // The kernel sends no further event for room that it has already reported.
        let to_send = unsent > 0 && self.writable;
        let to_read = unsent <= MAX_UNSENT && (more || self.readable && !self.ended);
        match to_send || to_read && !self.waits_for_memory {
            true => Turn::Again,
            false if self.waits_for_memory => Turn::Later,
            false => Turn::Wait,
        }
    }

    /// Reads, unless that takes more memory than clients may take now.
    fn read_if_there_is_room(
        &mut self,
        server: &Server,
        stats: &WorkerStats,
        scratch: &mut Scratch,
    ) -> io::Result<()> {
        let (growth, now) = (self.input.growth(), server.started.elapsed());
        match server.clients.grant(&self.session.client, growth, now) {
            Grant::Yes => self.read(server, stats, scratch)?,
            Grant::Later => self.waits_for_memory = true,
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
                // A read of less than the capacity has emptied the socket; more input causes an event.
                self.readable = !all || self.peer_closed || self.last_bytes.is_some();
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

    /// Asks for events about room for output only while the connection waits for room. Otherwise a client that
    /// reads would wake the worker for nothing.
    pub fn update_interest(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let awaits_writable = self.output.unsent() > 0 && !self.writable;
        if awaits_writable != self.awaits_writable {
            self.awaits_writable = awaits_writable;
            registry.reregister(&mut self.stream, token, Self::interest(awaits_writable))?;
        }
        Ok(())
    }

    pub fn interest(awaits_writable: bool) -> Interest {
        if awaits_writable { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
    }

    fn show_figures(&self, server: &Server) {
        let client = &self.session.client;
        client.input.store(self.input.len(), Relaxed);
        client.input_free.store(self.input.free(), Relaxed);
        client.output.store(self.output.unsent(), Relaxed);
        let buffers = self.input.memory() + self.output.memory() + self.session.transaction.bytes();
        server.clients.set_memory(client, CONNECTION_BYTES + buffers);
    }
}
