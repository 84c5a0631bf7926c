//! Replies in RESP2 or RESP3, written straight into what is to be sent.

/// What the client speaks: RESP2 until it says `HELLO 3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// Writes the reply to one command. A nested reply is its header, then each element in turn.
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
        self.simple("OK");
    }

    /// A simple string.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text);
    }

    /// An error, its code first: `ERR value is not an integer or out of range`.
    pub fn error(&mut self, text: &str) {
        self.line(b'-', text);
    }

    /// An error that repeats what a client has sent. Line ends in it become spaces.
    pub fn error_bytes(&mut self, text: &[u8]) {
        self.out.push(b'-');
        let on_one_line = |&byte: &u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte };
        self.out.extend(text.iter().map(on_one_line));
        self.out.extend_from_slice(b"\r\n");
    }

    pub fn integer(&mut self, number: i64) {
        self.header(b':', number);
    }

    pub fn bulk(&mut self, bytes: &[u8]) {
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

    pub fn array(&mut self, len: usize) {
        self.header(b'*', len as i64);
    }

    /// `len` pairs of a key and a value. In RESP2 an array of twice as many.
    pub fn map(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.array(2 * len),
            Protocol::Resp3 => self.header(b'%', len as i64),
        }
    }

    /// What has been written so far, to [`rewind`](Self::rewind) to.
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// Takes back what was written since `position`: of a command that fails after all.
    pub fn rewind(&mut self, position: usize) {
        self.out.truncate(position);
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn line(&mut self, kind: u8, text: &str) {
        self.out.push(kind);
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    fn header(&mut self, kind: u8, number: i64) {
        self.line(kind, &number.to_string());
    }
}
