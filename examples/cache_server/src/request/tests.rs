//! Valid and invalid requests, in one piece and in many.

use super::{Limits, Next, Parser, ProtocolError};
use proptest::prelude::*;

type Requests = Vec<Vec<Vec<u8>>>;

const USUAL: Limits = Limits { bulk: 512 << 20, unauthenticated: false };
const UNAUTHENTICATED: Limits = Limits { unauthenticated: true, ..USUAL };

/// All requests in the pieces, and the error after them.
fn parse(pieces: &[&[u8]], limits: Limits) -> (Requests, Option<ProtocolError>) {
    let mut parser = Parser::default();
    let (mut input, mut requests) = (Vec::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match parser.next(&input, limits) {
                Next::Request => {
                    let source = if parser.was_words() { parser.words() } else { &input };
                    let arguments = parser.arguments().iter().map(|span| span.of(source).to_vec());
                    requests.push(arguments.collect());
                }
                Next::Incomplete { .. } => break,
                Next::Error(error) => return (requests, Some(error)),
            }
        }
        let done = parser.done();
        input.drain(..done);
        parser.forget(done);
    }
    (requests, None)
}

fn parsed(input: &[u8]) -> (Requests, Option<ProtocolError>) {
    parse(&[input], USUAL)
}

fn requests(input: &str) -> Vec<Vec<String>> {
    let (requests, error) = parsed(input.as_bytes());
    assert_eq!(error, None, "{input:?}");
    let text = |request: Vec<Vec<u8>>| request.into_iter().map(|a| String::from_utf8(a).unwrap());
    requests.into_iter().map(|request| text(request).collect()).collect()
}

#[test]
fn arrays_of_bulk_strings_are_parsed() {
    assert_eq!(
        requests("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n"),
        [vec!["GET", "k"], vec!["PING"]]
    );
    assert_eq!(requests("*1\r\n$0\r\n\r\n"), [[""]]);
    assert_eq!(requests("*1\r\n$2\r\n\r\n\r\n"), [["\r\n"]]);
    assert!(requests("*0\r\n*-1\r\n*-5\r\n").is_empty());
    // The bytes in place of a line end are not checked.
    assert_eq!(requests("*1\rx$4\r?PINGxx*1\r\n$1\r\na\r\n"), [["PING"], ["a"]]);
}

#[test]
fn lines_of_words_are_parsed() {
    assert_eq!(requests("SET k v\r\nPING\n"), [vec!["SET", "k", "v"], vec!["PING"]]);
    assert_eq!(requests(" a \t b\x0bc \r\n"), [["a", "b", "c"]]);
    assert!(requests("\r\n\n   \r\n").is_empty());
    assert_eq!(requests("a \"b c\" 'd e' \"\" ''\r\n"), [["a", "b c", "d e", "", ""]]);
    assert_eq!(requests("\"\\x41\\n\\r\\t\\b\\a\\\"\\\\\\q\\x4\"\n"), [["A\n\r\t\x08\x07\"\\qx4"]]);
    assert_eq!(requests("'a\\'b\\n'\n"), [["a'b\\n"]]);
    assert_eq!(requests("foo\"bar\" x\n"), [["foobar", "x"]]);
    assert_eq!(requests("a\0b\n"), [["a\0b"]]);
}

#[test]
fn inline_requests_and_arrays_can_alternate() {
    let input = "ping\r\n*1\r\n$4\r\nping\r\nping x\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n";
    assert_eq!(requests(input), [vec!["ping"], vec!["ping"], vec!["ping", "x"], vec!["a", "b"]]);
}

#[test]
fn invalid_requests_are_errors() {
    use ProtocolError as E;
    let nothing: Requests = Vec::new();
    for (input, error) in [
        ("*x\r\n", E::ArgumentCount),
        ("*\r\n", E::ArgumentCount),
        ("*01\r\n", E::ArgumentCount),
        ("* 1\r\n", E::ArgumentCount),
        ("*2147483648\r\n", E::ArgumentCount),
        ("*1\r\nx\r\n", E::NoArgument { found: b'x' }),
        ("*1\r\n*1\r\n", E::NoArgument { found: b'*' }),
        ("*1\r\n$-1\r\n", E::ArgumentLength),
        ("*1\r\n$x\r\n", E::ArgumentLength),
        ("*1\r\n$\r\n", E::ArgumentLength),
        ("*1\r\n$536870913\r\n", E::ArgumentLength),
        ("\"abc\r\n", E::UnbalancedQuotes),
        ("'abc\r\n", E::UnbalancedQuotes),
        ("\"a\"b\r\n", E::UnbalancedQuotes),
        ("'a'b\r\n", E::UnbalancedQuotes),
        ("\"a\\\r\n", E::UnbalancedQuotes),
    ] {
        assert_eq!(parsed(input.as_bytes()), (nothing.clone(), Some(error)), "{input:?}");
    }
    // The requests before the error are returned.
    let (before, error) = parsed(b"PING\r\n*1\r\n:1\r\n");
    assert_eq!((before.len(), error), (1, Some(E::NoArgument { found: b':' })));
}

