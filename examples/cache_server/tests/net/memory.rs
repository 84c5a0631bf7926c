//! The limit on the memory of all clients.

use crate::server::{Client, ServerProcess, request, wait_until};
use std::io::{ErrorKind, Read, Write};
use std::thread;

const LIMIT: usize = 64 << 20;

/// A quarter of the limit, the default.
const SHARE: usize = LIMIT / 4;

/// The process's other memory: the program, a buffer per thread, and freed memory that the system's
/// allocator keeps, up to the size of the largest freed buffers: 2 to 12 MiB, sometimes more. Without
/// a share these tests take hundreds of MiB.
const SLACK: usize = 24 << 20;

fn server(args: &[&str]) -> ServerProcess {
    let limit = LIMIT.to_string();
    ServerProcess::start(&[&["--threads", "2", "--memory-limit", &limit][..], args].concat())
}

fn info(client: &mut Client, field: &str) -> usize {
    let info = client.ask("INFO all");
    let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let value = value.unwrap_or_else(|| panic!("{field} is missing in {info}"));
    value.parse().unwrap_or_else(|_| panic!("{field} is {value}"))
}

/// Sends until the server closes the connection. True if that happened before all was sent.
fn send_until_closed(mut client: Client, bytes: &[u8]) -> bool {
    let sent = client.0.write_all(bytes);
    let closed = |error: std::io::Error| match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => true,
        _ => panic!("{error}"),
    };
    sent.is_err_and(closed) || client.0.read(&mut [0]).map_or_else(closed, |bytes| bytes == 0)
}

/// A client that uses a thousand keys.
struct Neighbour(Client);

impl Neighbour {
    const KEYS: usize = 1000;

    fn new(server: &ServerProcess) -> Self {
        let mut client = server.connect();
        for n in 0..Self::KEYS {
            client.send(request(&["SET", &n.to_string(), &"v".repeat(1000)]));
            client.expect("+OK\r\n");
        }
        Self(client)
    }

    /// Reads and writes keys, and checks the replies.
    fn works(&mut self) {
        let value = "v".repeat(1000);
        for n in 0..Self::KEYS {
            self.0.send(request(&["GET", &n.to_string()]));
            self.0.expect(format!("$1000\r\n{value}\r\n"));
            self.0.send(request(&["SET", &n.to_string(), &value]));
            self.0.expect("+OK\r\n");
        }
        assert_eq!(info(&mut self.0, "evicted_keys"), 0);
    }
}

/// Each client sends the head of a request that never ends, and megabytes of it.
#[test]
fn unfinished_requests_take_no_more_than_the_share() {
    const CLIENTS: usize = 20;
    let server = server(&[]);
    let mut neighbour = Neighbour::new(&server);
    let before = server.resident();
    let argument = request(&[vec![b'x'; 1 << 20]]);
    let argument = argument.strip_prefix(b"*1\r\n").unwrap();
    let bytes = [b"*1001\r\n$4\r\nMSET\r\n", &*argument.repeat(20)].concat();
    thread::scope(|scope| {
        let send = || scope.spawn(|| send_until_closed(server.connect(), &bytes));
        let senders: Vec<_> = (0..CLIENTS).map(|_| send()).collect();
        let (mut most, mut waited) = (0, false);
        while !senders.iter().all(thread::ScopedJoinHandle::is_finished) {
            neighbour.works();
            most = most.max(server.resident());
            waited |= info(&mut neighbour.0, "clients_waiting_for_memory") > 0;
            assert!(info(&mut neighbour.0, "mem_clients_normal") <= SHARE + SLACK);
        }
        assert!(waited, "no client waited");
        assert!(most <= before + SHARE + SLACK, "{most} bytes, from {before}");
        assert!(senders.into_iter().all(|sender| sender.join().unwrap()), "all are closed");
    });
    assert_eq!(info(&mut neighbour.0, "evicted_clients"), CLIENTS);
    neighbour.works();
    wait_until("their memory is given back", || {
        info(&mut neighbour.0, "mem_clients_normal") < 100_000
    });
}

