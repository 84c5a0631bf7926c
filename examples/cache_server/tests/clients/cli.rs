//! redis-cli: in a pipe, on a terminal, and its tools that read all keys.

use crate::common::process::ServerProcess;
use crate::common::skip::has_programs;
use std::io::Write;
use std::process::{Command, Stdio};

/// The output of `program` with this input. The program must succeed.
fn output(program: &str, args: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("timeout")
        .args(["120", program])
        .args(args)
        .env("TERM", "dumb")
        .env_remove("REDISCLI_AUTH")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // In a thread, because the program may write before it has read all input.
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {:?}\n{text}\n{errors}", output.status);
    writer.join().unwrap().unwrap();
    text + &errors
}

fn cli(server: &ServerProcess, args: &[&str], input: &str) -> String {
    let socket = server.socket();
    let args = [&["-s", socket.to_str().unwrap()], args].concat();
    output("redis-cli", &args, input.as_bytes())
}

#[test]
fn commands_from_a_pipe_get_their_replies() {
    if !has_programs("commands_from_a_pipe_get_their_replies", &["redis-cli"]) {
        return;
    }
    let server = ServerProcess::ours(&[]);
    let input = "SET greeting \"hello\\nworld\"\nGET greeting\nSTRLEN greeting\nGET nothing\n\
                 INCR greeting\nMGET greeting nothing\nHELP\nNOSUCH\nTTL greeting\nPING\n";
    let written = cli(&server, &["--no-raw"], input);
    let lines: Vec<_> = written.lines().filter(|line| !line.is_empty()).collect();
    for expected in [
        "OK",
        "\"hello\\nworld\"",
        "(integer) 11",
        "(nil)",
        "(error) ERR value is not an integer or out of range",
        "1) \"hello\\nworld\"",
        "2) (nil)",
        "(error) ERR unknown command 'NOSUCH', with args beginning with: ",
        "(integer) -1",
        "PONG",
    ] {
        assert!(lines.contains(&expected), "no {expected:?} in\n{written}");
    }
    let raw = cli(&server, &["GET", "greeting"], "");
    assert_eq!(raw, "hello\nworld\n");
    assert_eq!(cli(&server, &["-x", "SET", "binary"], "a\0b"), "OK\n");
    assert_eq!(cli(&server, &["--no-raw", "GET", "binary"], ""), "\"a\\x00b\"\n");
}

#[test]
fn resp3_replies_are_understood() {
    if !has_programs("resp3_replies_are_understood", &["redis-cli"]) {
        return;
    }
    let server = ServerProcess::ours(&[]);
    let written = cli(&server, &["-3", "--no-raw"], "SET k v\nCONFIG GET maxmemory\nGET none\n");
    assert!(written.contains("1# \"maxmemory\" => \""), "{written}");
    assert!(written.contains("(nil)"), "{written}");
    assert!(cli(&server, &["-3", "HELLO"], "").contains("proto"));
}

#[test]
fn commands_on_a_terminal_get_their_replies() {
    if !has_programs("commands_on_a_terminal_get_their_replies", &["redis-cli", "script"]) {
        return;
    }
    let server = ServerProcess::ours(&[]);
    let command = format!("redis-cli -s {}", server.socket().display());
    let input = "set word typed\rget word\rincr word\robject encoding word\rexit\r";
    let written = output("script", &["-qec", &command, "/dev/null"], input.as_bytes());
    assert!(written.contains("OK"), "{written}");
    assert!(written.contains("\"typed\""), "{written}");
    assert!(written.contains("(error) ERR value is not an integer or out of range"), "{written}");
    assert!(written.contains("\"embstr\""), "{written}");
    assert_eq!(cli(&server, &["GET", "word"], ""), "typed\n");
}

#[test]
fn tools_that_read_all_keys_work() {
    if !has_programs("tools_that_read_all_keys_work", &["redis-cli"]) {
        return;
    }
    let server = ServerProcess::ours(&[]);
    let mut requests = String::new();
    for n in 0..5000 {
        let (key, value) = (format!("key:{n:04}"), "v".repeat(n % 100));
        let (key_len, len) = (key.len(), value.len());
        requests += &format!("*3\r\n$3\r\nSET\r\n${key_len}\r\n{key}\r\n${len}\r\n{value}\r\n");
    }
    requests += &format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$10000\r\n{}\r\n", "b".repeat(10_000));
    let written = cli(&server, &["--pipe"], &requests);
    assert!(written.contains("errors: 0, replies: 5001"), "{written}");

    let mut keys: Vec<_> = cli(&server, &["--scan"], "").lines().map(str::to_owned).collect();
    keys.sort();
    assert_eq!(keys.len(), 5001);
    assert_eq!((&keys[0][..], &keys[5000][..]), ("big", "key:4999"));
    let some = cli(&server, &["--scan", "--pattern", "key:00?0"], "");
    assert_eq!(some.lines().count(), 10, "{some}");

    let written = cli(&server, &["--bigkeys"], "");
    assert!(written.contains("Sampled 5001 keys"), "{written}");
    assert!(written.contains("Biggest string found '\"big\"' has 10000 bytes"), "{written}");
    let written = cli(&server, &["--memkeys"], "");
    assert!(written.contains("Biggest string found '\"big\"'"), "{written}");
}

#[test]
fn the_password_can_be_passed() {
    if !has_programs("the_password_can_be_passed", &["redis-cli"]) {
        return;
    }
    let server = ServerProcess::ours(&["--requirepass", "secret"]);
    assert!(cli(&server, &["GET", "k"], "").starts_with("NOAUTH Authentication required."));
    let with = ["--no-auth-warning", "-a", "secret"];
    assert_eq!(cli(&server, &[&with[..], &["PING"]].concat(), ""), "PONG\n");
    assert!(cli(&server, &["--no-auth-warning", "-a", "wrong", "PING"], "").contains("WRONGPASS"));
    let both = ["--no-auth-warning", "--user", "default", "--pass", "secret", "-3", "PING"];
    assert_eq!(cli(&server, &both, ""), "PONG\n");
}
