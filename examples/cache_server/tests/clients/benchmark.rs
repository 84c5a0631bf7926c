//! redis-benchmark, whose string tests must run without a warning.

use crate::common::process::ServerProcess;
use crate::common::skip::has_programs;
use std::process::Command;

/// The tests that use only strings: their names for `-t` and in the report.
const TESTS: [(&str, &str); 6] = [
    ("ping_inline", "PING_INLINE"),
    ("ping_mbulk", "PING_MBULK"),
    ("set", "SET"),
    ("get", "GET"),
    ("incr", "INCR"),
    ("mset", "MSET (10 keys)"),
];

fn benchmark(server: &ServerProcess, args: &[&str]) -> String {
    let names: Vec<_> = TESTS.iter().map(|(name, _)| *name).collect();
    let output = Command::new("timeout")
        .args(["300", "redis-benchmark", "-t", &names.join(","), "-s"])
        .arg(server.socket())
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{args:?}: {:?}\n{out}\n{errors}", output.status);
    // It warns if the server does not report its settings. One warning always appears.
    let warned = errors.lines().find(|line| !line.starts_with("WARNING: Keepalive disabled"));
    assert_eq!(warned, None, "{args:?}");
    for bad in ["ERR", "rror", "WARNING"] {
        assert!(!out.contains(bad), "{args:?}\n{out}");
    }
    out
}

#[test]
fn string_tests_run_without_warnings() {
    if !has_programs("string_tests_run_without_warnings", &["redis-benchmark"]) {
        return;
    }
    let server = ServerProcess::ours(&[]);
    for args in [
        &["-n", "20000", "-q"][..],
        &["-n", "50000", "-q", "-P", "16"],
        &["-n", "20000", "-q", "-P", "16", "-r", "10000", "-d", "1000"],
        &["-n", "20000", "-q", "-c", "200", "--threads", "2"],
        &["-n", "5000", "-q", "-d", "100000", "-c", "10"],
        &["-n", "20000", "-q", "-k", "0", "-c", "5"],
        &["-n", "20000", "-q", "-3"],
    ] {
        let written = benchmark(&server, args);
        for (_, title) in TESTS {
            let done = written
                .split(['\r', '\n'])
                .any(|line| line.starts_with(title) && line.contains("requests per second"));
            assert!(done, "{args:?}: no {title} in\n{written}");
        }
    }
}

#[test]
fn a_test_with_custom_commands_runs() {
    if !has_programs("a_test_with_custom_commands_runs", &["redis-benchmark"]) {
        return;
    }
    let server = ServerProcess::ours(&[]);
    for command in [
        &["SET", "key:__rand_int__", "value", "EX", "100"][..],
        &["GETRANGE", "key:__rand_int__", "0", "3"],
        &["APPEND", "key:__rand_int__", "x"],
        &["EXPIRE", "key:__rand_int__", "100"],
    ] {
        let output = Command::new("timeout")
            .args(["120", "redis-benchmark", "-s"])
            .arg(server.socket())
            .args(["-n", "10000", "-q", "-r", "1000", "-P", "8"])
            .args(command)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("requests per second"), "{text}");
        assert!(output.stderr.is_empty() && !text.contains("ERR"), "{command:?}\n{text}");
    }
}
