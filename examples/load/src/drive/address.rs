//! The server's address, and connections to it.

use crate::BoxError;
use crate::resp::{self, Reply};
use mio::event::Source;
use mio::{Interest, Registry, Token};
use std::fmt;
use std::io::{self, Read, Write};
use std::net;
use std::os::unix::net as unix;
use std::path::PathBuf;
use std::time::Duration;

/// A server that sends nothing for this time counts as dead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(String),
    Unix(PathBuf),
}

impl From<String> for Address {
    /// An address with a slash or without a colon is a path.
    fn from(given: String) -> Self {
        if given.contains('/') || !given.contains(':') {
            Self::Unix(given.into())
        } else {
            Self::Tcp(given)
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Address {
    /// A non-blocking connection, after the server has answered these commands without an error.
    pub(crate) fn connect(&self, greeting: &[Vec<u8>]) -> Result<Socket, BoxError> {
        self.try_connect(greeting).map_err(|e| format!("{self}: {e}").into())
    }

    fn try_connect(&self, greeting: &[Vec<u8>]) -> Result<Socket, BoxError> {
        match self {
            Self::Tcp(address) => {
                let mut stream = net::TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                greet(&mut stream, greeting)?;
                stream.set_nonblocking(true)?;
                Ok(Socket::Tcp(mio::net::TcpStream::from_std(stream)))
            }
            Self::Unix(path) => {
                let mut stream = unix::UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                greet(&mut stream, greeting)?;
                stream.set_nonblocking(true)?;
                Ok(Socket::Unix(mio::net::UnixStream::from_std(stream)))
            }
        }
    }
}

/// Sends commands one by one, and checks their replies.
fn greet(stream: &mut (impl Read + Write), commands: &[Vec<u8>]) -> Result<(), BoxError> {
    for command in commands {
        stream.write_all(command)?;
        let mut answer = Vec::new();
        loop {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            answer.extend_from_slice(&byte);
            match resp::parse(&answer).map_err(|_| "this is not Redis' protocol")? {
                None => {}
                Some((Reply::Error(text), _)) => {
                    return Err(String::from_utf8_lossy(text).into());
                }
                Some(_) => break,
            }
        }
    }
    Ok(())
}

#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

impl Socket {
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let source: &mut dyn Source = match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        };
        registry.register(source, token, Interest::READABLE | Interest::WRITABLE)
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
