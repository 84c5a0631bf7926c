//! Requests, taken apart where they lie in the buffer.
//!
//! A request is an array of bulk strings (`*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`), or a line of words as
//! a person types it. The parser is told of more input as it comes and goes on where it stopped, so
//! that every byte is looked at once however it was split; what it hands out are places in the input.
//! Limits and errors are those of Redis 7. Two things differ, both where Redis goes by how the bytes
//! happened to arrive: a line is too long at 64 KiB even when its end is there already, and a zero
//! byte in a line is a byte like others, where Redis waits for ever.

mod bulk;
mod error;
mod inline;
#[cfg(test)]
mod tests;

pub use bulk::number;
pub use error::ProtocolError;

use memchr::memchr;

/// Longer lines are refused, whether they are words or the length of something.
const LONGEST_LINE: usize = 64 << 10;

/// What a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an argument.
    pub bulk: u64,
    /// The client has yet to give a password: few and short arguments.
    pub unauthenticated: bool,
}

/// A place in the input: an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: usize,
    end: usize,
}

impl Span {
    /// The argument's bytes, in the input or the [words](Parser::words).
    pub fn of(self, source: &[u8]) -> &[u8] {
        &source[self.start..self.end]
    }
}

/// What the input holds next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A whole request, of one argument at least: see [`Parser::arguments`].
    Request,
    /// The beginning of one, or nothing. `missing` more bytes are known to be needed; 0 if it is not
    /// known how many.
    Incomplete { missing: usize },
    /// Nothing that could be understood, nor can what follows be.
    Error(ProtocolError),
}

/// Where the last request's arguments are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Input,
    Words,
}

/// Takes the requests of one connection apart.
#[derive(Debug)]
pub struct Parser {
    /// What lies before it has been understood.
    at: usize,
    /// Bytes behind `at` in which there is no end of a line.
    searched: usize,
    /// Arguments that the current request is still to have. 0 between requests.
    arguments_left: usize,
    /// The length of the current argument, once it is known.
    bulk: Option<usize>,
    arguments: Vec<Span>,
    source: Source,
    /// The last line of words, what was quoted in it spelt out.
    words: Vec<u8>,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            at: 0,
            searched: 0,
            arguments_left: 0,
            bulk: None,
            arguments: Vec::new(),
            source: Source::Input,
            words: Vec::new(),
        }
    }
}

impl Parser {
    /// Goes on in `input`: what it was the last time, what came since at its end. Empty requests are
    /// passed over, as they have no reply.
    pub fn next(&mut self, input: &[u8], limits: Limits) -> Next {
        loop {
            if self.arguments_left == 0 {
                self.arguments.clear();
                match input.get(self.at) {
                    None => return Next::Incomplete { missing: 0 },
                    Some(b'*') => self.source = Source::Input,
                    Some(_) => self.source = Source::Words,
                }
            }
            let next = match self.source {
                Source::Input => self.next_bulks(input, limits),
                Source::Words => self.next_words(input),
            };
            match next {
                Next::Request if self.arguments.is_empty() => {}
                next => return next,
            }
        }
    }

    /// The arguments of the last request: places in the input, or if it [was
    /// words](Self::was_words) in [those](Self::words).
    pub fn arguments(&self) -> &[Span] {
        &self.arguments
    }

    /// Whether the last request was a line of words. Asked before the next one is looked for.
    pub fn was_words(&self) -> bool {
        self.source == Source::Words
    }

    /// The words of the last line of them, unquoted.
    pub fn words(&self) -> &[u8] {
        &self.words
    }

    /// The input's first byte that belongs to no request that has been handed out, between requests.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes at the input's beginning that are not needed any more.
    pub fn done(&self) -> usize {
        match self.arguments.first() {
            Some(first) if self.arguments_left > 0 => first.start,
            _ => self.at,
        }
    }

    /// Goes back to `position`, where a request begins, or has begun.
    pub fn go_back(&mut self, position: usize) {
        self.at = position;
        self.searched = 0;
        self.arguments_left = 0;
        self.bulk = None;
        self.arguments.clear();
    }

    /// `bytes` at the input's beginning, all of earlier requests, are gone.
    pub fn forget(&mut self, bytes: usize) {
        self.at -= bytes;
        if self.arguments_left > 0 {
            for span in &mut self.arguments {
                span.start -= bytes;
                span.end -= bytes;
            }
        }
    }

    /// Bytes of memory that it takes beside itself.
    #[allow(dead_code, reason = "the fuzzer does not ask for it")]
    pub fn memory(&self) -> usize {
        self.arguments.capacity() * size_of::<Span>() + self.words.capacity()
    }

    /// Gives memory back that an unusual request has taken.
    pub fn shrink(&mut self) {
        const USUAL: usize = 64;
        if self.arguments_left == 0 && self.arguments.capacity() > USUAL {
            self.arguments = Vec::new();
        }
        if self.words.capacity() > USUAL {
            self.words = Vec::new();
        }
    }

    /// The place of the next `end` byte from `at` on, in a line that is not too long.
    fn find(&mut self, end: u8, input: &[u8]) -> Line {
        let line = &input[self.at..];
        let line = &line[..line.len().min(LONGEST_LINE + 1)];
        match memchr(end, &line[self.searched..]) {
            Some(found) => Line::EndsAt(self.at + self.searched + found),
            None if line.len() > LONGEST_LINE => Line::TooLong,
            None => {
                self.searched = line.len();
                Line::Incomplete
            }
        }
    }
}

/// How far a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    EndsAt(usize),
    Incomplete,
    TooLong,
}
