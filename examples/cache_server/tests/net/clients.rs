//! Many clients, and slow ones.

use crate::server::{Client, ServerProcess, request, wait_until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{ErrorKind, Write};
use std::time::Duration;

#[test]
fn a_thousand_idle_clients_take_little_memory() {
    const IDLE: usize = 1000;
    let limit = getrlimit(Resource::Nofile);
    let enough = limit.maximum.is_none_or(|most| most >= 2 * IDLE as u64);
    if !enough {
        eprintln!("SKIPPED: a_thousand_idle_clients: the hard limit of open files is {limit:?}");
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(2 * IDLE as u64), ..limit }).unwrap();

    let server = ServerProcess::start(&["--threads", "2"]);
    let mut busy = server.connect();
    assert_eq!(busy.ask("PING"), "+PONG\r\n");
    let before = server.memory();
    let mut idle: Vec<Client> = (0..IDLE).map(|_| server.connect()).collect();
    // Half of the clients have sent the beginning of a request.
    for client in idle.iter_mut().step_by(2) {
        client.send("*2\r\n$4\r\nECHO\r\n$1");
    }
    for client in idle.iter_mut().skip(1).step_by(2) {
        assert_eq!(client.ask("PING"), "+PONG\r\n");
    }
    let info = busy.ask("INFO clients");
    assert!(info.contains(&format!("connected_clients:{}\r\n", IDLE + 1)), "{info}");
    assert!(server.memory() < before + IDLE * 4096, "{} from {before}", server.memory());
    for client in idle.iter_mut().step_by(2) {
        client.send("\r\nx\r\n");
        client.expect("$1\r\nx\r\n");
    }
}

