//! Invalid input: garbage, incomplete and oversized requests, and when the connection is closed.

use super::side::{Side, exchange, settle};
use crate::common::process::ServerProcess;

/// Raw bytes, each case on a connection of its own.
pub const CASES: [&[u8]; 79] = [
    b"",
    b"\r\n",
    b"\n\n\n",
    b"\0",
    b"\0\0\r\n",
    b"PING",
    b"PING\r",
    b"PING\n",
    b"PING\r\nPING\r\n",
    b"ping extra words here\r\n",
    b"SET k \"unbalanced\r\n",
    b"SET k 'unbalanced\r\nPING\r\n",
    b"SET k \"a\"b\r\n",
    b"SET k 'it\\'s'\r\nGET k\r\n",
    b"SET k \"\\x41\\n\\a\\q\"\r\nGET k\r\n",
    b"  \t PING  \t \r\n",
    b"\"PING\"\r\n",
    b"\"\"\r\n",
    b"no-such-command with arguments\r\n",
    b"$4\r\nPING\r\n",
    b"+OK\r\n",
    b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\nPING\r\n",
    b"Host: example.com\r\nPING\r\n",
    b"host: example.com\r\nPING\r\n",
    b"*\r\n",
    b"*\r\nPING\r\n",
    b"*0\r\nPING\r\n",
    b"*-1\r\nPING\r\n",
    b"*-100\r\nPING\r\n",
    b"*a\r\nPING\r\n",
    b"*1a\r\nPING\r\n",
    b"* 1\r\nPING\r\n",
    b"*+1\r\n$4\r\nPING\r\n",
    b"*01\r\n$4\r\nPING\r\n",
    b"*1\n$4\nPING\n",
    b"*1\r\n$4\r\nPING",
    b"*1\r\n$4\r\nPING\r",
    b"*1\r\n$4\r\nPINGxx",
    b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n",
    b"*1\r\nPING\r\n",
    b"*1\r\n:4\r\nPING\r\n",
    b"*1\r\n+PING\r\n",
    b"*1\r\n*1\r\n$4\r\nPING\r\n",
    b"*1\r\n\r\n",
    b"*1\r\n$\r\nPING\r\n",
    b"*1\r\n$-1\r\nPING\r\n",
    b"*1\r\n$0\r\n\r\n",
    b"*1\r\n$a\r\nPING\r\n",
    b"*1\r\n$4a\r\nPING\r\n",
    b"*1\r\n$04\r\nPING\r\n",
    b"*1\r\n$536870912\r\nPING\r\n",
    b"*1\r\n$536870913\r\nPING\r\n",
    b"*1\r\n$99999999999999999999\r\nPING\r\n",
    b"*1048576\r\n$4\r\nPING\r\n",
    b"*2147483647\r\n$4\r\nPING\r\n",
    b"*2147483648\r\n$4\r\nPING\r\n",
    b"*99999999999999999999\r\n",
    b"*2\r\n$3\r\nGET\r\n$-5\r\n",
    b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n",
    b"QUIT\r\nPING\r\n",
    b"quit now\r\nPING\r\n",
    b"CLIENT REPLY SKIP\r\nRESET\r\nPING\r\n",
    b"CLIENT REPLY SKIP\r\nPING\r\nRESET\r\nPING\r\n",
    b"CLIENT REPLY SKIP\r\nCLIENT REPLY SKIP\r\nRESET\r\nPING\r\n",
    b"RESET\r\nCLIENT REPLY SKIP\r\nRESET\r\nRESET\r\n",
    b"CLIENT REPLY OFF\r\nRESET\r\nPING\r\n",
    b"CLIENT REPLY OFF\r\nRESET\r\nCLIENT REPLY SKIP\r\nPING\r\nPING\r\n",
    b"CLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY ON\r\nPING\r\n",
    b"CLIENT REPLY OFF\r\nCLIENT REPLY SKIP\r\nPING\r\nECHO a\r\n",
    b"CLIENT REPLY OFF\r\nCLIENT REPLY NO\r\nPING\r\n",
    b"CLIENT REPLY OFF\r\nHELLO 3\r\nPING\r\n",
    b"CLIENT REPLY SKIP\r\nCLIENT REPLY ON\r\nPING\r\n",
    b"CLIENT REPLY SKIP\r\nCLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY ON\r\nECHO a\r\n",
    b"CLIENT REPLY SKIP\r\nCLIENT REPLY NO\r\nPING\r\n",
    b"CLIENT REPLY SKIP\r\nCLIENT REPLY\r\nPING\r\n",
    b"CLIENT REPLY SKIP\r\nNOSUCH\r\nPING\r\n",
    b"CLIENT REPLY SKIP\r\nHELLO 3\r\nPING\r\n",
    b"CLIENT REPLY SKIP\r\nPING\r\n*a\r\n",
];

