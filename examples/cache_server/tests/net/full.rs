//! Writing into a cache that is full: no thread sleeps, and the policy says what goes.

use crate::server::{Client, ServerProcess, request, wait_until};

const LIMIT: usize = 50 << 20;

/// What a full process may take above its limit: a sixteenth, what the allocator holds between values,
/// and what is written between two looks.
const SLACK: usize = 20 << 20;

/// More values than there is room for.
#[derive(Clone, Copy)]
struct Load {
    len: usize,
    writes: usize,
    fill: fn(&mut fastrand::Rng, &mut [u8]),
}

/// Each on pages of its own, which go with it. They do not compress.
const LARGE: Load = Load { len: 16 << 10, writes: 9600, fill: fastrand::Rng::fill };

/// Several on a page, which stays for the last of them. They compress a little.
const SMALL: Load = Load { len: 1050, writes: 80_000, fill: words };

/// Some of two thousand words.
fn words(random: &mut fastrand::Rng, value: &mut [u8]) {
    for place in value.chunks_mut(7) {
        let word = format!("w{:05} ", random.u32(..2000) * 7919 % 100_000);
        place.copy_from_slice(&word.as_bytes()[..place.len()]);
    }
}

/// A server of one thread that can be full, if this system compresses at all.
fn server(policy: &str) -> Option<ServerProcess> {
    let limit = LIMIT.to_string();
    let args = ["--threads", "1", "--memory-limit", &limit, "--maxmemory-policy", policy];
    let server = ServerProcess::start(&args);
    (!server.greeting.contains("nothing is compressed")).then_some(server)
}

const NO_LIMIT: &str = "nothing is compressed on this system, so the limit is not kept";

fn info(client: &mut Client, field: &str) -> usize {
    let info = client.ask("INFO all");
    let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let value = value.unwrap_or_else(|| panic!("{field} is missing in {info}"));
    value.parse().unwrap_or_else(|_| panic!("{field} is {value}"))
}

/// What became of writes.
#[derive(Debug, Default)]
struct Course {
    done: usize,
    refused: usize,
    /// Reads that were answered while one write was not, at most.
    reads_during_a_write: u64,
    most_memory: usize,
}

/// Writes, one at a time. Another client of the same thread reads while a write is not answered.
fn write_and_read(server: &ServerProcess, load: Load) -> Course {
    let (mut reader, mut writer) = (server.connect(), server.connect());
    assert_eq!(reader.ask("SET read 1"), "+OK\r\n");
    let mut random = fastrand::Rng::with_seed(1);
    let mut course = Course::default();
    for n in 0..load.writes {
        let mut value = vec![0; load.len];
        (load.fill)(&mut random, &mut value);
        writer.send(request(&[&b"SET"[..], n.to_string().as_bytes(), &value]));
        let mut reads = 0;
        while !writer.has_reply() {
            let reply = reader.ask("GET read");
            // It is one of the keys that may be evicted.
            assert!(reply == "$1\r\n1\r\n" || reply == "$-1\r\n", "{reply}");
            reads += 1;
        }
        course.reads_during_a_write = course.reads_during_a_write.max(reads);
        match writer.reply().as_str() {
            "+OK\r\n" => course.done += 1,
            "-OOM command not allowed when used memory > 'maxmemory'.\r\n" => course.refused += 1,
            other => panic!("{other}"),
        }
        if n % 64 == 0 {
            course.most_memory = course.most_memory.max(server.resident());
        }
    }
    course
}

fn evicts_by_its_policy(server: &ServerProcess, load: Load) {
    let course = write_and_read(server, load);
    assert_eq!((course.done, course.refused), (load.writes, 0));
    // Whether the cache is full is known only after writes have waited for compression.
    assert!(course.reads_during_a_write >= 20, "{course:?}");
    assert!(course.most_memory <= LIMIT + SLACK, "{course:?}");

    let mut client = server.connect();
    // Some more keys may go meanwhile.
    let evicted = info(&mut client, "evicted_keys");
    let left = client.ask("DBSIZE");
    let left: usize = left[1..].trim_end().parse().unwrap();
    let evicted = evicted..=info(&mut client, "evicted_keys");
    assert!(evicted.contains(&(load.writes + 1 - left)), "{evicted:?} evicted, {left} left");
    // What there is room for stays.
    assert!(left * load.len > LIMIT / 2, "{left} left");
    let doctor = client.ask("MEMORY DOCTOR");
    assert!(doctor.contains("keys are evicted"), "{doctor}");
    assert!(client.ask("INFO thermocline").contains("\r\nmemory_pressure:full\r\n"));

    // Once there is room again, nothing is evicted any more.
    assert_eq!(client.ask("FLUSHALL"), "+OK\r\n");
    wait_until("there is room", || {
        client.ask("INFO thermocline").contains("\r\nmemory_pressure:calm\r\n")
    });
    assert!(!client.ask("MEMORY DOCTOR").contains("keys are evicted"));
}

#[test]
fn a_full_cache_evicts_by_its_policy_and_serves_others_meanwhile() {
    let Some(server) = server("allkeys-lru") else {
        eprintln!("SKIPPED a_full_cache_evicts_by_its_policy: {NO_LIMIT}");
        return;
    };
    evicts_by_its_policy(&server, LARGE);
}

#[test]
fn a_full_cache_of_small_values_keeps_most_of_what_there_is_room_for() {
    let Some(server) = server("allkeys-lru") else {
        eprintln!("SKIPPED a_full_cache_of_small_values: {NO_LIMIT}");
        return;
    };
    evicts_by_its_policy(&server, SMALL);
}

#[test]
fn a_full_cache_refuses_writes_where_nothing_may_be_evicted() {
    let Some(server) = server("noeviction") else {
        eprintln!("SKIPPED a_full_cache_refuses_writes: {NO_LIMIT}");
        return;
    };
    let course = write_and_read(&server, LARGE);
    assert!(course.refused > LARGE.writes / 4, "{course:?}");
    assert!(course.reads_during_a_write >= 20, "{course:?}");
    assert!(course.most_memory <= LIMIT + SLACK, "{course:?}");

    let mut client = server.connect();
    // With the one that was read.
    assert_eq!(client.ask("DBSIZE"), format!(":{}\r\n", course.done + 1));
    assert_eq!(info(&mut client, "evicted_keys"), 0);
    let doctor = client.ask("MEMORY DOCTOR");
    assert!(doctor.contains("refused (noeviction)"), "{doctor}");
}
