//! A client's unprocessed input.

use super::scratch::{READ_BYTES, Scratch};
use super::stream::Stream;
use crate::request::{Limits, Next, Parser};
use rustix::io::Errno;
use std::io;

/// The longest request, and the longest one of a client without the password. The server closes the
/// connection of a client that sends more.
const LONGEST_REQUEST: usize = 1 << 30;
const LONGEST_UNAUTHENTICATED: usize = 1 << 20;

/// The result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// `all`: the read has emptied the socket.
    Some {
        bytes: usize,
        all: bool,
    },
    Nothing,
    End,
}

/// Complete requests and the beginning of one. An empty input has no buffer.
#[derive(Debug, Default)]
pub struct Input {
    bytes: Vec<u8>,
    parser: Parser,
    /// Bytes that the incomplete request at the end is known to lack.
    missing: usize,
    /// The input has unparsed bytes.
    fresh: bool,
}

impl Input {
    /// Reads once, into memory that [`growth`](Self::growth) has reported.
    pub fn read(
        &mut self,
        stream: &Stream,
        unauthenticated: bool,
        scratch: &mut Scratch,
    ) -> io::Result<Read> {
        self.drop_done();
        let most = if unauthenticated { LONGEST_UNAUTHENTICATED } else { LONGEST_REQUEST };
        if self.bytes.len() > most {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.make_room(scratch)?;
        let room = self.bytes.capacity() - self.bytes.len();
        loop {
            return match stream.read_into(&mut self.bytes) {
                Ok(0) => Ok(Read::End),
                Ok(bytes) => {
                    self.fresh = true;
                    Ok(Read::Some { bytes, all: bytes < room })
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(Read::Nothing),
                Err(error) => Err(error.into()),
            };
        }
    }

    fn make_room(&mut self, scratch: &mut Scratch) -> io::Result<()> {
        if self.bytes.capacity() == 0 {
            self.bytes = scratch.take_input();
        }
        let more = self.next_capacity() - self.bytes.len();
        self.bytes.try_reserve_exact(more).map_err(|_| io::ErrorKind::OutOfMemory.into())
    }

    /// The capacity for the next read. It has room for the whole of a long argument, so that the
    /// argument is not moved later.
    fn next_capacity(&self) -> usize {
        let (len, capacity) = (self.bytes.len(), self.bytes.capacity());
        let least = len + self.missing.max(READ_BYTES / 4);
        // The rest of an argument goes into its own room. Two clients that asked for more could wait for each other.
        let has_room = self.missing > 0 && len + self.missing <= capacity;
        match capacity {
            _ if has_room || least <= capacity => capacity,
            _ if self.missing > READ_BYTES => least,
            _ => least.max(2 * capacity),
        }
    }

    /// The memory in bytes that the next read adds.
    pub fn growth(&mut self) -> usize {
        self.drop_done();
        match self.bytes.capacity() {
            // The worker lends a buffer.
            0 => 0,
            capacity => self.next_capacity() - capacity,
        }
    }

    /// The buffer's memory in bytes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.parser.memory()
    }

    /// Parses the next request: see [`Parser::next`].
    pub fn next(&mut self, limits: Limits) -> Next {
        let next = self.parser.next(&self.bytes, limits);
        if let Next::Incomplete { missing } = next {
            self.missing = missing;
            self.fresh = false;
        }
        next
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn parser(&self) -> &Parser {
        &self.parser
    }

    /// Sets the input back: the next request begins at `position`.
    pub fn go_back(&mut self, position: usize) {
        self.parser.go_back(position);
        self.fresh = position < self.bytes.len();
    }

    /// Whether the input may contain a complete request.
    pub fn may_hold_request(&self) -> bool {
        self.fresh
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn free(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Drops executed requests, if few bytes have to be moved for it.
    fn drop_done(&mut self) {
        let done = self.parser.done();
        if done > 0 {
            self.bytes.drain(..done);
            self.parser.forget(done);
        }
    }

    /// Returns memory that is not needed until the next turn.
    pub fn rest(&mut self, scratch: &mut Scratch) {
        if self.bytes.capacity() == 0 {
            return;
        }
        self.drop_done();
        if self.bytes.is_empty() {
            scratch.give_input(std::mem::take(&mut self.bytes));
            self.parser.shrink();
        } else if self.bytes.capacity() > 4 * self.bytes.len().max(256) && self.missing < READ_BYTES
        {
            let small = self.bytes.clone();
            scratch.give_input(std::mem::replace(&mut self.bytes, small));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_rest_of_an_argument_is_read_into_its_own_room() {
        const LEN: usize = 10 * READ_BYTES;
        let (mut client, server) = std::os::unix::net::UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        let stream = Stream::Unix(mio::net::UnixStream::from_std(server));
        let limits = Limits { bulk: 1 << 20, unauthenticated: false };
        let (mut input, mut scratch) = (Input::default(), Scratch::default());
        let mut receive = |input: &mut Input| {
            let read = input.read(&stream, false, &mut scratch).unwrap();
            assert!(matches!(read, Read::Some { .. }), "{read:?}");
            input.next(limits)
        };
        client.write_all(format!("*1\r\n${LEN}\r\n").as_bytes()).unwrap();
        receive(&mut input);
        assert!(input.growth() > LEN - READ_BYTES);
        for missing in (1..10).rev().map(|n| n * READ_BYTES).chain([READ_BYTES / 4, 1000, 1]) {
            client.write_all(&vec![b'x'; input.missing - missing]).unwrap();
            assert_eq!(receive(&mut input), Next::Incomplete { missing });
            assert_eq!(input.growth(), 0, "{missing} bytes are missing");
        }
        client.write_all(b"\n").unwrap();
        assert_eq!(receive(&mut input), Next::Request);
    }
}
