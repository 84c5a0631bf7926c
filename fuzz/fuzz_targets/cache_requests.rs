//! The cache server's parser must find the same requests and the same error in any bytes, whether it gets
//! them in one piece or in several.
//!
//! The first byte gives the length of the pieces, and whether there is a password.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../examples/cache_server/src/request/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the server uses the rest")]
mod request;

use request::{Limits, Next, Parser, ProtocolError};

type Requests = Vec<Vec<Vec<u8>>>;

fuzz_target!(|input: &[u8]| {
    let Some((&how, input)) = input.split_first() else { return };
    let limits = Limits { bulk: 512 << 20, unauthenticated: how & 1 == 1 };
    let whole = parse(input.chunks(input.len().max(1)), limits);
    let pieces = parse(input.chunks(usize::from(how >> 1) + 1), limits);
    assert!(whole == pieces);
    assert!(whole.0.iter().all(|request| !request.is_empty()));
    if let Some(error) = whole.1 {
        assert!(error.message().starts_with(b"ERR Protocol error: "));
    }
});

fn parse<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    limits: Limits,
) -> (Requests, Option<ProtocolError>) {
    let mut parser = Parser::default();
    let (mut input, mut requests) = (Vec::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match parser.next(&input, limits) {
                Next::Request => {
                    let source = if parser.was_words() { parser.words() } else { &input };
                    let found = parser.arguments().iter().map(|span| span.of(source).to_vec());
                    let found: Vec<Vec<u8>> = found.collect();
                    let length: usize = found.iter().map(Vec::len).sum();
                    assert!(parser.position() <= input.len() && length <= input.len());
                    requests.push(found);
                }
                Next::Incomplete { missing } => {
                    assert!(missing < 1 << 30);
                    break;
                }
                Next::Error(error) => return (requests, Some(error)),
            }
        }
        let done = parser.done();
        assert!(done <= input.len());
        input.drain(..done);
        parser.forget(done);
        parser.shrink();
    }
    (requests, None)
}