/// Sends until the server stops reading. Returns the number of bytes sent.
fn send_until_it_stops(client: &mut Client, requests: &[u8]) -> usize {
    client.0.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut sent = 0;
    loop {
        match client.0.write(&requests[sent % requests.len()..]) {
            Ok(bytes) => sent += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return sent,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn the_server_does_not_read_from_a_client_that_reads_no_replies() {
    const LEN: usize = 100_000;
    let server = ServerProcess::start(&["--threads", "1"]);
    let mut other = server.connect();
    let value = "v".repeat(LEN);
    other.send(request(&["SET", "k", &value]));
    other.expect("+OK\r\n");
    let before = server.memory();

    let get = request(&["GET", "k"]);
    let mut deaf = server.connect();
    let sent = send_until_it_stops(&mut deaf, &get.repeat(1000));
    let asked = sent / get.len();
    assert!(asked * LEN > 100 << 20, "the server read only {asked} requests");
    assert!(server.memory() < before + (32 << 20), "{} from {before}", server.memory());
    for _ in 0..1000 {
        assert_eq!(other.ask("PING"), "+PONG\r\n");
    }
    // When the client reads, all replies arrive.
    let reply = format!("${LEN}\r\n{value}\r\n");
    for _ in 0..asked {
        deaf.expect(&reply);
    }
    deaf.send(&get[sent % get.len()..]);
    deaf.expect(&reply);
}

#[test]
fn maxclients_limits_the_number_of_clients() {
    let server = ServerProcess::start(&["--maxclients", "3"]);
    let mut clients: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("PING"), "+PONG\r\n"));
    let mut fourth = server.connect();
    fourth.expect("-ERR max number of clients reached\r\n");
    fourth.expect_end();
    assert!(clients[0].ask("INFO stats").contains("rejected_connections:1\r\n"));
    drop(clients.pop());
    wait_until("there is room for another", || {
        let mut client = server.connect();
        // The server may refuse the client before this is sent.
        let _ = client.0.write_all(b"PING\r\n");
        client.reply() == "+PONG\r\n"
    });
}

#[test]
fn idle_clients_are_closed_after_the_timeout() {
    let server = ServerProcess::start(&["--timeout", "1"]);
    let mut idle = server.connect();
    assert_eq!(idle.ask("PING"), "+PONG\r\n");
    idle.expect_end();
}

#[test]
fn clients_can_be_listed_and_killed() {
    let server = ServerProcess::start(&["--threads", "2"]);
    let (mut one, mut other) = (server.connect(), server.connect());
    assert_eq!(one.ask("CLIENT SETNAME one"), "+OK\r\n");
    assert_eq!(one.ask("CLIENT GETNAME"), "$3\r\none\r\n");
    assert_eq!(other.ask("CLIENT SETINFO lib-name test"), "+OK\r\n");
    let id = one.ask("CLIENT ID");
    let id = id.trim_start_matches(':').trim_end();
    let list = other.ask("CLIENT LIST");
    assert!(list.contains(&format!("id={id} ")) && list.contains(" name=one "), "{list}");
    assert!(list.contains(" cmd=client|list ") && list.contains(" lib-name=test "), "{list}");
    assert_eq!(other.ask(&format!("CLIENT KILL ID {id}")), ":1\r\n");
    one.expect_end();
    // A client can kill itself, after its reply.
    let id = other.ask("CLIENT ID");
    let id = id.trim_start_matches(':').trim_end();
    assert_eq!(other.ask(&format!("CLIENT KILL ID {id} SKIPME no")), ":1\r\n");
    other.expect_end();
}

#[test]
fn clients_are_selected_by_all_criteria() {
    let server = ServerProcess::start(&["--threads", "2"]);
    let (mut one, mut other) = (server.connect(), server.connect());
    let id = |client: &mut Client| client.ask("CLIENT ID")[1..].trim_end().to_owned();
    let (first, second) = (id(&mut one), id(&mut other));
    let lines = |list: String| list.lines().filter(|line| line.starts_with("id=")).count();
    assert_eq!(lines(one.ask("CLIENT LIST")), 2);
    assert_eq!(lines(one.ask("CLIENT INFO")), 1);
    assert!(one.ask("CLIENT INFO").contains(&format!("id={first} ")));
    for (line, count) in [
        (format!("CLIENT LIST ID {first} {second} 77"), 2),
        (format!("CLIENT LIST ID {second}"), 1),
        (format!("CLIENT LIST ID {second} {first} {second}"), 3),
        ("CLIENT LIST ID 0".into(), 0),
        ("CLIENT LIST TYPE normal".into(), 2),
        ("CLIENT LIST TYPE replica".into(), 0),
    ] {
        assert_eq!(lines(one.ask(&line)), count, "{line}");
    }
    let list = one.ask(&format!("CLIENT LIST ID {second} {first}"));
    let place = |id: &str| list.find(&format!("id={id} ")).unwrap();
    assert!(place(&second) < place(&first), "in the order of the request: {list}");
    for (line, reply) in [
        ("CLIENT KILL MAXAGE 0", "-ERR maxage should be greater than 0\r\n"),
        ("CLIENT KILL MAXAGE x", "-ERR maxage is not an integer or out of range\r\n"),
        ("CLIENT KILL MAXAGE 100000", ":0\r\n"),
        ("CLIENT KILL TYPE pubsub", ":0\r\n"),
        ("CLIENT KILL USER stranger", "-ERR No such user 'stranger'\r\n"),
    ] {
        assert_eq!(one.ask(line), reply, "{line}");
    }
    // All criteria must match.
    let line = format!("CLIENT KILL ID {second} MAXAGE 100000 USER default TYPE normal");
    assert_eq!(one.ask(&line), ":0\r\n");
    let line = format!("CLIENT KILL ID {second} USER default TYPE normal SKIPME yes");
    assert_eq!(one.ask(&line), ":1\r\n");
    other.expect_end();
    assert_eq!(one.ask("CLIENT KILL TYPE normal"), ":0\r\n", "only this client is left");
}

#[test]
fn replies_can_be_switched_off() {
    let server = ServerProcess::start(&[]);
    let mut client = server.connect();
    client.send("CLIENT REPLY SKIP\r\nECHO a\r\nECHO b\r\n");
    client.expect("$1\r\nb\r\n");
    client.send("CLIENT REPLY OFF\r\nECHO a\r\nNO SUCH\r\nCLIENT REPLY ON\r\nECHO c\r\n");
    client.expect("+OK\r\n$1\r\nc\r\n");
    // The reply to RESET is skipped as any other.
    client.send("CLIENT REPLY SKIP\r\nRESET\r\nPING\r\n");
    client.expect("+PONG\r\n");
    client.send("CLIENT REPLY OFF\r\nRESET\r\nPING\r\n");
    client.expect("+RESET\r\n+PONG\r\n");
    // The error for invalid input is skipped too.
    client.send("CLIENT REPLY SKIP\r\n*a\r\n");
    client.expect_end();
}

/// Sends more than one turn's bytes to a client that reads at once, so that the socket is never full.
#[test]
fn long_replies_arrive_completely() {
    const LEN: usize = 3 << 19;
    let server = ServerProcess::start(&[]);
    let mut client = server.connect();
    let value = vec![b'x'; LEN];
    client.send(request(&[&b"SET"[..], b"long", &value]));
    client.expect("+OK\r\n");
    for _ in 0..50 {
        client.send(request(&["GET", "long"]));
        client.expect(format!("${LEN}\r\n"));
        client.expect(&value);
        client.expect("\r\n");
    }
}
