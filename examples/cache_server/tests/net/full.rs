//! Writes to a full cache: no thread sleeps, and the policy decides about eviction.

use crate::server::{Client, ServerProcess, request, wait_until};

const LIMIT: usize = 50 << 20;

/// The most bytes of a full process above its limit: a sixteenth, the allocator's free space between
/// values, and the writes between two measurements.
const SLACK: usize = 20 << 20;

/// More values than fit.
#[derive(Clone, Copy)]
struct Load {
    len: usize,
    writes: usize,
    fill: fn(&mut fastrand::Rng, &mut [u8]),
    /// The bytes of values that have to be left at the end.
    kept: usize,
}

/// Each value has pages of its own, which are freed with it. The values do not compress.
const LARGE: Load =
    Load { len: 16 << 10, writes: 9600, fill: fastrand::Rng::fill, kept: LIMIT / 2 };

/// Several values share a page, which stays until the last is evicted. They compress a little.
const SMALL: Load = Load { len: 1050, writes: 80_000, fill: words, kept: LIMIT / 2 };

/// Values that compress to a quarter, of which more than twice the limit's bytes fit. Most memory of the process is
/// compressed, so that few pages can be compressed to make room.
const PACKED: Load = Load { len: 300, writes: 800_000, fill: numbers, kept: 2 * LIMIT };

/// Random words of two thousand.
fn words(random: &mut fastrand::Rng, value: &mut [u8]) {
    for place in value.chunks_mut(7) {
        let word = format!("w{:05} ", random.u32(..2000) * 7919 % 100_000);
        place.copy_from_slice(&word.as_bytes()[..place.len()]);
    }
}

/// The digits of few random numbers, each repeated.
fn numbers(random: &mut fastrand::Rng, value: &mut [u8]) {
    for place in value.chunks_mut(100) {
        let text = format!("{:09},", random.u32(..1_000_000_000)).repeat(10);
        place.copy_from_slice(&text.as_bytes()[..place.len()]);
    }
}

/// A server of one thread with a memory limit, if the system supports compression.
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

/// The results of the writes.
#[derive(Debug, Default)]
struct Course {
    done: usize,
    refused: usize,
    most_memory: usize,
}

/// Makes writes one at a time. Another client of the same thread reads during each write.
fn write_and_read(server: &ServerProcess, load: Load) -> Course {
    let (mut reader, mut writer) = (server.connect(), server.connect());
    assert_eq!(reader.ask("SET read 1"), "+OK\r\n");
    let mut random = fastrand::Rng::with_seed(1);
    let mut course = Course::default();
    for n in 0..load.writes {
        let mut value = vec![0; load.len];
        (load.fill)(&mut random, &mut value);
        writer.send(request(&[&b"SET"[..], n.to_string().as_bytes(), &value]));
        while !writer.has_reply() {
            let reply = reader.ask("GET read");
            // The key may have been evicted.
            assert!(reply == "$1\r\n1\r\n" || reply == "$-1\r\n", "{reply}");
        }
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

/// Writes more values until the server is full and says this. A server that had no writes for some seconds is
/// not full, and the machine may have stopped this test for so long.
fn write_until_the_doctor_says(client: &mut Client, load: Load, text: &str) {
    let mut random = fastrand::Rng::with_seed(2);
    let mut value = vec![0; load.len];
    let mut names = 0_u64..;
    wait_until(text, || {
        for n in names.by_ref().take(100) {
            (load.fill)(&mut random, &mut value);
            client.send(request(&[&b"SET"[..], format!("more:{n}").as_bytes(), &value]));
            client.reply();
        }
        let doctor = client.ask("MEMORY DOCTOR");
        doctor.contains(text) && info_is(client, "memory_pressure", "full")
    });
}

fn info_is(client: &mut Client, field: &str, value: &str) -> bool {
    client.ask("INFO thermocline").contains(&format!("\r\n{field}:{value}\r\n"))
}

fn evicts_by_its_policy(server: &ServerProcess, load: Load) {
    let course = write_and_read(server, load);
    assert_eq!((course.done, course.refused), (load.writes, 0));
    assert!(course.most_memory <= LIMIT + SLACK, "{course:?}");

    let mut client = server.connect();
    // Evicting keys makes room, so that nearly no write waits for compression.
    let waits = info(&mut client, "memory_waits");
    assert!(waits <= load.writes / 20, "{waits} writes have waited, {course:?}");
    // Some more keys may be evicted meanwhile.
    let evicted = info(&mut client, "evicted_keys");
    let left = client.ask("DBSIZE");
    let left: usize = left[1..].trim_end().parse().unwrap();
    let evicted = evicted..=info(&mut client, "evicted_keys");
    assert!(evicted.contains(&(load.writes + 1 - left)), "{evicted:?} evicted, {left} left");
    // Most of the values that fit are kept.
    assert!(left * load.len > load.kept, "{left} left");
    write_until_the_doctor_says(&mut client, load, "keys are evicted");

    // When memory is free again, no more keys are evicted.
    assert_eq!(client.ask("FLUSHALL"), "+OK\r\n");
    wait_until("there is room", || info_is(&mut client, "memory_pressure", "calm"));
    assert!(!client.ask("MEMORY DOCTOR").contains("keys are evicted"));
}

#[test]
fn a_full_cache_evicts_by_its_policy_and_serves_reads_meanwhile() {
    let Some(server) = server("allkeys-lru") else {
        eprintln!("SKIPPED a_full_cache_evicts_by_its_policy: {NO_LIMIT}");
        return;
    };
    evicts_by_its_policy(&server, LARGE);
}

#[test]
fn a_full_cache_of_small_values_keeps_most_values_that_fit() {
    let Some(server) = server("allkeys-lru") else {
        eprintln!("SKIPPED a_full_cache_of_small_values: {NO_LIMIT}");
        return;
    };
    evicts_by_its_policy(&server, SMALL);
}

#[test]
fn a_full_cache_of_compressed_values_keeps_more_than_its_limit() {
    let Some(server) = server("allkeys-lru") else {
        eprintln!("SKIPPED a_full_cache_of_compressed_values: {NO_LIMIT}");
        return;
    };
    evicts_by_its_policy(&server, PACKED);
}

#[test]
fn a_full_cache_refuses_writes_with_noeviction() {
    let Some(server) = server("noeviction") else {
        eprintln!("SKIPPED a_full_cache_refuses_writes: {NO_LIMIT}");
        return;
    };
    let course = write_and_read(&server, LARGE);
    assert!(course.refused > LARGE.writes / 4, "{course:?}");
    assert!(course.most_memory <= LIMIT + SLACK, "{course:?}");

    let mut client = server.connect();
    // One more for the key that was read.
    assert_eq!(client.ask("DBSIZE"), format!(":{}\r\n", course.done + 1));
    assert_eq!(info(&mut client, "evicted_keys"), 0);
    write_until_the_doctor_says(&mut client, LARGE, "refused (noeviction)");
}
