//! Commands about the server and the connection.

use crate::server::{Client, ServerProcess, request, wait_until};
use std::io::{Read, Write};
use std::net::TcpStream;

#[test]
fn commands_reply_as_in_redis() {
    let server = ServerProcess::start(&[]);
    let mut client = server.connect();
    for (line, reply) in [
        ("ping", "+PONG\r\n"),
        ("PING hi", "$2\r\nhi\r\n"),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command\r\n"),
        ("ECHO", "-ERR wrong number of arguments for 'echo' command\r\n"),
        ("NO a b", "-ERR unknown command 'NO', with args beginning with: 'a' 'b' \r\n"),
        ("NO", "-ERR unknown command 'NO', with args beginning with: \r\n"),
        ("CLIENT", "-ERR wrong number of arguments for 'client' command\r\n"),
        ("CLIENT no", "-ERR unknown subcommand 'no'. Try CLIENT HELP.\r\n"),
        ("CLIENT SETNAME", "-ERR wrong number of arguments for 'client|setname' command\r\n"),
        ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range\r\n"),
        ("HELLO 3 SETNAME", "-ERR Syntax error in HELLO option 'SETNAME'\r\n"),
        ("SELECT 0", "+OK\r\n"),
        ("SELECT 1", "-ERR DB index is out of range\r\n"),
        ("SELECT x", "-ERR value is not an integer or out of range\r\n"),
        ("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        ("CONFIG GET no", "*0\r\n"),
        ("CONFIG SET maxmemory 1gb", "+OK\r\n"),
        ("CONFIG GET MAXMEMORY", "*2\r\n$9\r\nmaxmemory\r\n$10\r\n1073741824\r\n"),
        (
            "CONFIG SET timeout 1 maxmemory much",
            "-ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be \
             a memory value\r\n",
        ),
        ("CONFIG GET timeout", "*2\r\n$7\r\ntimeout\r\n$1\r\n0\r\n"),
        (
            "CONFIG SET timeout 1 Enable-Debug-Command yes",
            "-ERR CONFIG SET failed (possibly related to argument 'Enable-Debug-Command') - can't \
             set immutable config\r\n",
        ),
        ("CONFIG GET enable-debug-*", "*2\r\n$20\r\nenable-debug-command\r\n$2\r\nno\r\n"),
        ("CONFIG SET no 1", "-ERR Unknown option or number of arguments for CONFIG SET - 'no'\r\n"),
        ("FLUSHALL now", "-ERR syntax error\r\n"),
        ("FLUSHALL ASYNC", "+OK\r\n"),
        ("DBSIZE", ":0\r\n"),
        ("COMMAND INFO no", "*1\r\n$-1\r\n"),
        ("COMMAND GETKEYS GET k", "*1\r\n$1\r\nk\r\n"),
        ("COMMAND GETKEYS PING x", "-ERR The command has no key arguments\r\n"),
        ("INFO no", "$0\r\n\r\n"),
    ] {
        assert_eq!(client.ask(line), reply, "{line}");
    }
    assert!(client.ask("DEBUG SLEEP 0").starts_with("-ERR DEBUG command not allowed."));
}

#[test]
fn expired_keys_are_removed_without_an_access() {
    let server = ServerProcess::start(&[]);
    let mut client = server.connect();
    for key in ["a", "b", "c"] {
        assert_eq!(client.ask(&format!("SET {key} value PX 500")), "+OK\r\n");
    }
    assert_eq!(client.ask("SET stays value EX 1000"), "+OK\r\n");
    wait_until("the keys are gone", || client.ask("DBSIZE") == ":1\r\n");
    let info = client.ask("INFO stats");
    assert!(info.contains("\r\nexpired_keys:3\r\n"), "{info}");
}

/// Compressed values, or no values, are no fragmentation.
#[test]
fn the_fragmentation_ratio_is_about_one() {
    let server = ServerProcess::start(&["--cold-after", "60s"]);
    let mut client = server.connect();
    let ratio = |client: &mut Client| -> f64 {
        let info = client.ask("INFO memory");
        let line = info.lines().find_map(|line| line.strip_prefix("mem_fragmentation_ratio:"));
        line.unwrap().parse().unwrap()
    };
    assert!((1.0..2.0).contains(&ratio(&mut client)));
    let value = "compressible ".repeat(100);
    for n in 0..20_000 {
        client.send(request(&["SET", &n.to_string(), &value]));
        client.expect("+OK\r\n");
    }
    assert!((1.0..2.0).contains(&ratio(&mut client)));
    assert_eq!(client.ask("CONFIG SET cold-after 1s timeout 0"), "+OK\r\n");
    if !server.greeting.contains("nothing is compressed") {
        wait_until("the values are compressed", || {
            let info = client.ask("INFO thermocline");
            let stored = info.lines().find_map(|line| line.strip_prefix("stored_bytes:"));
            stored.unwrap().parse::<u64>().unwrap() > 20 << 20
        });
    }
    assert!((1.0..2.0).contains(&ratio(&mut client)));
}

#[test]
fn hello_switches_the_protocol() {
    let server = ServerProcess::start(&[]);
    let mut client = server.connect();
    assert!(client.ask("HELLO").starts_with("*14\r\n"));
    assert!(client.ask("HELLO 3").starts_with("%7\r\n"));
    assert_eq!(client.ask("GET missing"), "_\r\n");
    assert!(client.ask("INFO server").starts_with('='));
    assert!(client.ask("CONFIG GET save").starts_with("%1\r\n"));
    assert_eq!(client.ask("RESET"), "+RESET\r\n");
    assert_eq!(client.ask("GET missing"), "$-1\r\n");
}

#[test]
fn info_has_the_expected_sections() {
    let server = ServerProcess::start(&[]);
    let mut client = server.connect();
    let default = client.ask("INFO");
    for line in [
        "# Server",
        "# Memory",
        "# Stats",
        "# Thermocline",
        "redis_version:7",
        "saved_bytes:",
        "index_bytes_per_key:",
    ] {
        assert!(default.contains(line), "{line} is missing in {default}");
    }
    assert!(!default.contains("# Commandstats"));
    let stats = client.ask("INFO commandstats");
    assert!(stats.contains("cmdstat_info:calls=1,"), "{stats}");
    assert_eq!(client.ask("CONFIG RESETSTAT"), "+OK\r\n");
    let stats = client.ask("INFO stats clients");
    assert!(stats.contains("total_commands_processed:1\r\n"), "{stats}");
    assert!(stats.contains("# Clients\r\nconnected_clients:1\r\n"), "{stats}");
    assert!(client.ask("MEMORY DOCTOR").contains("ompressed"));
}

#[test]
fn metrics_are_served_for_prometheus() {
    let server = ServerProcess::start(&["--metrics", "127.0.0.1:0"]);
    assert_eq!(server.connect().ask("PING"), "+PONG\r\n");
    let (_, address) = server.greeting.trim().rsplit_once("http://").unwrap();
    let (address, path) = address.split_once('/').unwrap();
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /{path} HTTP/1.0\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = ask(path);
    for line in [
        "\ncache_commands_total 1\n",
        "\n# TYPE cache_arena_refaults counter\n",
        "\n# HELP cache_arena_store_bytes Bytes of memory that the store takes\n",
        "\n# TYPE cache_saved_bytes gauge\n",
        "\n# TYPE cache_index_bytes gauge\n",
        "\n# TYPE cache_refault_seconds histogram\n",
        "\ncache_refault_seconds_bucket{le=\"+Inf\"} ",
        "\ncache_lane_bytes{lane=\"hot\"} ",
    ] {
        assert!(answer.contains(line), "{line:?} is missing in {answer}");
    }
    assert!(answer.ends_with("# EOF\n"));
    assert!(ask("").starts_with("HTTP/1.0 404") || ask("").starts_with("HTTP/1.1 404"));
}
