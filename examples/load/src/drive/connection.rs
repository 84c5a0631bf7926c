//! One connection: its output, its input, and the unanswered requests.

use super::address::Socket;
use crate::BoxError;
use crate::resp::{self, Reply};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Instant;

/// The most bytes of one read.
const CHUNK: usize = 64 << 10;

/// An unanswered request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awaited {
    pub(crate) key: u64,
    pub(crate) asked: Asked,
    /// When the request was due, with a fixed rate. Without a rate, latency counts from `sent_at`.
    pub(crate) due: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// A read, which must return this version or a later one.
    Read { oldest: u32 },
    /// A write of this version.
    Write { version: u32 },
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    /// Encoded requests; those before `sent` were sent.
    pub(crate) output: Vec<u8>,
    sent: usize,
    pub(crate) awaited: VecDeque<Awaited>,
    /// When the last of the unanswered requests were sent.
    pub(crate) sent_at: Instant,
    /// Received bytes; replies from `start` to `end` are unparsed.
    input: Vec<u8>,
    start: usize,
    end: usize,
}

impl Connection {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket,
            output: Vec::new(),
            sent: 0,
            awaited: VecDeque::new(),
            sent_at: Instant::now(),
            input: vec![0; CHUNK],
            start: 0,
            end: 0,
        }
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Sends as much of the output as the socket takes.
    pub(crate) fn send(&mut self) -> Result<(), BoxError> {
        while self.sent < self.output.len() {
            match self.socket.write(&self.output[self.sent..]) {
                Ok(0) => return Err("the connection takes nothing more".into()),
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The poll reports when the socket takes more.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }

    /// Reads all available replies, and passes each on with its request and the time of the read.
    pub(crate) fn receive(
        &mut self,
        mut answered: impl FnMut(Awaited, Instant, Reply<'_>),
    ) -> Result<(), BoxError> {
        loop {
            self.make_room();
            let room = self.input.len() - self.end;
            let read = match self.socket.read(&mut self.input[self.end..]) {
                Ok(0) => return Err("the server has closed the connection".into()),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e.into()),
            };
            let now = Instant::now();
            self.end += read;
            while let Some((reply, len)) = resp::parse(&self.input[self.start..self.end])
                .map_err(|_| "this is not Redis' protocol")?
            {
                let Some(mut awaited) = self.awaited.pop_front() else {
                    return Err("the server answers what was not asked".into());
                };
                awaited.due.get_or_insert(self.sent_at);
                answered(awaited, now, reply);
                self.start += len;
            }
            // A stream socket that returned less than the buffer's size is empty (epoll(7)).
            if read < room {
                return Ok(());
            }
        }
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.input.len() - self.end < CHUNK / 4 {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        // Makes room for a reply larger than the rest of the buffer.
        if self.input.len() - self.end < CHUNK / 4 {
            self.input.resize(self.input.len() * 2, 0);
        }
    }
}
