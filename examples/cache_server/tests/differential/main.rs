//! Compares the server with Redis: the same requests to both, reply by reply.
//!
//! `THERMOCLINE_REQUESTS` is the number of random requests, `THERMOCLINE_SEED` their seed. The known
//! differences are listed with their reasons in [`rules::LISTED`]; a run prints each with the number of
//! its occurrences. The last line of a run:
//!
//! ```text
//! differential requests=50000 commands=63 differences=0 excused=1234 seed=1
//! ```

#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod compare;
mod expiry;
mod hunt;
mod play;
mod program;
mod protocol;
mod request;
mod rules;
mod shrink;
mod side;
mod syntax;
mod words;

use common::process::ServerProcess;
use common::skip::{has_programs, number, say};
use hunt::{Finding, Hunt};

fn reports(findings: &[Finding]) -> String {
    findings.iter().map(|finding| finding.report.as_str()).collect::<Vec<_>>().join("\n")
}

fn requests() -> u64 {
    number("THERMOCLINE_REQUESTS", 50_000)
}

#[test]
fn random_requests_get_the_replies_of_redis() {
    if !has_programs("random_requests_get_the_replies_of_redis", &["redis-server"]) {
        return;
    }
    let (redis, ours) = (ServerProcess::redis(&[]), ServerProcess::ours(&[]));
    let seed = number("THERMOCLINE_SEED", 1);
    let name = "differential";
    let hunt = Hunt { name, requests: requests(), seed, password: None, enough: 10, lists: true };
    let findings = hunt.run(&redis, &ours);
    assert!(findings.is_empty(), "{}", reports(&findings));
}

#[test]
fn random_requests_get_the_replies_of_redis_with_a_password() {
    if !has_programs("random_requests_with_a_password", &["redis-server"]) {
        return;
    }
    let args = ["--requirepass", "secret"];
    let (redis, ours) = (ServerProcess::redis(&args), ServerProcess::ours(&args));
    let seed = number("THERMOCLINE_SEED", 1) + (1 << 32);
    let (name, password) = ("differential-password", Some("secret"));
    let hunt = Hunt { name, requests: requests() / 10, seed, password, enough: 10, lists: false };
    let findings = hunt.run(&redis, &ours);
    assert!(findings.is_empty(), "{}", reports(&findings));
}

/// The comparison reports no difference between two Redis servers.
#[test]
fn redis_does_not_differ_from_redis() {
    if !has_programs("redis_does_not_differ_from_redis", &["redis-server"]) {
        return;
    }
    let (one, other) = (ServerProcess::redis(&[]), ServerProcess::redis(&[]));
    let (name, requests) = ("redis-and-redis", requests() / 5);
    let hunt = Hunt { name, requests, seed: 1 << 33, password: None, enough: 1, lists: false };
    let findings = hunt.run(&one, &other);
    assert!(findings.is_empty(), "{}", reports(&findings));
}

/// A server with a renamed command is found to differ, and the program is shrunk to few requests.
#[test]
fn a_planted_difference_is_found_and_shrunk() {
    if !has_programs("a_planted_difference_is_found_and_shrunk", &["redis-server"]) {
        return;
    }
    let redis = ServerProcess::redis(&[]);
    // For each: the renamed commands, and the most requests of the shrunk program.
    let plants: [(&[(&str, &str)], usize); 3] = [
        (&[("GET", "was-get"), ("GETDEL", "GET")], 3),
        (&[("EXPIREAT", "was-expireat"), ("PEXPIREAT", "EXPIREAT")], 3),
        (&[("STRLEN", "")], 1),
    ];
    for (renamed, at_most) in plants {
        let args: Vec<_> =
            renamed.iter().flat_map(|(from, to)| ["--rename-command", from, to]).collect();
        let planted = ServerProcess::redis(&args);
        let (name, seed) = ("planted", 1 << 34);
        let hunt = Hunt { name, requests: 20_000, seed, password: None, enough: 1, lists: false };
        let findings = hunt.run(&redis, &planted);
        let finding = findings.first().unwrap_or_else(|| panic!("{renamed:?} was not noticed"));
        assert!(finding.smallest.len() <= at_most, "{renamed:?}\n{}", finding.report);
    }
}

/// Sends garbage whole, and in pieces.
#[test]
fn garbage_gets_the_replies_of_redis() {
    if !has_programs("garbage_gets_the_replies_of_redis", &["redis-server"]) {
        return;
    }
    let (redis, ours) = (ServerProcess::redis(&[]), ServerProcess::ours(&[]));
    let long = protocol::long_cases();
    let cases = protocol::CASES.into_iter().chain(long.iter().map(Vec::as_slice));
    let whole = cases.map(|bytes| (bytes, usize::MAX));
    let pieces = protocol::CASES.into_iter();
    let pieces = pieces.map(|bytes| (bytes, 1));
    let differences: Vec<_> = whole
        .chain(pieces)
        .filter(|(bytes, _)| protocol::is_compared(b"", bytes))
        .filter_map(|(bytes, piece)| protocol::difference(&redis, &ours, b"", bytes, piece))
        .inspect(|difference| say(difference))
        .take(10)
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Before the password, servers refuse larger requests.
#[test]
fn garbage_without_the_password_gets_the_replies_of_redis() {
    if !has_programs("garbage_without_the_password_gets_the_replies_of_redis", &["redis-server"]) {
        return;
    }
    let args = ["--requirepass", "secret"];
    let (redis, ours) = (ServerProcess::redis(&args), ServerProcess::ours(&args));
    let long = protocol::long_cases();
    // Redis closes the connection of an unauthenticated client that leaves more than 16 KiB of replies unread,
    // which depends on timing. This server stops reading from that client.
    let is_short = |bytes: &&[u8]| bytes.iter().filter(|byte| **byte == b'\n').count() < 500;
    let long = long.iter().map(Vec::as_slice).take(20).filter(is_short);
    let cases = protocol::CASES.into_iter().chain(long);
    let differences: Vec<_> = cases
        .flat_map(|bytes| {
            [&b""[..], b"AUTH secret\r\n", b"AUTH wrong\r\n"].map(|before| (before, bytes))
        })
        .filter(|(before, bytes)| protocol::is_compared(before, bytes))
        .filter_map(|(b, bytes)| protocol::difference(&redis, &ours, b, bytes, usize::MAX))
        .inspect(|difference| say(difference))
        .take(10)
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn keys_expire_and_scans_end_as_in_redis() {
    if !has_programs("keys_expire_and_scans_end_as_in_redis", &["redis-server"]) {
        return;
    }
    let (redis, ours) = (ServerProcess::redis(&[]), ServerProcess::ours(&[]));
    expiry::keys_expire(&redis, &ours);
    expiry::expired_keys_are_removed(&redis, &ours);
    expiry::scans_show_the_same(&redis, &ours);
}
