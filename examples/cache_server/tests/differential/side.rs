//! The connections to both servers.

use crate::common::process::{PATIENCE, ServerProcess};
use crate::common::resp::{Malformed, reply_len};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The result of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Reply(Vec<u8>),
    /// Bytes that are not a reply.
    Garbled(Vec<u8>),
    /// The server closed the connection.
    Closed,
    /// No reply within [`PATIENCE`].
    Silent,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply(bytes) | Self::Garbled(bytes) if bytes.len() > 400 => {
                let (start, end) = (&bytes[..200], &bytes[bytes.len() - 100..]);
                let (start, end) = (start.escape_ascii(), end.escape_ascii());
                write!(f, "{start} ... {end} ({} bytes)", bytes.len())
            }
            Self::Reply(bytes) => write!(f, "{}", bytes.escape_ascii()),
            Self::Garbled(bytes) => write!(f, "no reply: {}", bytes.escape_ascii()),
            Self::Closed => f.write_str("connection closed"),
            Self::Silent => f.write_str("nothing"),
        }
    }
}

/// A connection to one server.
#[derive(Debug)]
pub struct Side<'a> {
    server: &'a ServerProcess,
    stream: UnixStream,
    /// Received bytes that belong to no counted reply.
    pub inbox: Vec<u8>,
    pub closed: bool,
}

impl<'a> Side<'a> {
    pub fn new(server: &'a ServerProcess) -> Self {
        let stream = server.connect();
        stream.set_nonblocking(true).unwrap();
        Self { server, stream, inbox: Vec::new(), closed: false }
    }

    pub fn reconnect(&mut self) {
        *self = Self::new(self.server);
    }

    /// Shuts down writing.
    pub fn half_close(&self) {
        // Fails if the server has closed the connection.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    fn receive(&mut self) {
        let mut buffer = [0; 1 << 16];
        while !self.closed {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.closed = true,
                Ok(len) => self.inbox.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The server closed the connection before it had read all input.
                Err(_) => self.closed = true,
            }
        }
    }

    /// Sends as much as the socket takes, and returns the number of bytes.
    fn send(&mut self, bytes: &[u8]) -> usize {
        match self.stream.write(bytes) {
            Ok(len) => len,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                0
            }
            // The connection is closed. Its remaining input can be read; the rest of the output is dropped.
            Err(_) => bytes.len(),
        }
    }

    /// Removes up to `count` replies from the inbox.
    pub fn take(&mut self, count: usize) -> Vec<Outcome> {
        let mut start = 0;
        let outcomes = (0..count)
            .map(|_| match reply_len(&self.inbox[start..]) {
                Ok(Some(len)) => {
                    start += len;
                    Outcome::Reply(self.inbox[start - len..start].to_vec())
                }
                Err(Malformed) => Outcome::Garbled(self.inbox[start..].to_vec()),
                Ok(None) if self.closed => Outcome::Closed,
                Ok(None) => Outcome::Silent,
            })
            .collect();
        self.inbox.drain(..start);
        outcomes
    }
}

/// The number of complete replies in the inbox, as far as it was parsed.
#[derive(Debug, Default)]
struct Count {
    bytes: usize,
    replies: usize,
    garbled: bool,
}

impl Count {
    fn go_on(&mut self, inbox: &[u8], wanted: usize) {
        while self.replies < wanted {
            match reply_len(&inbox[self.bytes..]) {
                Ok(Some(len)) => (self.bytes, self.replies) = (self.bytes + len, self.replies + 1),
                Ok(None) => return,
                Err(Malformed) => return self.garbled = true,
            }
        }
    }
}

/// Sends the same bytes to both servers, in pieces, and receives until each has sent `replies` replies or
/// closed the connection. Receives while it sends, so that no server has to wait for the other.
pub fn exchange(sides: &mut [Side<'_>; 2], bytes: &[u8], piece: usize, replies: usize) {
    let deadline = Instant::now() + PATIENCE;
    let mut sent = [0_usize; 2];
    let mut counts = [Count::default(), Count::default()];
    while Instant::now() < deadline {
        for (index, side) in sides.iter_mut().enumerate() {
            let end = bytes.len().min(sent[index].saturating_add(piece));
            if sent[index] < end {
                sent[index] += side.send(&bytes[sent[index]..end]);
            }
            side.receive();
            counts[index].go_on(&side.inbox, replies);
        }
        let done = |index: usize, side: &Side<'_>| {
            let count = &counts[index];
            let answered = sent[index] == bytes.len() && count.replies >= replies;
            side.closed || count.garbled || answered
        };
        let all_done = [done(0, &sides[0]), done(1, &sides[1])];
        if all_done == [true; 2] {
            return;
        }
        let mut waits = Vec::with_capacity(2);
        for (index, side) in sides.iter().enumerate().filter(|(index, _)| !all_done[*index]) {
            let sending = sent[index] < bytes.len();
            let out = if sending { PollFlags::OUT } else { PollFlags::empty() };
            waits.push(PollFd::new(&side.stream, PollFlags::IN | out));
        }
        wait(&mut waits, Duration::from_secs(1));
    }
}

/// Receives until both have sent the same bytes, or `agree` is true, and no more bytes arrive for a moment.
/// False if that takes a fourth of [`PATIENCE`].
pub fn settle(sides: &mut [Side<'_>; 2], agree: impl Fn(&[Side<'_>; 2]) -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE / 4;
    loop {
        let before = sides.each_ref().map(|side| (side.inbox.len(), side.closed));
        let open: Vec<_> = sides.iter().filter(|side| !side.closed).collect();
        let mut waits: Vec<_> =
            open.iter().map(|side| PollFd::new(&side.stream, PollFlags::IN)).collect();
        wait(&mut waits, Duration::from_millis(5));
        sides.iter_mut().for_each(Side::receive);
        let quiet = before == sides.each_ref().map(|side| (side.inbox.len(), side.closed));
        if quiet && agree(sides) {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
    }
}

fn wait(fds: &mut [PollFd<'_>], at_most: Duration) {
    match poll(fds, Some(&Timespec::try_from(at_most).unwrap())) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => panic!("poll: {error}"),
    }
}
