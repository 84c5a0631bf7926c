//! A connection's unsent replies.

use super::scratch::Scratch;
use super::stream::Stream;
use std::io;

/// The most bytes that one turn sends.
const MAX_SENT: usize = 1 << 20;

/// The result of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub bytes: usize,
    /// The socket's buffer is full.
    pub full: bool,
}

/// The bytes to send. An empty output has no buffer.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    sent: usize,
}

impl Output {
    /// The buffer's memory in bytes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    pub fn unsent(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Gets a buffer for replies, if there is none.
    pub fn prepare(&mut self, scratch: &mut Scratch) {
        if self.bytes.capacity() == 0 {
            self.bytes = scratch.take_output();
        }
    }

    /// The buffer that replies are appended to.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub fn send(&mut self, stream: &mut Stream) -> io::Result<Sent> {
        let mut sent = Sent { bytes: 0, full: false };
        while self.unsent() > 0 && sent.bytes < MAX_SENT {
            match stream.write(&self.bytes[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    self.sent += bytes;
                    sent.bytes += bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    sent.full = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// Returns memory that is not needed until the next turn.
    pub fn rest(&mut self, scratch: &mut Scratch) {
        if self.bytes.capacity() == 0 {
            return;
        }
        if self.unsent() == 0 {
            self.sent = 0;
            scratch.give_output(std::mem::take(&mut self.bytes));
        } else if self.sent > self.bytes.len() / 2 {
            // This moves fewer bytes than were sent.
            self.bytes.drain(..self.sent);
            self.sent = 0;
            self.bytes.shrink_to(2 * self.bytes.len());
        }
    }
}
