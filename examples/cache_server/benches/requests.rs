//! Parsing pipelined requests: this server's parser, and that of the redis-protocol crate, which builds
//! a tree of frames for each request, with its bytes or with their positions.
//!
//! A round is 64 requests, GET and SET in turn, with values of 64 bytes.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use redis_protocol::resp2;
use std::hint::black_box;

#[path = "../src/request/mod.rs"]
#[allow(dead_code, unused_imports, reason = "only the server uses all of it")]
mod request;

const REQUESTS: u64 = 64;

const USUAL: request::Limits = request::Limits { bulk: 512 << 20, unauthenticated: false };

fn pipeline() -> Vec<u8> {
    let value = "v".repeat(64);
    (0..REQUESTS)
        .flat_map(|n| {
            let key = format!("key:{n:012}");
            let len = key.len();
            match n % 2 {
                0 => format!("*2\r\n$3\r\nGET\r\n${len}\r\n{key}\r\n"),
                _ => format!("*3\r\n$3\r\nSET\r\n${len}\r\n{key}\r\n$64\r\n{value}\r\n"),
            }
            .into_bytes()
        })
        .collect()
}

fn ours(input: &[u8]) -> usize {
    let mut parser = request::Parser::default();
    let mut bytes = 0;
    while parser.next(input, USUAL) == request::Next::Request {
        bytes += parser.arguments().iter().map(|span| span.of(input).len()).sum::<usize>();
    }
    bytes
}

fn frames_of_places(mut input: &[u8]) -> usize {
    let mut bytes = 0;
    while let Ok(Some((resp2::types::RangeFrame::Array(frames), len))) =
        resp2::decode::decode_range(input)
    {
        for frame in &frames {
            if let resp2::types::RangeFrame::BulkString((start, end)) = frame {
                bytes += input[*start..*end].len();
            }
        }
        input = &input[len..];
    }
    bytes
}

fn frames_of_bytes(mut input: &[u8]) -> usize {
    let mut bytes = 0;
    while let Ok(Some((resp2::types::OwnedFrame::Array(frames), len))) =
        resp2::decode::decode(input)
    {
        for frame in &frames {
            if let resp2::types::OwnedFrame::BulkString(value) = frame {
                bytes += value.len();
            }
        }
        input = &input[len..];
    }
    bytes
}

fn requests(criterion: &mut Criterion) {
    let input = pipeline();
    assert!(ours(&input) > 0);
    assert_eq!(ours(&input), frames_of_places(&input));
    assert_eq!(ours(&input), frames_of_bytes(&input));
    let mut group = criterion.benchmark_group("requests");
    group.throughput(Throughput::Elements(REQUESTS));
    for (name, parse) in [
        ("ours", ours as fn(&[u8]) -> usize),
        ("redis-protocol, places", frames_of_places),
        ("redis-protocol, bytes", frames_of_bytes),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| parse(black_box(&input))));
    }
    group.finish();
}

criterion_group!(benches, requests);
criterion_main!(benches);
