//! Hostile clients beside a well-behaved one: memory stays bounded, and the latter is served.
//!
//! `THERMOCLINE_GARBAGE_SECONDS` sets the duration, `THERMOCLINE_SEED` the random numbers.

#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod hostile;

use common::process::{PATIENCE, ServerProcess};
use common::skip::{number, say};
use redis::{Client, Commands};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// More than the server, its idle clients and all data in flight need, and far less than the hostile
/// clients request.
const BOUND: u64 = 256 << 20;

/// Clients that connect and then do nothing.
const IDLE: usize = 1000;

/// State of all threads: when to stop, and the counts.
#[derive(Debug, Default)]
pub struct Tally {
    stop: AtomicBool,
    connections: AtomicU64,
    bytes: AtomicU64,
    good: AtomicU64,
    /// The slowest round of four requests.
    slowest_ms: AtomicU64,
}

impl Tally {
    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Counts a connection over which this number of bytes was sent.
    pub fn count(&self, bytes: usize) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Stops all threads when one has failed.
struct StopOnDrop<'a>(&'a Tally);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// The server inherits this limit.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(8192, |maximum| maximum.min(8192));
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).unwrap();
    }
}

#[test]
fn hostile_clients_neither_exhaust_memory_nor_block_service() {
    allow_many_files();
    let mut server = ServerProcess::ours(&["--maxmemory", "256mb"]);
    let seconds = number("THERMOCLINE_GARBAGE_SECONDS", 6);
    let seed = number("THERMOCLINE_SEED", 1);
    say(&format!("garbage seconds={seconds} seed={seed}"));
    let mut idle: Vec<_> = (0..IDLE).map(|_| server.connect()).collect();
    let value = vec![b'v'; hostile::LARGE];
    let _: () = client(&server).get_connection().unwrap().set("large", value).unwrap();

    let tally = Tally::default();
    let mut peak = 0;
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&tally);
        let (server, tally) = (&server, &tally);
        let mut threads = Vec::new();
        for thread in 0..2 {
            let rng = fastrand::Rng::with_seed(seed + thread);
            threads.push(scope.spawn(move || hostile::send_garbage(server, tally, rng)));
        }
        let rng = fastrand::Rng::with_seed(seed + 100);
        threads.push(scope.spawn(move || hostile::come_and_go(server, tally, rng)));
        threads.push(scope.spawn(move || hostile::promise_much(server, tally)));
        threads.push(scope.spawn(move || hostile::never_read(server, tally)));
        threads.push(scope.spawn(move || work(server, tally)));
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            let resident = server.resident_bytes();
            peak = peak.max(resident);
            assert!(resident < BOUND, "{resident} bytes are resident");
            assert!(!threads.iter().any(|thread| thread.is_finished()), "a client has failed");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let good = tally.good.load(Ordering::Relaxed);
    say(&format!(
        "garbage connections={} mib={} good={good} slowest_ms={} peak_mib={}",
        tally.connections.load(Ordering::Relaxed),
        tally.bytes.load(Ordering::Relaxed) >> 20,
        tally.slowest_ms.load(Ordering::Relaxed),
        peak >> 20,
    ));
    assert!(good > 0, "no request was served");
    assert!(server.is_running(), "{}", server.log());
    idle.iter_mut().for_each(ping);
    ping(&mut server.connect());
    server.signal(Signal::TERM);
    let status = server.wait();
    assert_eq!(status.code(), Some(0), "{status}\n{}", server.log());
}

fn client(server: &ServerProcess) -> Client {
    Client::open(format!("redis+unix://{}", server.socket().display())).unwrap()
}

fn ping(stream: &mut UnixStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"PING\r\n").unwrap();
    let mut reply = [0; 7];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
}

/// The well-behaved client: every reply must arrive and be right.
fn work(server: &ServerProcess, tally: &Tally) {
    let mut con = client(server).get_connection().unwrap();
    con.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut round = 0_usize;
    while tally.goes_on() {
        round += 1;
        let began = Instant::now();
        let key = format!("good:{}", round % 500);
        let value = vec![round as u8; round * 37 % 20_000];
        let _: () = con.set(&key, &value).unwrap();
        assert!(con.get::<_, Vec<u8>>(&key).unwrap() == value, "{key} in round {round}");
        let count: usize = con.incr("good:count", 1).unwrap();
        assert_eq!(count, round);
        let (large, missing): (Vec<u8>, Option<u8>) = con.mget(&["large", "good:none"]).unwrap();
        assert!(large.len() == hostile::LARGE && missing.is_none());
        tally.good.fetch_add(4, Ordering::Relaxed);
        let took = u64::try_from(began.elapsed().as_millis()).unwrap();
        tally.slowest_ms.fetch_max(took, Ordering::Relaxed);
    }
}
