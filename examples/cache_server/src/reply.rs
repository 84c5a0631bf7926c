//! Replies in RESP2 or RESP3, written directly to a connection's output.

use std::io::Write;

/// The protocol of a client: RESP2 until it sends `HELLO 3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// Writes the reply to one command: for an array or map first its header, then each element.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

impl<'a> Reply<'a> {
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Self { out, protocol }
    }

    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A simple string.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error, its code first: `ERR value is not an integer or out of range`.
    pub fn error(&mut self, text: &str) {
        self.error_bytes(text.as_bytes());
    }

    /// An error that repeats bytes of the client. Line ends in them become spaces.
    pub fn error_bytes(&mut self, text: &[u8]) {
        let start = self.out.len() + 1;
        // As in Redis: line ends become spaces, and those at the end are removed.
        let end = text.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
        self.line(b'-', &text[..end]);
        let end = self.out.len() - 2;
        for byte in &mut self.out[start..end] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
    }

    /// An error that quotes bytes of the client up to the first zero byte.
    pub fn error_quoting(&mut self, before: &str, quoted: &[u8], after: &str) {
        let end = memchr::memchr(0, quoted).unwrap_or(quoted.len());
        self.error_bytes(&[before.as_bytes(), &quoted[..end], after.as_bytes()].concat());
    }

    pub fn integer(&mut self, number: i64) {
        match number {
            0 => self.out.extend_from_slice(b":0\r\n"),
            1 => self.out.extend_from_slice(b":1\r\n"),
            _ => self.header(b':', number),
        }
    }

    pub fn bulk(&mut self, bytes: &[u8]) {
        // One check of the capacity; without it a large value could double the buffer.
        self.out.reserve(bytes.len() + 24);
        self.header(b'$', bytes.len() as i64);
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    pub fn null(&mut self) {
        let null: &[u8] = match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        };
        self.out.extend_from_slice(null);
    }

    /// The reply to a transaction that was not executed.
    pub fn null_array(&mut self) {
        let null: &[u8] = match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        };
        self.out.extend_from_slice(null);
    }

    pub fn array(&mut self, len: usize) {
        self.header(b'*', len as i64);
    }

    /// An unordered array. In RESP2 an ordinary array.
    pub fn set(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.array(len),
            Protocol::Resp3 => self.header(b'~', len as i64),
        }
    }

    /// A map of `len` pairs. In RESP2 an array of twice that length.
    pub fn map(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.array(2 * len),
            Protocol::Resp3 => self.header(b'%', len as i64),
        }
    }

    /// A number with the digits that C's `%.17g` prints. In RESP2 a bulk string.
    pub fn double(&mut self, value: f64) {
        let text = seventeen_digits(value);
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => self.line(b',', text.as_bytes()),
        }
    }

    /// Text for people, in a format such as `txt` or `mkd`. In RESP2 a bulk string.
    pub fn verbatim(&mut self, format: [u8; 3], text: &[u8]) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.header(b'=', text.len() as i64 + 4);
                self.out.extend_from_slice(&format);
                self.out.push(b':');
                self.out.extend_from_slice(text);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// The number of bytes written, for [`rewind`](Self::rewind).
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// Removes the bytes written since `position`, when a command fails late.
    pub fn rewind(&mut self, position: usize) {
        self.out.truncate(position);
    }

    /// A reply within this one.
    pub fn part(&mut self, protocol: Protocol) -> Reply<'_> {
        Reply { out: self.out, protocol }
    }

    /// Whether the bytes since `position` are an error.
    pub fn is_error_since(&self, position: usize) -> bool {
        self.out.get(position) == Some(&b'-')
    }

    /// Sets the protocol of the following output: `HELLO` answers in the new protocol.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.push(kind);
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }

    fn header(&mut self, kind: u8, number: i64) {
        let mut digits = itoa::Buffer::new();
        self.line(kind, digits.format(number).as_bytes());
    }
}

/// Formats as C's `%.17g`.
fn seventeen_digits(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{value:.16e}");
    let (digits, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("a small number");
    if (-4..17).contains(&exponent) {
        let decimals = usize::try_from(16 - exponent).expect("at most 16");
        return trimmed(&format!("{value:.decimals$}")).into();
    }
    let mut text = trimmed(digits).as_bytes().to_vec();
    let sign = if exponent < 0 { '-' } else { '+' };
    write!(text, "e{sign}{:02}", exponent.abs()).expect("memory takes it all");
    String::from_utf8(text).expect("digits")
}

fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, write: impl FnOnce(&mut Reply<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Reply::new(&mut out, protocol));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_type_is_written_in_both_protocols() {
        type Write = fn(&mut Reply<'_>);
        let cases: [(Write, &str, &str); 11] = [
            (|r| r.ok(), "+OK\r\n", "+OK\r\n"),
            (|r| r.integer(-7), ":-7\r\n", ":-7\r\n"),
            (|r| r.bulk(b"a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n"),
            (|r| r.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (|r| r.null(), "$-1\r\n", "_\r\n"),
            (|r| r.null_array(), "*-1\r\n", "_\r\n"),
            (|r| r.array(3), "*3\r\n", "*3\r\n"),
            (|r| r.map(3), "*6\r\n", "%3\r\n"),
            (|r| r.set(3), "*3\r\n", "~3\r\n"),
            (|r| r.double(0.5), "$3\r\n0.5\r\n", ",0.5\r\n"),
            (|r| r.verbatim(*b"txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
        ];
        for (write, resp2, resp3) in cases {
            assert_eq!(written(Protocol::Resp2, write), resp2);
            assert_eq!(written(Protocol::Resp3, write), resp3);
        }
    }

    #[test]
    fn an_error_is_one_line() {
        let error = written(Protocol::Resp2, |r| r.error_bytes(b"ERR no 'a\r\nb'"));
        assert_eq!(error, "-ERR no 'a  b'\r\n");
    }

    #[test]
    fn doubles_have_the_digits_that_c_prints() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (0.1, "0.10000000000000001"),
            (1e21, "1e+21"),
            (1.5e-7, "1.4999999999999999e-07"),
            (123_456_789.0, "123456789"),
            (f64::INFINITY, "inf"),
        ];
        for (value, text) in cases {
            assert_eq!(seventeen_digits(value), text);
        }
    }
}
