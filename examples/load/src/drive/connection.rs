//! One connection: bytes out, bytes in, and what is awaited.

use super::address::Socket;
use crate::Trouble;
use crate::resp::{self, Reply};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Instant;

/// Room for what is read at once.
const CHUNK: usize = 64 << 10;

/// A request that is not answered yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awaited {
    pub(crate) key: u64,
    pub(crate) asked: Asked,
    /// When it should have been sent, if that was said. Otherwise it counts from when it was.
    pub(crate) due: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// The value, of this version or a later one.
    Read { oldest: u32 },
    /// To keep this version.
    Write { version: u32 },
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    /// Requests; what is before `sent` has gone.
    pub(crate) output: Vec<u8>,
    sent: usize,
    pub(crate) awaited: VecDeque<Awaited>,
    /// When the last of what is awaited were sent.
    pub(crate) sent_at: Instant,
    /// Replies; those not looked at yet are from `start` to `end`.
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
    pub(crate) fn send(&mut self) -> Result<(), Trouble> {
        while self.sent < self.output.len() {
            match self.socket.write(&self.output[self.sent..]) {
                Ok(0) => return Err("the connection takes nothing more".into()),
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The poll tells when it takes more.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }

    /// Reads all that is there and hands on each reply with what it answers and the time when it was
    /// read.
    pub(crate) fn receive(
        &mut self,
        mut answered: impl FnMut(Awaited, Instant, Reply<'_>),
    ) -> Result<(), Trouble> {
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
            // A stream that gave less than there was room for has nothing more (epoll(7)).
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
        // A reply that is larger than the room.
        if self.input.len() - self.end < CHUNK / 4 {
            self.input.resize(self.input.len() * 2, 0);
        }
    }
}
