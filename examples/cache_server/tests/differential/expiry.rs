//! Expiring keys, and scans of many steps, which cannot be compared reply by reply.

use super::play::Pair;
use super::request::Request;
use super::side::Outcome;
use crate::common::process::{PATIENCE, ServerProcess};
use crate::common::resp::{Value, parse};
use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// All ways to set an expiry of the key `k`. `MS` and `S` are relative, `UNIXMS` is absolute.
const WAYS: [&[&str]; 13] = [
    &["SET k v PX MS"],
    &["SET k v PXAT UNIXMS"],
    &["SET k v EX S"],
    &["PSETEX k MS v"],
    &["SETEX k S v"],
    &["SET k v", "PEXPIRE k MS"],
    &["SET k v", "PEXPIREAT k UNIXMS"],
    &["SET k v", "EXPIRE k S"],
    &["SET k v", "GETEX k PX MS"],
    &["SET k v", "GETEX k PXAT UNIXMS"],
    &["SET k v PX MS", "SET k w KEEPTTL", "APPEND k x", "INCRBY n 1"],
    &["SET other v PX MS", "RENAME other k"],
    &["SET other v PX MS", "COPY other k REPLACE", "PERSIST other"],
];

/// Commands that show that a key has expired. The servers notice it in a different way for each.
const QUESTIONS: [&str; 8] = [
    "EXISTS k",
    "GET k",
    "TTL k",
    "TYPE k",
    "KEYS k",
    "STRLEN k",
    "MGET k nothing",
    "GETRANGE k 0 5",
];

fn texts(outcomes: [Outcome; 2]) -> [String; 2] {
    outcomes.map(|outcome| outcome.to_string())
}

/// Lets a key expire after each way to set an expiry, and repeats each question until both servers give
/// Redis' reply for a key that never existed.
pub fn keys_expire(redis: &ServerProcess, ours: &ServerProcess) {
    let mut pair = Pair::new(redis, ours, None);
    for (index, way) in WAYS.iter().enumerate() {
        for question in QUESTIONS {
            pair.play(&[]).expect("nothing to differ");
            let [gone, _] = texts(pair.ask(&Request::words(question)));
            for line in *way {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
                let end = now.as_millis() + 30;
                let line = line.replace("UNIXMS", &end.to_string()).replace("MS", "30");
                let replies = texts(pair.ask(&Request::words(&line.replace(" S", " 1"))));
                assert!(!replies[1].starts_with('-'), "{line}: {replies:?}");
            }
            // Seconds take long, so they are tested with one question only.
            let seconds = way.iter().any(|line| line.contains(" S"));
            if seconds && question != QUESTIONS[index % QUESTIONS.len()] {
                continue;
            }
            until_both(&mut pair, question, &gone);
        }
    }
}

/// Expired keys are removed without an access.
pub fn expired_keys_are_removed(redis: &ServerProcess, ours: &ServerProcess) {
    let mut pair = Pair::new(redis, ours, None);
    pair.play(&[]).expect("nothing to differ");
    for number in 0..1000 {
        pair.ask(&Request::words(&format!("SET short:{number} v PX {}", 1 + number % 100)));
        pair.ask(&Request::words(&format!("SET long:{number} v EX 10000")));
    }
    until_both(&mut pair, "DBSIZE", ":1000\\r\\n");
}

fn until_both(pair: &mut Pair<'_>, question: &str, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let replies = texts(pair.ask(&Request::words(question)));
        if replies == [wanted, wanted] {
            return;
        }
        assert!(Instant::now() < deadline, "{question}: not {wanted} but {replies:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Complete scans with each step size and filter show the same keys.
pub fn scans_show_the_same(redis: &ServerProcess, ours: &ServerProcess) {
    let mut pair = Pair::new(redis, ours, None);
    pair.play(&[]).expect("nothing to differ");
    for number in 0..3000 {
        pair.ask(&Request::words(&format!("SET key:{number} v")));
    }
    let scans = [
        "",
        " COUNT 1",
        " COUNT 7",
        " COUNT 1000",
        " MATCH *9",
        " TYPE string",
        " TYPE list COUNT 50",
    ];
    for options in scans {
        let [theirs, ours] = [0, 1].map(|side| scan(&mut pair, side, options));
        assert_eq!(theirs, ours, "SCAN{options}");
        let all = !options.contains("list") && !options.contains("MATCH");
        assert_eq!(theirs.len() == 3000, all, "SCAN{options}");
    }
}

/// The keys that one server shows.
fn scan(pair: &mut Pair<'_>, side: usize, options: &str) -> BTreeSet<Vec<u8>> {
    let mut keys = BTreeSet::new();
    let mut cursor = "0".to_owned();
    loop {
        let outcomes = pair.ask(&Request::words(&format!("SCAN {cursor}{options}")));
        let Outcome::Reply(reply) = &outcomes[side] else { panic!("{}", outcomes[side]) };
        let Value::Many(_, parts) = parse(reply) else { panic!("{}", outcomes[side]) };
        let [Value::Scalar(b'$', next), Value::Many(_, shown)] = &parts[..] else {
            panic!("{}", outcomes[side])
        };
        for key in shown {
            let Value::Scalar(b'$', key) = key else { panic!("{}", outcomes[side]) };
            keys.insert(key.to_vec());
        }
        cursor = std::str::from_utf8(next).expect("a number").to_owned();
        if cursor == "0" {
            return keys;
        }
    }
}
