//! Starting and stopping the server.

use crate::server::{Client, ServerProcess, program, request, wait_until};
use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

#[test]
fn pipelined_requests_are_answered_before_the_end() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = ServerProcess::start(&["--threads", "2"]);
        let mut clients: Vec<Client> = (0..10).map(|_| server.connect()).collect();
        let requests = request(&["ECHO", "x"]).repeat(3000);
        for client in &mut clients {
            assert_eq!(client.ask("PING"), "+PONG\r\n");
            client.send(&requests);
        }
        server.signal(signal);
        for client in &mut clients {
            client.expect("$1\r\nx\r\n".repeat(3000));
            client.expect_end();
        }
        let (status, last) = server.wait();
        assert_eq!(status.code(), Some(0));
        assert!(last.starts_with("stopped after 30010 commands from 10 connections"), "{last}");
        assert!(!server.path.exists());
    }
}

#[test]
fn shutdown_stops_the_server_as_a_signal_does() {
    let mut server = ServerProcess::start(&[]);
    let mut client = server.connect();
    assert_eq!(client.ask("SHUTDOWN ABORT"), "-ERR No shutdown in progress.\r\n");
    assert_eq!(client.ask("SHUTDOWN now later"), "-ERR syntax error\r\n");
    client.send("SHUTDOWN NOSAVE\r\n");
    client.expect_end();
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let mut server = ServerProcess::start(&["--enable-debug-command", "--threads", "1"]);
    let mut client = server.connect();
    client.send("PING\r\nDEBUG SLEEP 1000\r\n");
    let mut witness = server.connect();
    server.signal(Signal::TERM);
    // The server removes its socket when it has noticed the signal.
    wait_until("the first signal is noticed", || !server.path.exists());
    server.signal(Signal::TERM);
    assert_eq!(server.wait().0.code(), Some(1));
    witness.expect_end();
}

#[test]
fn a_socket_without_a_listener_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = ServerProcess::start_at(folder, path, &[]);
    assert_eq!(server.connect().ask("PING"), "+PONG\r\n");

    // A socket in use is not replaced.
    let second = program().arg("--unixsocket").arg(&server.path).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(error.contains("another server does"), "{error}");
    assert_eq!(server.connect().ask("PING"), "+PONG\r\n");
}

#[test]
fn a_file_that_is_no_socket_is_not_replaced() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "precious").unwrap();
    let output = program().arg("--unixsocket").arg(file.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "precious");
}

#[test]
fn invalid_options_are_refused() {
    for args in [&["--maxmemory", "much"][..], &["--threads", "0"], &["--no-such-option"]] {
        let output = program().args(args).stdout(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty());
    }
    let nowhere = program().output().unwrap();
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8(nowhere.stderr).unwrap().contains("nowhere to listen"));
}

#[test]
fn the_server_listens_by_tcp_too() {
    let server = ServerProcess::start(&["--port", "any"]);
    let address = server.greeting.split(&[' ', ',', ';'][..]).nth(2).unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut stream, b"PING\r\n").unwrap();
    let mut reply = [0; 7];
    std::io::Read::read_exact(&mut stream, &mut reply).unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
}

/// Runs the server under `ulimit -v`, with further arguments, until it has ended.
fn in_little_address_space(args: &[&str]) -> String {
    let program = program();
    let script = r#"ulimit -v 8000000 && exec "$0" "$@""#;
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script]).arg(program.get_program()).args(program.get_args()).args(args);
    let mut child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut said).unwrap();
    // A server that has begun to listen does not end by itself.
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    said + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_server_starts_in_little_address_space_unless_reserve_asks_for_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let path = path.to_str().unwrap();
    let said = in_little_address_space(&["--unixsocket", path]);
    assert!(said.starts_with("listening on "), "{said}");
    let said = in_little_address_space(&["--unixsocket", path, "--reserve", "1gb"]);
    assert!(said.starts_with("listening on "), "{said}");
    let said = in_little_address_space(&["--unixsocket", path, "--reserve", "6gb"]);
    let words = ["6144 MiB", "RLIMIT_AS", "--reserve"];
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}
