//! Clients that send garbage, request more than they read, and disconnect at any time.

use crate::Tally;
use crate::common::process::ServerProcess;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The length of the value `large`.
pub const LARGE: usize = 1 << 20;

/// Valid requests, which the clients then damage. None removes another client's keys or takes unlimited
/// memory: valid requests may do that.
const REQUESTS: [&str; 22] = [
    "SET k1 value",
    "GET k1",
    "SET k2 12345 EX 1000 NX GET",
    "MSET k1 a k2 b k3 c",
    "MGET k1 k2 k3 k4 k5",
    "INCR k6",
    "INCRBYFLOAT k7 1.5",
    "APPEND k8 more",
    "GETRANGE k1 0 -1",
    "EXPIRE k1 100 NX",
    "PEXPIREAT k2 99999999999999",
    "GETEX k1 PERSIST",
    "DEL k1 k2 k3",
    "COPY k1 k9 REPLACE",
    "RENAME k1 k10",
    "SCAN 0 MATCH k[1-9]* COUNT 100 TYPE string",
    "KEYS k*",
    "OBJECT ENCODING k1",
    "HELLO 3 AUTH default secret SETNAME me",
    "CLIENT SETNAME me",
    "COMMAND DOCS get",
    "INFO",
];

const NUMBERS: [&str; 9] = [
    "-1",
    "0",
    "1048576",
    "1048577",
    "536870912",
    "2147483647",
    "4294967295",
    "9223372036854775807",
    "99999999999999999999",
];

/// Sends random bytes and damaged requests, reads a part of the replies or none, and closes one side or
/// both at any point.
pub fn send_garbage(server: &ServerProcess, tally: &Tally, mut rng: fastrand::Rng) {
    while tally.goes_on() {
        let mut stream = server.connect();
        stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut sent = 0;
        for _ in 0..rng.usize(1..20) {
            let bytes = garbage(&mut rng);
            // The server may have closed the connection.
            if stream.write_all(&bytes).is_err() {
                break;
            }
            sent += bytes.len();
            if rng.u8(..4) == 0 {
                let _ = stream.read(&mut [0; 4096]);
            }
        }
        match rng.u8(..3) {
            0 => {}
            1 => drop(stream.read(&mut [0; 4096])),
            _ => {
                let _ = stream.shutdown(Shutdown::Write);
                let mut rest = Vec::new();
                let _ = stream.take(1 << 20).read_to_end(&mut rest);
            }
        }
        tally.count(sent);
    }
}

fn garbage(rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    if rng.u8(..8) == 0 {
        let len = rng.usize(1..20_000);
        bytes.extend(std::iter::repeat_with(|| rng.u8(..)).take(len));
        return bytes;
    }
    for _ in 0..rng.usize(1..30) {
        let words: Vec<_> = REQUESTS[rng.usize(..REQUESTS.len())].split(' ').collect();
        bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
    }
    for _ in 0..rng.usize(..4) {
        let at = rng.usize(..bytes.len());
        let to = bytes.len().min(at + rng.usize(1..20));
        match rng.u8(..6) {
            0 => bytes[at] = rng.u8(..),
            1 => bytes[at] ^= 1 << rng.u8(..8),
            2 => drop(bytes.drain(at..to)),
            3 => bytes.extend_from_within(at..to),
            4 => bytes.truncate(at + 1),
            // Another number after a `*` or `$`.
            _ => {
                let digit = bytes[at..].iter().position(u8::is_ascii_digit);
                let number = NUMBERS[rng.usize(..NUMBERS.len())].bytes();
                if let Some(digit) = digit {
                    bytes.splice(at + digit..=at + digit, number);
                }
            }
        }
        if bytes.is_empty() {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// Connects and disconnects repeatedly, many at once, with nothing or half a request sent.
pub fn come_and_go(server: &ServerProcess, tally: &Tally, mut rng: fastrand::Rng) {
    let starts: [&[u8]; 5] =
        [b"", b"*", b"*2\r\n$3\r\nGET\r\n$", b"PING\r\nPIN", b"*1\r\n$4\r\nPI"];
    while tally.goes_on() {
        let streams: Vec<_> = (0..rng.usize(1..100))
            .map(|_| {
                let mut stream = server.connect();
                let start = starts[rng.usize(..starts.len())];
                let _ = stream.write_all(start);
                tally.count(start.len());
                stream
            })
            .collect();
        drop(streams);
    }
}

/// Announces requests of gigabytes, sends a part of each, and pauses.
pub fn promise_much(server: &ServerProcess, tally: &Tally) {
    let announcements: [&[u8]; 5] = [
        b"*2\r\n$4\r\nECHO\r\n$536870912\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n",
        b"*1048576\r\n$4\r\nMGET\r\n",
        b"*1000000\r\n$3\r\nDEL\r\n$1\r\nk\r\n",
        b"*1\r\n$100000000\r\n",
    ];
    let part = vec![b'x'; 1 << 20];
    while tally.goes_on() {
        let streams: Vec<_> = (0..100)
            .map(|n| {
                let mut stream = server.connect();
                stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
                let _ = stream.write_all(announcements[n % announcements.len()]);
                // Some clients send a part of the announced bytes.
                if n % 10 < 3 {
                    let _ = stream.write_all(&part);
                }
                tally.count(part.len());
                stream
            })
            .collect();
        pause(tally);
        drop(streams);
    }
}

/// Requests large values and reads no replies.
pub fn never_read(server: &ServerProcess, tally: &Tally) {
    let requests = b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(100);
    while tally.goes_on() {
        let mut streams: Vec<_> = (0..8).map(|_| server.connect()).collect();
        for stream in &mut streams {
            tally.count(ask(stream, &requests));
        }
        pause(tally);
    }
}

/// Sends until the server stops reading, or the replies would be gigabytes.
fn ask(stream: &mut UnixStream, requests: &[u8]) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut sent = 0;
    while sent < 100 * requests.len() {
        match stream.write(requests) {
            Ok(len) => sent += len,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    sent
}

/// Waits for a second, or until the end.
fn pause(tally: &Tally) {
    for _ in 0..20 {
        if tally.goes_on() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