#[test]
fn errors_have_the_words_of_redis() {
    use ProtocolError as E;
    for (error, text) in [
        (E::ArgumentCount, "invalid multibulk length"),
        (E::ArgumentCountTooLong, "too big mbulk count string"),
        (E::ArgumentLength, "invalid bulk length"),
        (E::ArgumentLengthTooLong, "too big bulk count string"),
        (E::NoArgument { found: b'x' }, "expected '$', got 'x'"),
        (E::LineTooLong, "too big inline request"),
        (E::UnbalancedQuotes, "unbalanced quotes in request"),
        (E::UnauthenticatedCount, "unauthenticated multibulk length"),
        (E::UnauthenticatedLength, "unauthenticated bulk length"),
    ] {
        let text = format!("ERR Protocol error: {text}");
        assert_eq!(error.message(), text.as_bytes());
    }
}

#[test]
fn lines_have_a_maximum_length() {
    use ProtocolError as E;
    let line = |start: &str, len: usize| [start, &"1".repeat(len - start.len())].concat();
    for (start, error) in [
        ("x", E::LineTooLong),
        ("*", E::ArgumentCountTooLong),
        ("*1\r\n$", E::ArgumentLengthTooLong),
    ] {
        let header = start.rfind('\n').map_or(0, |end| end + 1);
        let longest = line(start, header + (64 << 10));
        assert_eq!(parsed(longest.as_bytes()), (vec![], None), "{start}");
        assert_eq!(parsed(line(start, header + (64 << 10) + 1).as_bytes()).1, Some(error));
    }
    let longest = format!("{}\n", "x".repeat(64 << 10));
    assert_eq!(requests(&longest)[0][0].len(), 64 << 10);
    assert_eq!(parsed(format!("x{longest}").as_bytes()).1, Some(E::LineTooLong));
}

#[test]
fn without_the_password_requests_must_be_small() {
    use ProtocolError as E;
    let parse = |input: &[u8]| parse(&[input], UNAUTHENTICATED).1;
    assert_eq!(parse(b"*10\r\n$16384\r\n"), None);
    assert_eq!(parse(b"*11\r\n"), Some(E::UnauthenticatedCount));
    assert_eq!(parse(b"*1\r\n$16385\r\n"), Some(E::UnauthenticatedLength));
}

#[test]
fn a_long_argument_reports_its_missing_bytes() {
    let mut parser = Parser::default();
    let input = b"*2\r\n$3\r\nSET\r\n$1000\r\nabc";
    assert_eq!(parser.next(input, USUAL), Next::Incomplete { missing: 999 });
    // The whole request is still needed.
    assert_eq!(parser.done(), 0);
}

#[test]
fn going_back_finds_the_same_request_again() {
    let input = b"*1\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\n*1\r\n$1";
    let mut parser = Parser::default();
    assert_eq!(parser.next(input, USUAL), Next::Request);
    let behind = parser.position();
    assert_eq!(parser.next(input, USUAL), Next::Request);
    assert_eq!(parser.next(input, USUAL), Next::Incomplete { missing: 0 });
    parser.go_back(behind);
    assert_eq!(parser.done(), behind);
    assert_eq!(parser.next(input, USUAL), Next::Request);
    assert_eq!(parser.arguments()[0].of(input), b"b");
}

/// Requests, possibly with errors among them.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let word = proptest::collection::vec(any::<u8>(), 0..20);
    let bulks = proptest::collection::vec(word.clone(), 0..5).prop_map(|arguments| {
        let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            request.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            request.extend_from_slice(&argument);
            request.extend_from_slice(b"\r\n");
        }
        request
    });
    let line = word.prop_map(|mut word| {
        word.extend_from_slice(b"\r\n");
        word
    });
    let token = proptest::sample::select(vec!["*", "$", "\r\n", "1", "-", "\"", "'", " ", "\\x"]);
    let token = token.prop_map(|token| token.as_bytes().to_vec());
    let piece = prop_oneof![6 => bulks, 2 => line, 1 => token];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn splitting_the_input_does_not_change_the_result(
        input in anything(),
        splits in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
    ) {
        let mut splits: Vec<usize> = splits.iter().map(|at| at.index(input.len() + 1)).collect();
        splits.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for at in splits {
            pieces.push(&input[from..at]);
            from = at;
        }
        pieces.push(&input[from..]);
        let whole = parsed(&input);
        prop_assert_eq!(&parse(&pieces, USUAL), &whole);
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(&parse(&bytes, USUAL), &whole);
    }

    #[test]
    fn written_requests_are_parsed_back(
        request in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 1..8)
    ) {
        let mut input = format!("*{}\r\n", request.len()).into_bytes();
        for argument in &request {
            input.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            input.extend_from_slice(argument);
            input.extend_from_slice(b"\r\n");
        }
        prop_assert_eq!(parsed(&input), (vec![request], None));
    }
}

/// A request that has arrived in two parts, and waits for memory, is parsed again from its beginning.
#[test]
fn the_parser_goes_back_to_a_request_that_began_earlier() {
    let whole = b"PING\r\n*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$7\r\nv\r\n a\"b\r\n";
    for split in b"PING\r\n".len()..whole.len() {
        let mut parser = Parser::default();
        assert_eq!(parser.next(&whole[..split], USUAL), Next::Request);
        assert!(matches!(parser.next(&whole[..split], USUAL), Next::Incomplete { .. }));
        let done = parser.done();
        assert_eq!(done, b"PING\r\n".len());
        parser.forget(done);
        let rest = &whole[done..];
        let start = parser.done();
        for _ in 0..3 {
            assert_eq!(parser.next(rest, USUAL), Next::Request);
            let arguments: Vec<&[u8]> = parser.arguments().iter().map(|a| a.of(rest)).collect();
            assert_eq!(arguments, [&b"SET"[..], b"key", b"v\r\n a\"b"], "{split}");
            parser.go_back(start);
        }
    }
}
