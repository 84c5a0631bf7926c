//! Random programs: requests, some of them damaged, in batches and on connections.

use super::request::{Framing, Request, Step};
use super::syntax;
use super::words::Words;

/// The parameters of a random program.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub requests: usize,
    /// Whether clients must authenticate.
    pub password: bool,
}

/// A random program, which depends only on the seed and the plan.
pub fn random(seed: u64, plan: Plan) -> Vec<Step> {
    let mut words = Words::new(seed);
    let words = &mut words;
    let mut steps = Vec::with_capacity(plan.requests + 64);
    while steps.len() < plan.requests {
        connection(words, plan, &mut steps);
    }
    inspection(words, plan, &mut steps);
    steps
}

/// The requests of one client. The batch size does not change during the connection.
fn connection(words: &mut Words, plan: Plan, steps: &mut Vec<Step>) {
    // Redis closes the connection of an unauthenticated client that leaves more than 16 KiB of replies
    // unread, and RESET makes a client unauthenticated.
    let batches: &[u32] = if plan.password { &[1, 2, 10, 20] } else { &[1, 2, 10, 50, 200] };
    let batch = words.one_of(batches);
    let piece = words.one_of(&[usize::MAX, usize::MAX, 1 << 14, 1000, 100]);
    let mut requests = greeting(words, plan);
    for _ in 0..words.rng.usize(1..400) {
        if words.one_in(150) {
            // The reply to the second must be among the keys of the first.
            requests.extend(["KEYS *", "RANDOMKEY"].map(Request::words));
        } else if words.one_in(40) {
            requests.extend(transaction(words));
        } else {
            requests.push(request(words));
        }
    }
    let first = steps.len();
    for request in requests {
        if plan.password && request.word(0) == "RESET" && steps.len() > first {
            steps.last_mut().expect("one at least").ends_batch = true;
        }
        let ends_batch = words.one_in(batch);
        steps.push(Step { request, reconnects: false, ends_batch, piece });
    }
    steps[first].reconnects = true;
    steps.last_mut().expect("at least one request").ends_batch = true;
}

/// A transaction, perhaps with watched keys, which the client itself may change.
fn transaction(words: &mut Words) -> Vec<Request> {
    let mut requests = Vec::new();
    if words.rng.bool() {
        let key = words.key();
        requests.push(Request::new([b"WATCH", &key[..]]));
        (0..words.rng.usize(..3)).for_each(|_| requests.push(request(words)));
    }
    requests.push(Request::words("MULTI"));
    let inner = (0..words.rng.usize(..10)).map(|_| request(words));
    // Redis 7.0 refuses this command, and so the transaction.
    requests.extend(inner.filter(|request| request.word(1) != "SETINFO"));
    let end = words.one_of(&["EXEC", "EXEC", "EXEC", "EXEC", "DISCARD", "RESET"]);
    requests.push(Request::words(end));
    requests
}

/// A client's first requests.
fn greeting(words: &mut Words, plan: Plan) -> Vec<Request> {
    let mut requests = Vec::new();
    if plan.password && !words.one_in(4) {
        requests.push(Request::words(words.one_of(&[
            "AUTH secret",
            "AUTH default secret",
            "HELLO 3 AUTH default secret",
            "HELLO 2 AUTH default secret SETNAME me",
        ])));
    } else if words.rng.bool() {
        requests.push(Request::words("HELLO 3"));
    }
    requests
}

/// Reads all data that the program may have left.
fn inspection(words: &Words, plan: Plan, steps: &mut Vec<Step>) {
    let hello = if plan.password { "AUTH secret" } else { "PING" };
    steps.push(Step { reconnects: true, ..Step::alone(Request::words(hello)) });
    for key in words.keys() {
        for question in [vec!["GET"], vec!["PEXPIRETIME"], vec!["OBJECT", "ENCODING"]] {
            let args = question.iter().map(|word| word.as_bytes()).chain([&key[..]]);
            steps.push(Step { ends_batch: false, ..Step::alone(Request::new(args)) });
        }
    }
    steps.extend(["KEYS *", "DBSIZE"].map(|text| Step::alone(Request::words(text))));
}

fn request(words: &mut Words) -> Request {
    let mut args = syntax::valid(words);
    // A random memory limit would evict random keys.
    if words.one_in(12) && !args[0].eq_ignore_ascii_case(b"CONFIG") {
        damage(&mut args, words);
    }
    let size: usize = args.iter().map(Vec::len).sum();
    // A longer line is too long, and a line with this first byte is not an inline request.
    let fits = size < 10_000 && args[0].first() != Some(&b'*');
    let framing = if fits && words.one_in(10) { Framing::Inline } else { Framing::Multibulk };
    let noise: &[u8] = if words.one_in(60) {
        words.one_of(&[&b"\r\n"[..], b"\n", b"*0\r\n", b"*-1\r\n", b"   \r\n"])
    } else {
        b""
    };
    Request { args, framing, noise }
}

/// Damages a request.
fn damage(args: &mut Vec<Vec<u8>>, words: &mut Words) {
    let at = words.rng.usize(..args.len());
    match words.rng.u8(..8) {
        0 => args.truncate(1),
        1 if args.len() > 1 => drop(args.pop()),
        2 => args.push(words.number().into_bytes()),
        3 => args.push(args[at].clone()),
        4 if at > 0 => drop(args.remove(at)),
        5 if at > 0 => args[at] = words.number().into_bytes(),
        6 if at > 1 => args.swap(at, 1),
        _ => {
            let option = words.one_of(&["EX", "NX", "GET", "GT", "COUNT", "MATCH", "PX", "DB", ""]);
            args.push(option.into());
        }
    }
}

#[test]
fn a_seed_always_gives_the_same_program() {
    let plan = Plan { requests: 500, password: false };
    assert_eq!(random(7, plan), random(7, plan));
    assert_ne!(random(7, plan), random(8, plan));
}
