//! Transcripts of requests and replies, for tests: `SET k "a\x00b"` and `+OK\r\n`.
//!
//! Each transcript is checked here and, if Redis 7.0 is installed, against Redis, so that no test
//! expects a reply that Redis does not give.

mod redis;

pub use redis::{Both, Redis};

use super::table::table;
use super::{Execution, Request, Server, Session, execute};
use crate::keyspace::{Keyspace, Options, UnixMs};
use crate::reply::Protocol;
use crate::server::{Settings, WorkerStats};
use crate::session;
use std::sync::Arc;
use std::time::SystemTime;
use thermocline::{Arena, Builder};

type Line = (&'static str, &'static str);

/// Runs a transcript in RESP2.
pub fn compare(lines: &[Line]) {
    compare_in(Protocol::Resp2, lines);
}

pub fn compare_in(protocol: Protocol, lines: &[Line]) {
    let mut client = Client::at(now());
    client.session.set_protocol(protocol);
    for (line, reply) in lines {
        assert_eq!(client.say(line), *reply, "{line}");
    }
    let Some(mut redis) = Redis::start() else { return };
    if protocol == Protocol::Resp3 {
        redis.say(&split("HELLO 3"));
    }
    for (line, reply) in lines {
        let theirs = redis.say(&split(line));
        assert!(theirs == *reply || is_later(line, reply, &theirs), "{line}: Redis says {theirs}");
    }
}

/// Whether a reply differs only because it came late: the clock stands still here, but not in Redis.
/// No transcript has a time to live near a minute.
fn is_later(line: &str, wanted: &str, reply: &str) -> bool {
    let seconds = |reply: &str| reply.strip_prefix(':')?.trim_end().parse::<i64>().ok();
    let (Some(wanted), Some(seconds)) = (seconds(wanted), seconds(reply)) else { return false };
    line.starts_with("TTL") && seconds > 0 && (wanted - 60..wanted).contains(&seconds)
}

fn now() -> UnixMs {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as UnixMs
}

/// Shows bytes that are not ASCII as Latin-1.
fn shown(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// The only client of a server.
#[derive(Debug)]
pub struct Client {
    server: Server,
    session: Session,
    now: UnixMs,
}

impl Client {
    pub fn at(now: UnixMs) -> Self {
        Self::with(Arena::builder(), now)
    }

    /// The client of a server with this arena.
    pub fn with(arena: Builder, now: UnixMs) -> Self {
        let arena = arena.plain_memory_fallback(true).build().unwrap();
        let keyspace = Keyspace::new(arena, Options::default());
        let server = Server::new(keyspace, Settings::default(), 1);
        let client = session::Client::new(1, String::new(), String::new(), 0, 0);
        let session = Session::new(Arc::new(client), &server);
        Self { server, session, now }
    }

    pub fn wait(&mut self, milliseconds: i64) {
        self.now += milliseconds;
    }

    pub fn say(&mut self, line: &str) -> String {
        self.say_words(&split(line))
    }

    fn say_words(&mut self, args: &[Vec<u8>]) -> String {
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let request = Request { args: &args, found: table().find(&args) };
        let (session, stats) = (&mut self.session, WorkerStats::default());
        let mut out = Vec::new();
        let execution = execute(&self.server, session, &stats, request, self.now, &mut out);
        assert_eq!(execution, Execution::Done);
        shown(&out)
    }
}

/// Splits a line into words. A word in double quotes may contain spaces and `\n`, `\r` and `\xff`.
fn split(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (word, behind) = quoted.split_once('"').expect("a closing quote");
            words.push(unescape(word));
            rest = behind;
        } else {
            let (word, behind) = rest.split_once(' ').unwrap_or((rest, ""));
            words.push(word.as_bytes().to_vec());
            rest = behind;
        }
        rest = rest.trim_start();
    }
    words
}

fn unescape(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let (byte, len) = match escape.as_bytes()[0] {
            b'n' => (b'\n', 1),
            b'r' => (b'\r', 1),
            b'x' => (u8::from_str_radix(&escape[1..3], 16).expect("two digits"), 3),
            plain => (plain, 1),
        };
        bytes.push(byte);
        rest = &escape[len..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
