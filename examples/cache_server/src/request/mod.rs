//! Requests, parsed in place in the input buffer.
//!
//! A request is an array of bulk strings (`*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`), or an inline request: a line
//! of words as a person types it. The parser is called with more input as it arrives and continues
//! where it stopped, so that it reads every byte once however the input was split. It returns positions
//! in the input. Limits and errors are those of Redis 7. Two cases differ, in which Redis' answer
//! depends on how the bytes arrived: here a line above 64 KiB is too long even if its end has arrived, and
//! a zero byte in a line is an ordinary byte, whereas Redis waits for ever.

mod bulk;
mod error;
mod inline;
#[cfg(test)]
mod tests;

pub use bulk::number;
pub use error::ProtocolError;

use memchr::memchr;

/// Longer lines are refused: inline requests and headers.
const LONGEST_LINE: usize = 64 << 10;

/// The limits for a client's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of an argument.
    pub bulk: u64,
    /// The client has not sent the password: few and short arguments.
    pub unauthenticated: bool,
}

/// The position of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: usize,
    end: usize,
}

impl Span {
    /// The argument's bytes, in the input or in the [words](Parser::words).
    pub fn of(self, source: &[u8]) -> &[u8] {
        &source[self.start..self.end]
    }
}

/// The parser's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A complete request with at least one argument: see [`Parser::arguments`].
    Request,
    /// The beginning of a request, or nothing. At least `missing` more bytes are needed; 0 if the number
    /// is not known.
    Incomplete { missing: usize },
    /// Invalid input. The input after it cannot be parsed either.
    Error(ProtocolError),
}

/// Where the last request's arguments lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Input,
    Words,
}

/// Parses the requests of one connection.
#[derive(Debug)]
pub struct Parser {
    /// The end of the parsed input.
    at: usize,
    /// The beginning of the current request, if one has begun.
    begin: usize,
    /// Bytes after `at` that contain no line end.
    searched: usize,
    /// The arguments that the current request still lacks. 0 between requests.
    arguments_left: usize,
    /// The length of the current argument, once it is known.
    bulk: Option<usize>,
    arguments: Vec<Span>,
    source: Source,
    /// The last inline request, unquoted.
    words: Vec<u8>,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            at: 0,
            begin: 0,
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
    /// Continues in `input`: the input of the last call, with new bytes at its end. Skips empty requests,
    /// which have no reply.
    pub fn next(&mut self, input: &[u8], limits: Limits) -> Next {
        loop {
            if self.arguments_left == 0 {
                self.arguments.clear();
                self.begin = self.at;
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

    /// The arguments of the last request: positions in the input, or for an [inline
    /// request](Self::was_words) in the [words](Self::words).
    pub fn arguments(&self) -> &[Span] {
        &self.arguments
    }

    /// Whether the last request was an inline request. Valid until the next call of `next`.
    pub fn was_words(&self) -> bool {
        self.source == Source::Words
    }

    /// The words of the last inline request, unquoted.
    pub fn words(&self) -> &[u8] {
        &self.words
    }

    /// Between requests: the end of the last request in the input.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The number of bytes at the input's beginning that are no longer needed: the current request begins there,
    /// if one has begun. It stays whole, because the caller may go back to it.
    pub fn done(&self) -> usize {
        if self.arguments_left > 0 { self.begin } else { self.at }
    }

    /// Goes back to `position`, where a request begins or has begun.
    pub fn go_back(&mut self, position: usize) {
        self.at = position;
        self.searched = 0;
        self.arguments_left = 0;
        self.bulk = None;
        self.arguments.clear();
    }

    /// Records that the caller has removed `bytes` bytes of earlier requests from the input's beginning.
    pub fn forget(&mut self, bytes: usize) {
        self.at -= bytes;
        if self.arguments_left > 0 {
            self.begin -= bytes;
            for span in &mut self.arguments {
                span.start -= bytes;
                span.end -= bytes;
            }
        }
    }

    /// The bytes of memory that the parser has allocated.
    #[allow(dead_code, reason = "the fuzzer does not ask for it")]
    pub fn memory(&self) -> usize {
        self.arguments.capacity() * size_of::<Span>() + self.words.capacity()
    }

    /// Frees memory that an unusual request has allocated.
    pub fn shrink(&mut self) {
        const USUAL: usize = 64;
        if self.arguments_left == 0 && self.arguments.capacity() > USUAL {
            self.arguments = Vec::new();
        }
        if self.words.capacity() > USUAL {
            self.words = Vec::new();
        }
    }

    /// The position of the next `end` byte after `at`, within the longest line.
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

/// The result of a search for a line's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    EndsAt(usize),
    Incomplete,
    TooLong,
}
