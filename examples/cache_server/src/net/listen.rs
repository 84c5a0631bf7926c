//! Listening sockets, and which clients they accept.

use super::Stream;
use crate::server::Server;
use crate::session::Client;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How long the server accepts no client after the process has run out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The most connections accepted in one call.
const MAX_ACCEPTS: usize = 1000;

/// Why the server cannot listen on an address.
#[derive(Debug)]
pub struct BindError {
    address: String,
    error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.error)?;
        match self.error.kind() {
            io::ErrorKind::AddrInUse => f.write_str(
                "; another server does, or it is a file, so stop that or choose another place",
            ),
            io::ErrorKind::PermissionDenied => f.write_str("; choose another place or user"),
            io::ErrorKind::NotFound => f.write_str("; make its directory first"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    /// The file is removed when this is dropped.
    Unix(UnixListener, PathBuf),
}

/// All listening sockets.
#[derive(Debug)]
pub struct Listeners {
    all: Vec<Listener>,
    /// The end of a pause in accepting clients.
    paused_until: Option<Instant>,
}

impl Listeners {
    pub fn bind(tcp: &[SocketAddr], unix: Option<&Path>) -> Result<Self, BindError> {
        let mut all = Vec::new();
        for &address in tcp {
            let listener = bind_tcp(address)
                .map_err(|error| BindError { address: address.to_string(), error })?;
            all.push(Listener::Tcp(listener));
        }
        if let Some(path) = unix {
            let listener = bind_unix(path)
                .map_err(|error| BindError { address: path.display().to_string(), error })?;
            all.push(Listener::Unix(listener, path.to_owned()));
        }
        Ok(Self { all, paused_until: None })
    }

    /// The addresses, for the user.
    pub fn addresses(&self) -> Vec<String> {
        let address = |listener: &Listener| match listener {
            Listener::Tcp(tcp) => {
                tcp.local_addr().map_or_else(|e| e.to_string(), |address| address.to_string())
            }
            Listener::Unix(_, path) => path.display().to_string(),
        };
        self.all.iter().map(address).collect()
    }

    /// Registers the sockets, with tokens from 0 on.
    pub fn register(&mut self, registry: &Registry) -> io::Result<()> {
        for (i, listener) in self.all.iter_mut().enumerate() {
            match listener {
                Listener::Tcp(tcp) => registry.register(tcp, Token(i), Interest::READABLE)?,
                Listener::Unix(unix, _) => registry.register(unix, Token(i), Interest::READABLE)?,
            }
        }
        Ok(())
    }

    /// Accepts waiting clients. True if more may be waiting, so that the caller must call again soon.
    pub fn accept(&mut self, server: &Server) -> bool {
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            return true;
        }
        self.paused_until = None;
        let mut more = false;
        for listener in &self.all {
            for left in (0..MAX_ACCEPTS).rev() {
                match listener.accept() {
                    Ok(Accepted { stream, address, local }) => {
                        welcome(server, stream, address, local);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if is_exhaustion(&error) => {
                        // The client stays in the socket's backlog.
                        self.paused_until = Some(Instant::now() + ACCEPT_PAUSE);
                        more = true;
                        break;
                    }
                    // The client has disconnected.
                    Err(_) => {}
                }
                more |= left == 0;
            }
        }
        more
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        for listener in &self.all {
            if let Listener::Unix(_, path) = listener {
                // Another process may have removed the file.
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

struct Accepted {
    stream: Stream,
    address: String,
    local: String,
}

impl Listener {
    fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                let local = stream.local_addr().map_or_else(|_| String::new(), |a| a.to_string());
                Ok(Accepted { stream: Stream::Tcp(stream), address: address.to_string(), local })
            }
            Self::Unix(listener, path) => {
                let (stream, _) = listener.accept()?;
                let address = format!("{}:0", path.display());
                Ok(Accepted { stream: Stream::Unix(stream), local: address.clone(), address })
            }
        }
    }
}

fn welcome(server: &Server, mut stream: Stream, address: String, local: String) {
    let settings = &server.settings;
    if server.clients.count() >= settings.maxclients.load(Relaxed) {
        server.clients.reject();
        // The socket's buffer is empty, so it takes the line, unless the client has disconnected.
        let _ = stream.write(b"-ERR max number of clients reached\r\n");
        return;
    }
    if let Stream::Tcp(tcp) = &stream {
        // Replies are sent without delay, and a vanished peer is noticed. A connection also works without
        // both options.
        let _ = tcp.set_nodelay(true);
        let seconds = settings.tcp_keepalive.load(Relaxed);
        if seconds > 0 {
            let (idle, again) =
                (Duration::from_secs(seconds), Duration::from_secs((seconds / 3).max(1)));
            let keepalive =
                TcpKeepalive::new().with_time(idle).with_interval(again).with_retries(3);
            let _ = SockRef::from(tcp).set_tcp_keepalive(&keepalive);
        }
    }
    let descriptor = stream.descriptor();
    let now = server.seconds();
    server.clients.open(stream, |id| Client::new(id, address, local, descriptor, now));
}

fn is_exhaustion(error: &io::Error) -> bool {
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| exhausted.contains(&errno))
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(511)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Replaces a socket file without a listener, and no other file.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match BlockingUnixStream::connect(path) {
                // connect(2) also refuses a file that is no socket.
                Err(refused)
                    if refused.kind() == io::ErrorKind::ConnectionRefused
                        && std::fs::symlink_metadata(path)?.file_type().is_socket() =>
                {
                    std::fs::remove_file(path)?;
                    UnixListener::bind(path)
                }
                _ => Err(error),
            }
        }
        bound => bound,
    }
}
