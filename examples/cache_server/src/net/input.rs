//! What has come from a client and has not been carried out.

use super::scratch::{READ_BYTES, Scratch};
use super::stream::Stream;
use crate::request::{Limits, Next, Parser};
use rustix::io::Errno;
use std::io;

/// The longest request, and that of a client that has not given its password. The connection of one
/// that sends more is closed.
const LONGEST_REQUEST: usize = 1 << 30;
const LONGEST_UNAUTHENTICATED: usize = 1 << 20;

/// What reading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Whether that was all there was to read.
    Some {
        bytes: usize,
        all: bool,
    },
    Nothing,
    End,
}

/// Bytes, whole requests and the beginning of one. While there are none it has no memory.
#[derive(Debug, Default)]
pub struct Input {
    bytes: Vec<u8>,
    parser: Parser,
    /// Bytes that are known to be missing from the request at the end.
    missing: usize,
    /// There is something that has not been looked at.
    fresh: bool,
}

impl Input {
    /// Reads once, into memory of which [`growth`](Self::growth) has told.
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
        let more = self.wanted() - self.bytes.len();
        self.bytes.try_reserve_exact(more).map_err(|_| io::ErrorKind::OutOfMemory.into())
    }

    /// The capacity for reading once more. A long argument gets its room at once, so that it is never
    /// moved.
    fn wanted(&self) -> usize {
        let (len, capacity) = (self.bytes.len(), self.bytes.capacity());
        let least = len + self.missing.max(READ_BYTES / 4);
        match capacity {
            _ if least <= capacity => capacity,
            _ if self.missing > READ_BYTES => least,
            _ => least.max(2 * capacity),
        }
    }

    /// Bytes of memory that reading once more takes beyond what there is.
    pub fn growth(&mut self) -> usize {
        self.drop_done();
        match self.bytes.capacity() {
            // A buffer that the worker lends.
            0 => 0,
            capacity => self.wanted() - capacity,
        }
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.parser.memory()
    }

    /// Takes the next request apart: see [`Parser::next`].
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

    /// Leaves requests for later: the next one begins at `position`.
    pub fn go_back(&mut self, position: usize) {
        self.parser.go_back(position);
        self.fresh = position < self.bytes.len();
    }

    /// Whether looking for a request may find one.
    pub fn may_hold_request(&self) -> bool {
        self.fresh
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn free(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Requests that were carried out are dropped, if what is left need not be moved far for it.
    fn drop_done(&mut self) {
        let done = self.parser.done();
        if done > 0 {
            self.bytes.drain(..done);
            self.parser.forget(done);
        }
    }

    /// Gives back what memory is not needed until the connection's next turn.
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
