//! What clients say and what they are told, for tests: `SET k "a\x00b"` and `+OK\r\n`.
//!
//! Each transcript is checked twice: here, and where Redis 7.0 is installed by what that answers, so
//! that nothing stands in a test that Redis does not do.

use super::keys::object::MEMORY_USAGE;
use super::{ALL, Call, Command, Server};
use crate::keyspace::{Keyspace, UnixMs};
use crate::reply::{Protocol, Reply};
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

type Line = (&'static str, &'static str);

/// Runs a transcript in RESP2.
pub fn compare(lines: &[Line]) {
    compare_in(Protocol::Resp2, lines);
}

pub fn compare_in(protocol: Protocol, lines: &[Line]) {
    let mut client = Client { protocol, ..Client::at(now()) };
    for (line, reply) in lines {
        client.now = now();
        assert_eq!(client.say(line), *reply, "{line}");
    }
    let Some(mut redis) = Redis::start() else { return };
    if protocol == Protocol::Resp3 {
        redis.say(&split("HELLO 3"));
    }
    for (line, reply) in lines {
        assert_eq!(redis.say(&split(line)), *reply, "{line}: Redis itself");
    }
}

fn now() -> UnixMs {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as UnixMs
}

/// Bytes that are no ASCII are shown one by one, as Latin-1.
fn shown(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// One client of a server that nobody else has.
#[derive(Debug)]
pub struct Client {
    server: Server,
    protocol: Protocol,
    now: UnixMs,
}

impl Client {
    pub fn at(now: UnixMs) -> Self {
        let server = Server { keyspace: Keyspace::new() };
        Self { server, protocol: Protocol::Resp2, now }
    }

    pub fn wait(&mut self, milliseconds: i64) {
        self.now += milliseconds;
    }

    pub fn say(&mut self, line: &str) -> String {
        self.say_words(&split(line))
    }

    fn say_words(&mut self, args: &[Vec<u8>]) -> String {
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let mut out = Vec::new();
        let reply = Reply::new(&mut out, self.protocol);
        let mut call = Call { server: &self.server, args: &args, reply, now: self.now };
        let command = find(&args);
        if command.takes(args.len()) {
            (command.handler)(&mut call)
        } else {
            call.wrong_arity()
        }
        shown(&out)
    }
}

fn find(args: &[&[u8]]) -> &'static Command {
    let named = |commands: &'static [Command], name: &[u8]| {
        commands.iter().find(|command| command.name.as_bytes().eq_ignore_ascii_case(name))
    };
    if args[0] == b"MEMORY" {
        return &MEMORY_USAGE;
    }
    let found = ALL.iter().find_map(|commands| named(commands, args[0]));
    let command = found.unwrap_or_else(|| panic!("no command {}", args[0].escape_ascii()));
    let subcommand = args.get(1).and_then(|name| named(command.subcommands, name));
    subcommand.unwrap_or(command)
}

/// The words of a line. One in double quotes may have spaces and the escapes `\n`, `\r` and `\xff`.
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

/// Both servers, for tests that make up what they say.
pub struct Both(RefCell<(Client, Redis)>);

impl Both {
    /// As [`Redis::start`].
    pub fn start() -> Option<Self> {
        Some(Self(RefCell::new((Client::at(now()), Redis::start()?))))
    }

    /// Our reply and Redis'.
    pub fn say(&self, words: &[&[u8]]) -> (String, String) {
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
        let (client, redis) = &mut *self.0.borrow_mut();
        (client.say_words(&words), redis.say(&words))
    }
}

/// Redis itself, on a socket in a directory of its own.
pub struct Redis {
    process: Child,
    directory: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Redis {
    /// Nothing, and a word about it, where there is no Redis 7.0.
    pub fn start() -> Option<Self> {
        let version = std::process::Command::new("redis-server").arg("--version").output();
        let version = version.map_or(String::new(), |output| shown(&output.stdout));
        if !version.contains("v=7.0.") {
            let line = "SKIPPED transcripts against Redis: redis-server 7.0 is not installed\n";
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return None;
        }
        let thread = format!("{:?}", std::thread::current().id());
        let number: String = thread.chars().filter(char::is_ascii_digit).collect();
        let name = format!("transcript-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let socket = directory.join("socket");
        let mut process = std::process::Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--databases", "1"])
            .arg("--unixsocket")
            .arg(&socket)
            .arg("--dir")
            .arg(&directory)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => {
                    let _ = process.kill();
                    panic!("redis-server does not listen: {error}");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Some(Self { process, directory, stream: BufReader::new(stream) })
    }

    pub fn say(&mut self, args: &[Vec<u8>]) -> String {
        let mut request = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            request.extend_from_slice(arg);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request).unwrap();
        let mut reply = Vec::new();
        self.read(&mut reply);
        shown(&reply)
    }

    fn read(&mut self, reply: &mut Vec<u8>) {
        let start = reply.len();
        self.stream.read_until(b'\n', reply).unwrap();
        let header = shown(&reply[start..]);
        let number: i64 = header[1..].trim_end().parse().unwrap_or(0);
        match header.as_bytes()[0] {
            b'$' if number >= 0 => {
                let more = self.stream.by_ref().take(number as u64 + 2);
                BufReader::new(more).read_to_end(reply).unwrap();
            }
            b'*' => (0..number).for_each(|_| self.read(reply)),
            b'%' => (0..2 * number).for_each(|_| self.read(reply)),
            _ => {}
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
