//! Transactions of several clients on several threads.

use crate::server::{Client, ServerProcess, request, wait_until};
use std::thread;

fn queue(client: &mut Client, lines: &[&str]) {
    assert_eq!(client.ask("MULTI"), "+OK\r\n");
    lines.iter().for_each(|line| assert_eq!(client.ask(line), "+QUEUED\r\n", "{line}"));
}

/// Transactions of many commands, with other clients' commands and transactions at the same time.
#[test]
fn no_command_runs_between_those_of_a_transaction() {
    let server = ServerProcess::start(&["--threads", "3"]);
    assert_eq!(server.connect().ask("MSET a 0 b 0 c 0"), "+OK\r\n");
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = server.connect();
                for _ in 0..500 {
                    queue(&mut client, &["INCR a", "PING", "INCR b", "DBSIZE", "INCR c"]);
                    let reply = client.ask("EXEC");
                    let numbers: Vec<&str> = reply.lines().collect();
                    // The three counters had the same value before and have the same value after.
                    assert_eq!((numbers[1], numbers[3]), (numbers[5], numbers[5]), "{reply}");
                }
            });
            scope.spawn(|| {
                let mut client = server.connect();
                for _ in 0..500 {
                    let reply = client.ask("MGET a b c");
                    let numbers: Vec<&str> = reply.lines().collect();
                    assert_eq!(numbers.first(), Some(&"*3"));
                    assert!(numbers[1..].chunks(2).all(|n| n == &numbers[1..3]), "{reply}");
                }
            });
        }
    });
    assert_eq!(server.connect().ask("GET a"), "$4\r\n1500\r\n");
}

/// Each client reads a counter, and writes it only if no other client has written it since.
#[test]
fn watched_counters_lose_no_increment() {
    let server = ServerProcess::start(&["--threads", "3"]);
    assert_eq!(server.connect().ask("SET counter 0"), "+OK\r\n");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = server.connect();
                let mut done = 0;
                while done < 100 {
                    assert_eq!(client.ask("WATCH counter"), "+OK\r\n");
                    let reply = client.ask("GET counter");
                    let number: u32 = reply.lines().nth(1).unwrap().parse().unwrap();
                    queue(&mut client, &[&format!("SET counter {}", number + 1)]);
                    match client.ask("EXEC").as_str() {
                        "*1\r\n+OK\r\n" => done += 1,
                        other => assert_eq!(other, "*-1\r\n"),
                    }
                }
            });
        }
    });
    assert_eq!(server.connect().ask("GET counter"), "$3\r\n400\r\n");
}

#[test]
fn queued_commands_count_as_the_clients_memory() {
    let server = ServerProcess::start(&["--maxmemory-clients", "4mb"]);
    let (mut client, mut other) = (server.connect(), server.connect());
    queue(&mut client, &["SET k 1"]);
    let list = other.ask("CLIENT LIST");
    assert!(list.contains(" flags=xU ") && list.contains(" multi=1 "), "{list}");
    // Ends because the server closes the connection.
    let set = request(&[&b"SET"[..], b"k", &[b'x'; 100_000]]);
    let refused = (0..1000).any(|_| std::io::Write::write_all(&mut client.0, &set).is_err());
    assert!(refused, "100 MB were queued");
    assert!(other.ask("INFO stats").contains("\r\nevicted_clients:1\r\n"));
    assert_eq!(other.ask("EXISTS k"), ":0\r\n");
    wait_until("its memory is given back", || {
        let info = other.ask("INFO memory");
        let bytes = info.lines().find_map(|line| line.strip_prefix("mem_clients_normal:"));
        bytes.unwrap().parse::<usize>().unwrap() < 1 << 20
    });
}
