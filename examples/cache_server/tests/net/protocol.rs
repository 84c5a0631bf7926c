//! Input over a connection: invalid, split, pipelined, and long.

use crate::server::{ServerProcess, request, wait_until};
use std::io::Write;

#[test]
fn invalid_input_gets_an_error_and_closes_the_connection() {
    let server = ServerProcess::start(&[]);
    let long = "1".repeat(70_000);
    for (input, error) in [
        ("*x\r\n", "invalid multibulk length"),
        ("*2147483648\r\n", "invalid multibulk length"),
        ("*1\r\nx\r\n", "expected '$', got 'x'"),
        ("*1\r\n$-1\r\n", "invalid bulk length"),
        ("*2\r\n$3\r\nGET\r\n$536870913\r\n", "invalid bulk length"),
        ("\"PING\r\n", "unbalanced quotes in request"),
        (&long, "too big inline request"),
        (&format!("*{long}"), "too big mbulk count string"),
        (&format!("*1\r\n${long}"), "too big bulk count string"),
    ] {
        let mut client = server.connect();
        // The requests before the error are answered, those after it are not.
        client.send(format!("PING\r\n{input}"));
        client.expect(format!("+PONG\r\n-ERR Protocol error: {error}\r\n"));
        client.expect_end();
    }
    assert_eq!(server.connect().ask("PING"), "+PONG\r\n");
}

#[test]
fn a_request_may_arrive_byte_by_byte() {
    let server = ServerProcess::start(&[]);
    let mut client = server.connect();
    for byte in request(&["ECHO", "a\r\nb"]).chunks(1).chain(b"ECHO 'c d'\r\n".chunks(1)) {
        client.send(byte);
    }
    client.expect("$4\r\na\r\nb\r\n$3\r\nc d\r\n");
}

#[test]
fn many_requests_at_once_are_answered_in_order() {
    let server = ServerProcess::start(&[]);
    let mut client = server.connect();
    let mut writer = client.0.try_clone().unwrap();
    let numbers = 0..100_000;
    let requests: Vec<u8> =
        numbers.clone().flat_map(|n| request(&["ECHO", &n.to_string()])).collect();
    let writing = std::thread::spawn(move || writer.write_all(&requests));
    for n in numbers {
        let n = n.to_string();
        client.expect(format!("${}\r\n{n}\r\n", n.len()));
    }
    writing.join().unwrap().unwrap();
}

#[test]
fn a_client_that_has_shut_down_writing_gets_all_replies() {
    let server = ServerProcess::start(&[]);
    let mut client = server.connect();
    client.send("PING\r\n".repeat(5000) + "PI");
    client.end();
    client.expect("+PONG\r\n".repeat(5000));
    client.expect_end();
}

#[test]
fn quit_closes_the_connection_after_its_reply() {
    let server = ServerProcess::start(&[]);
    let mut client = server.connect();
    client.send("PING\r\nQUIT\r\nPING\r\n");
    client.expect("+PONG\r\n+OK\r\n");
    client.expect_end();
}

#[test]
fn a_large_argument_takes_memory_only_while_it_is_there() {
    const LEN: usize = 96 << 20;
    let server = ServerProcess::start(&[]);
    let mut client = server.connect();
    assert_eq!(client.ask("PING"), "+PONG\r\n");
    let before = server.memory();
    let large: Vec<u8> = (0..LEN).map(|i| (i / 7) as u8).collect();
    let mut writer = client.0.try_clone().unwrap();
    let sent = request(&[b"ECHO".as_slice(), &large]);
    let writing = std::thread::spawn(move || writer.write_all(&sent));
    client.expect(format!("${LEN}\r\n"));
    client.expect(&large);
    client.expect("\r\n");
    writing.join().unwrap().unwrap();
    wait_until("the memory is given back", || server.memory() < before + (LEN >> 2));
    assert_eq!(client.ask("PING"), "+PONG\r\n");
}

#[test]
fn a_client_without_the_password_may_not_send_long_requests() {
    let server = ServerProcess::start(&["--requirepass", "secret"]);
    let mut client = server.connect();
    // Many short arguments are few bytes, but before the password 11 are refused.
    client.send("*11\r\n");
    client.expect("-ERR Protocol error: unauthenticated multibulk length\r\n");
    client.expect_end();
    let mut client = server.connect();
    client.send("*2\r\n$4\r\nECHO\r\n$16385\r\n");
    client.expect("-ERR Protocol error: unauthenticated bulk length\r\n");
    client.expect_end();
    // After the password in the same write, larger requests are allowed.
    let mut client = server.connect();
    let long = "x".repeat(20_000);
    client.send([request(&["AUTH", "secret"]), request(&["ECHO", &long])].concat());
    client.expect(format!("+OK\r\n$20000\r\n{long}\r\n"));
}
