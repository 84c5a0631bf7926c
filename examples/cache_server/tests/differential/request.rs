//! Requests, and their encodings.

use std::fmt;

/// The encoding of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Multibulk,
    /// A line of words, quoted if necessary.
    Inline,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub args: Vec<Vec<u8>>,
    pub framing: Framing,
    /// Input that servers skip without a reply: empty lines, requests without arguments.
    pub noise: &'static [u8],
}

impl Request {
    pub fn new<A: AsRef<[u8]>>(args: impl IntoIterator<Item = A>) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_vec()).collect();
        Self { args, framing: Framing::Multibulk, noise: b"" }
    }

    /// A command from plain words: `words("SET key value")`.
    pub fn words(text: &str) -> Self {
        Self::new(text.split(' '))
    }

    /// An argument in upper case, empty if it does not exist.
    pub fn word(&self, index: usize) -> String {
        let arg = self.args.get(index).map_or(&[][..], Vec::as_slice);
        String::from_utf8_lossy(&arg[..arg.len().min(64)]).to_ascii_uppercase()
    }

    /// Whether an argument is this word.
    pub fn has(&self, word: &str) -> bool {
        self.args.iter().any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.noise);
        match self.framing {
            Framing::Multibulk => {
                out.extend_from_slice(format!("*{}\r\n", self.args.len()).as_bytes());
                for arg in &self.args {
                    out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
                    out.extend_from_slice(arg);
                    out.extend_from_slice(b"\r\n");
                }
            }
            Framing::Inline => {
                for (index, arg) in self.args.iter().enumerate() {
                    out.extend_from_slice(if index > 0 { b" " } else { b"" });
                    quote(arg, out);
                }
                out.extend_from_slice(b"\r\n");
            }
        }
    }
}

/// Quotes a word as inline requests and redis-cli expect it.
fn quote(arg: &[u8], out: &mut Vec<u8>) {
    if !arg.is_empty() && arg.iter().all(|b| b.is_ascii_graphic() && !b"\"'\\".contains(b)) {
        return out.extend_from_slice(arg);
    }
    out.push(b'"');
    for &byte in arg {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b' '..=b'~' => out.push(byte),
            _ => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    out.push(b'"');
}

/// Displayed as input to redis-cli, with long arguments cut.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, arg) in self.args.iter().enumerate() {
            let mut text = Vec::new();
            quote(&arg[..arg.len().min(80)], &mut text);
            let gap = if index > 0 { " " } else { "" };
            write!(f, "{gap}{}", String::from_utf8_lossy(&text))?;
            if arg.len() > 80 {
                write!(f, "...({} bytes)", arg.len())?;
            }
        }
        match self.framing {
            Framing::Multibulk => Ok(()),
            Framing::Inline => write!(f, "    (inline)"),
        }
    }
}

/// A request and how it is sent in its program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub request: Request,
    /// Sent on a new connection.
    pub reconnects: bool,
    /// Ends a batch: all requests since the last batch are sent at once, and then their replies are read.
    pub ends_batch: bool,
    /// The batch is written in pieces of this many bytes.
    pub piece: usize,
}

impl Step {
    pub fn alone(request: Request) -> Self {
        Self { request, reconnects: false, ends_batch: true, piece: usize::MAX }
    }
}
