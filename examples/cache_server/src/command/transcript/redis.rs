//! A Redis server to compare with.

use super::{Client, now, shown};
use crate::command::{ALL, Command as Row, Group};
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Both servers, for tests with random requests.
pub struct Both(RefCell<(Client, Redis)>);

impl Both {
    /// As [`Redis::start`].
    pub fn start() -> Option<Self> {
        Some(Self(RefCell::new((Client::at(now()), Redis::start()?))))
    }

    /// This server's reply and Redis'.
    pub fn say(&self, words: &[&[u8]]) -> (String, String) {
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
        let (client, redis) = &mut *self.0.borrow_mut();
        (client.say_words(&words), redis.say(&words))
    }
}

/// A Redis server on a socket in a directory of its own.
pub struct Redis {
    process: Child,
    _directory: TempDir,
    stream: BufReader<UnixStream>,
}

impl Redis {
    /// `None`, with a line of output, if Redis 7.0 is not installed.
    pub fn start() -> Option<Self> {
        let version = Command::new("redis-server").arg("--version").output();
        let version = version.map_or(String::new(), |output| shown(&output.stdout));
        if !version.contains("v=7.0.") {
            let line = "SKIPPED transcripts against Redis: redis-server 7.0 is not installed\n";
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let mut process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--databases", "1"])
            .arg("--unixsocket")
            .arg(&socket)
            .arg("--dir")
            .arg(directory.path())
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
        Some(Self { process, _directory: directory, stream: BufReader::new(stream) })
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
    }
}

/// The beginning of a row of `COMMAND INFO`.
fn info(row: &Row) -> String {
    let flags: Vec<String> = row.flags.iter().map(|flag| format!("+{flag}\r\n")).collect();
    let (name, arity) = (row.name, row.arity);
    let head = format!("${}\r\n{name}\r\n:{arity}\r\n*{}\r\n", name.len(), flags.len());
    let keys = [row.first_key, row.last_key, row.key_step].map(|number| format!(":{number}\r\n"));
    format!("*1\r\n*10\r\n{head}{}{}", flags.concat(), keys.concat())
}

#[test]
fn rows_are_those_of_redis() {
    let Some(mut redis) = Redis::start() else { return };
    let groups = ALL
        .iter()
        .filter(|(group, _)| matches!(group, Group::Generic | Group::String | Group::Transactions));
    for row in groups.flat_map(|(_, rows)| rows.iter()) {
        let words = ["COMMAND", "INFO", row.name].map(|word| word.as_bytes().to_vec());
        let theirs = redis.say(&words);
        assert!(theirs.starts_with(&info(row)), "{}: {theirs}", row.name);
    }
}
