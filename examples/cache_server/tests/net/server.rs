//! A server for each test, on a Unix socket in a directory of its own.

#![allow(dead_code, reason = "each test uses what it needs")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for any machine: a test that takes this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until the condition is true.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The server's program, without a listener unless the arguments add one.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cache_server"));
    command.args(["--port", "0", "--or-plain-memory"]);
    command
}

/// A running server, which is killed when this is dropped.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    out: BufReader<ChildStdout>,
    /// The line that the server printed when it began to listen.
    pub greeting: String,
    pub path: PathBuf,
    _folder: tempfile::TempDir,
}

impl ServerProcess {
    /// Starts the server with further arguments, and waits until it listens.
    pub fn start(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        Self::start_at(folder, path, args)
    }

    pub fn start_at(folder: tempfile::TempDir, path: PathBuf, args: &[&str]) -> Self {
        let mut child = program()
            .arg("--unixsocket")
            .arg(&path)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut greeting = String::new();
        while !greeting.starts_with("listening on ") {
            greeting.clear();
            assert!(out.read_line(&mut greeting).unwrap() > 0, "the server has not started");
        }
        Self { child, out, greeting, path, _folder: folder }
    }

    pub fn connect(&self) -> Client {
        Client::connect(&self.path)
    }

    /// Sends a signal, for example `TERM`.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Waits for the server's end. Returns its status and its last line.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let mut status = None;
        wait_until("the server has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let mut last = String::new();
        self.out.read_to_string(&mut last).unwrap();
        (status.unwrap(), last)
    }

    /// Bytes of private memory, without the arena's pages.
    pub fn memory(&self) -> usize {
        self.status("RssAnon:")
    }

    /// Bytes of memory with the arena's pages, mapped or not.
    pub fn resident(&self) -> usize {
        self.memory() + self.status("RssFile:") + self.arena_pages()
    }

    /// Resident bytes of the arena's memfd.
    fn arena_pages(&self) -> usize {
        let files = fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let paths = files.filter_map(|file| Some(file.ok()?.path()));
        let is_arena = |path: &PathBuf| {
            fs::read_link(path)
                .is_ok_and(|name| name.to_string_lossy().starts_with("/memfd:thermocline"))
        };
        paths.filter(is_arena).map(|path| fs::metadata(path).unwrap().blocks() as usize * 512).sum()
    }

    fn status(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // The process may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection that compares replies byte by byte.
#[derive(Debug)]
pub struct Client(pub UnixStream);

impl Client {
    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// Shuts down writing.
    pub fn end(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads the next bytes and compares them.
    #[track_caller]
    pub fn expect(&mut self, wanted: impl AsRef<[u8]>) {
        let wanted = wanted.as_ref();
        let mut bytes = vec![0; wanted.len()];
        let mut len = 0;
        while len < bytes.len() && bytes[..len] == wanted[..len] {
            match self.0.read(&mut bytes[len..]) {
                Ok(0) => break,
                Ok(more) => len += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => panic!("{error} after {:?}", shown(&bytes[..len])),
            }
        }
        assert_eq!(shown(&bytes[..len]), shown(wanted));
    }

    /// Expects that the server has closed the connection.
    #[track_caller]
    pub fn expect_end(&mut self) {
        match self.0.read(&mut [0]) {
            Ok(0) => {}
            // The server closed the connection before it had read all input.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            other => panic!("not closed: {other:?}"),
        }
    }

    /// Whether a reply has arrived.
    pub fn has_reply(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut waits = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut waits, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
    }

    /// Sends an inline request and returns the raw reply.
    pub fn ask(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
        self.send(request(&words));
        self.reply()
    }

    /// Reads one raw reply.
    pub fn reply(&mut self) -> String {
        let mut reply = self.line();
        let len = reply[1..].trim_end().parse::<i64>();
        match (&reply[..1], len) {
            ("$" | "=", Ok(len @ 0..)) => {
                let mut bytes = vec![0; len as usize + 2];
                self.0.read_exact(&mut bytes).unwrap();
                reply.push_str(&String::from_utf8_lossy(&bytes));
            }
            ("*" | "~", Ok(len)) => (0..len).for_each(|_| reply.push_str(&self.reply())),
            ("%", Ok(len)) => (0..2 * len).for_each(|_| reply.push_str(&self.reply())),
            _ => {}
        }
        reply
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }
}

/// Encodes a request as an array of bulk strings.
pub fn request<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        request.extend_from_slice(format!("${}\r\n", arg.as_ref().len()).as_bytes());
        request.extend_from_slice(arg.as_ref());
        request.extend_from_slice(b"\r\n");
    }
    request
}

/// Bytes for an assertion's message, cut if there are many.
fn shown(bytes: &[u8]) -> String {
    let start = bytes[..bytes.len().min(300)].escape_ascii();
    format!("{start} ({} bytes)", bytes.len())
}