/// The server closes a client whose request can never fit, and does not wait.
#[test]
fn a_request_that_is_larger_than_the_share_is_closed_at_once() {
    let server = server(&["--maxmemory-clients", "4mb"]);
    let mut other = server.connect();
    let mut client = server.connect();
    client.send("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5000000\r\n");
    assert!(send_until_closed(client, &vec![b'x'; 4 << 20]));
    assert_eq!(info(&mut other, "evicted_clients"), 1);
    wait_until("its memory is given back", || info(&mut other, "mem_clients_normal") < 100_000);
    // A smaller request is executed.
    other.send(request(&[&b"SET"[..], b"k", &vec![b'x'; 3 << 20]]));
    other.expect("+OK\r\n");
    assert_eq!(other.ask("CONFIG SET maxmemory-clients 50%"), "+OK\r\n");
    assert_eq!(
        other.ask("CONFIG GET maxmemory-clients"),
        "*2\r\n$17\r\nmaxmemory-clients\r\n$3\r\n50%\r\n"
    );
    let mut client = server.connect();
    client.send(request(&[&b"SET"[..], b"k", &vec![b'x'; 5_000_000]]));
    client.expect("+OK\r\n");
    assert!(other.ask("CONFIG SET maxmemory-clients %").contains("memory or percent value"));
}

/// Large requests of several clients, of which not all fit at a time, are all executed: each waits for
/// the earlier ones.
#[test]
fn requests_that_fit_one_at_a_time_are_all_executed() {
    let server = server(&[]);
    let bytes = request(&[&b"SET"[..], b"k", &vec![b'x'; SHARE / 3]]);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = server.connect();
                for _ in 0..4 {
                    client.send(&bytes);
                    client.expect("+OK\r\n");
                }
            });
        }
    });
    assert_eq!(info(&mut server.connect(), "evicted_clients"), 0);
}

/// Clients that request large values and read no replies.
#[test]
fn slow_readers_are_closed_for_their_replies() {
    let server = server(&[]);
    let mut neighbour = Neighbour::new(&server);
    neighbour.0.send(request(&[&b"SET"[..], b"large", &vec![b'x'; 1 << 20]]));
    neighbour.0.expect("+OK\r\n");
    let before = server.resident();
    // An exempt client, which receives all of its replies in the end.
    let mut exempt = server.connect();
    assert_eq!(exempt.ask("CLIENT NO-EVICT ON"), "+OK\r\n");
    exempt.send(request(&["GET", "large"]).repeat(3));
    let mut readers: Vec<Client> = Vec::new();
    let mut most = 0;
    for _ in 0..40 {
        let mut client = server.connect();
        client.send(request(&["GET", "large"]).repeat(3));
        readers.push(client);
        neighbour.works();
        most = most.max(server.resident());
    }
    assert!(most <= before + SHARE + SLACK, "{most} bytes, from {before}");
    let evicted = info(&mut neighbour.0, "evicted_clients");
    assert!((10..40).contains(&evicted), "{evicted} are closed");
    assert!(info(&mut neighbour.0, "mem_clients_normal") <= SHARE);
    for _ in 0..3 {
        assert_eq!(exempt.reply().len(), "$1048576\r\n\r\n".len() + (1 << 20));
    }
}

#[test]
fn many_idle_clients_take_little() {
    const IDLE: usize = 300;
    let server = server(&[]);
    let mut neighbour = Neighbour::new(&server);
    let mut idle: Vec<Client> = (0..IDLE).map(|_| server.connect()).collect();
    for client in &mut idle {
        client.send("*2\r\n$4\r\nECHO\r\n$1");
    }
    neighbour.works();
    assert!(info(&mut neighbour.0, "mem_clients_normal") < (IDLE + 1) * 4096);
    assert_eq!(info(&mut neighbour.0, "evicted_clients"), 0);
    for client in &mut idle {
        client.send("\r\nx\r\n");
        client.expect("$1\r\nx\r\n");
    }
}

#[test]
fn the_doctor_names_clients_that_take_much() {
    let server = server(&["--maxmemory-clients", "1mb"]);
    let mut other = server.connect();
    assert!(!other.ask("MEMORY DOCTOR").contains("maxmemory-clients"));
    let mut client = server.connect();
    client.send("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$900000\r\n");
    // More than the buffer of an ordinary client.
    client.send([b'x'; 200_000]);
    wait_until("the doctor has seen it", || other.ask("MEMORY DOCTOR").contains("Clients take 8"));
    client.send([b'x'; 900_000 - 200_000]);
    client.send("\r\n");
    client.expect("+OK\r\n");
}