/// Long cases, and generated ones.
pub fn long_cases() -> Vec<Vec<u8>> {
    let mut cases = vec![
        // A line without an end, longer than any line may be.
        vec![b'a'; 70_000],
        [&vec![b'a'; 65_000][..], b"\r\nPING\r\n"].concat(),
        [&vec![b'a'; 200_000][..], b"\r\nPING\r\n"].concat(),
        [b"*", &vec![b'1'; 70_000][..]].concat(),
        [b"*1\r\n$", &vec![b'1'; 70_000][..]].concat(),
        vec![b'\n'; 100_000],
        b"PING\r\n".repeat(1000),
        [b"*11\r\n", &b"$1\r\na\r\n".repeat(11)[..]].concat(),
        [b"*10\r\n", &b"$1\r\na\r\n".repeat(10)[..]].concat(),
        [b"*2\r\n$4\r\nECHO\r\n$16384\r\n", &vec![b'v'; 16_384][..], b"\r\n"].concat(),
        [b"*2\r\n$4\r\nECHO\r\n$16385\r\n", &vec![b'v'; 16_385][..], b"\r\n"].concat(),
    ];
    // Every first byte.
    cases.extend((0..=255_u8).map(|byte| vec![byte, b'1', b'\r', b'\n']));
    // Requests with one changed byte.
    let mut rng = fastrand::Rng::with_seed(1);
    let valid =
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n";
    cases.extend((0..300).map(|_| {
        let mut bytes = valid.to_vec();
        for _ in 0..rng.usize(1..3) {
            let at = rng.usize(..bytes.len());
            match rng.u8(..4) {
                0 => bytes[at] = rng.u8(..),
                1 => bytes[at] = b"*$\r\n0123456789-"[rng.usize(..15)],
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at + 1),
            }
        }
        bytes
    }));
    cases
}

/// Whether the case is compared: false if Redis' behaviour depends on timing or this server's differs.
/// There are two reasons:
///
/// - Redis searches for the end of a line only up to the first zero byte, and waits for ever. This
///   server treats the zero byte as a part of a word.
/// - Redis closes a connection with HTTP input before it has sent all earlier replies: their number
///   depends on how the bytes arrive. This server sends them.
///
/// A third difference is in no case: Redis closes a connection after it has sent the last reply. After
/// `QUIT` or invalid input it does not close the connection if that reply is skipped (`CLIENT REPLY`).
/// This server does.
pub fn is_compared(before: &[u8], bytes: &[u8]) -> bool {
    let http = |word: &[u8]| [b"host:", b"post "].iter().any(|h| word.eq_ignore_ascii_case(*h));
    !bytes.contains(&0) && ![before, bytes].concat().windows(5).skip(1).any(http)
}

/// Sends these bytes to both servers, and returns a difference in their replies, in whether they close
/// the connection, or in their replies after the client has shut down writing.
pub fn difference(
    redis: &ServerProcess,
    ours: &ServerProcess,
    before: &[u8],
    bytes: &[u8],
    piece: usize,
) -> Option<String> {
    let mut sides = [Side::new(redis), Side::new(ours)];
    let same = |sides: &[Side<'_>; 2]| {
        sides[0].inbox == sides[1].inbox && sides[0].closed == sides[1].closed
    };
    exchange(&mut sides, &[before, bytes].concat(), piece, 0);
    let before_end = settle(&mut sides, same);
    sides.iter().for_each(Side::half_close);
    if before_end && settle(&mut sides, |sides| same(sides) && sides[0].closed) {
        return None;
    }
    let seen = sides.each_ref().map(|side| {
        let state = if side.closed { "closed" } else { "open" };
        format!("{} ({state})", side.inbox.escape_ascii())
    });
    let short = bytes[..bytes.len().min(200)].escape_ascii();
    let end = if before_end { ", after the end of what is sent" } else { "" };
    Some(format!("{short}{end}\n  redis: {}\n   ours: {}", seen[0], seen[1]))
}
