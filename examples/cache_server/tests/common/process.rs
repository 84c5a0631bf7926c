//! Server processes.

use rustix::process::{Pid, Signal};
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The longest time that a test waits for a server on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server that listens on a Unix socket in a directory of its own. Killed when dropped.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    folder: tempfile::TempDir,
}

impl ServerProcess {
    /// This package's server, or the one that `THERMOCLINE_SERVER` names, for example Redis itself, to run
    /// the tests against it. Its policy evicts any key, as a cache does. If the kernel or the user's
    /// privileges do not allow compression, the server runs without it.
    pub fn ours(args: &[&str]) -> Self {
        let mut all = vec!["--maxmemory-policy", "allkeys-lru", "--or-plain-memory"];
        all.extend(args);
        match std::env::var("THERMOCLINE_SERVER") {
            Ok(program) if program.ends_with("redis-server") => Self::redis(args),
            Ok(program) => Self::start(program.as_ref(), &all),
            Err(_) => Self::start(env!("CARGO_BIN_EXE_cache_server").as_ref(), &all),
        }
    }

    /// Redis with the same setup: without files, and with one database.
    pub fn redis(args: &[&str]) -> Self {
        let mut all = vec!["--save", "", "--appendonly", "no", "--databases", "1"];
        all.extend(["--maxmemory-policy", "allkeys-lru", "--enable-debug-command", "no"]);
        all.extend(args);
        Self::start("redis-server".as_ref(), &all)
    }

    fn start(program: &Path, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let child = Command::new(program)
            .args(["--port", "0", "--unixsocket"])
            .arg(folder.path().join("socket"))
            .args(args)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut server = Self { child, folder };
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(server.socket()).is_err() {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("{} {args:?}: {status}\n{}", program.display(), server.log());
            }
            assert!(Instant::now() < deadline, "does not listen\n{}", server.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket())
            .unwrap_or_else(|error| panic!("no connection: {error}\n{}", self.log()))
    }

    /// The contents of its standard output and standard error.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Resident bytes, those of its memfd included.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<u64>().ok()).expect("a process that runs has VmRSS") << 10
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the server has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "does not end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Fails only if the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ports of 127.0.0.1 that are free now. The kernel gives none of them to an outgoing connection: one that tries
/// to reach a server that was killed could otherwise take the server's port, and connect to itself.
pub fn free_ports(count: usize) -> Vec<u16> {
    const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    let range = fs::read_to_string(RANGE).unwrap_or_default();
    let outgoing: Vec<u16> = range.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let is_outgoing = |port| outgoing.len() == 2 && (outgoing[0]..=outgoing[1]).contains(&port);
    let mut random = fastrand::Rng::new();
    let mut held = Vec::new();
    let mut tries = 0;
    while held.len() < count {
        let port = random.u16(1024..);
        tries += 1;
        // A system may give all of them to outgoing connections.
        if !is_outgoing(port) || tries > 10_000 {
            held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
        }
    }
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}
