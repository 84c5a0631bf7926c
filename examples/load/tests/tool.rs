//! The program against Redis, if that is installed, and against servers that misbehave.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The result lines of a run.
struct Said {
    status: ExitStatus,
    lines: Vec<String>,
    remarks: String,
}

impl Said {
    fn figure(&self, line: usize, name: &str) -> f64 {
        let pairs = self.lines[line].split(' ').filter_map(|word| word.split_once('='));
        let found = pairs.into_iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("no {name} in {:?}", self.lines)).1.parse().unwrap()
    }
}

fn load(socket: &Path, options: &str) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(options.split_whitespace())
        .arg(socket)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    Said {
        status: output.status,
        lines: text.lines().map(str::to_owned).collect(),
        remarks: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A Redis server on a socket in a directory of its own.
struct Redis {
    child: Child,
    directory: TempDir,
}

impl Redis {
    /// None, with a line of output, if Redis is not installed.
    fn start(options: &[&str]) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(directory.path().join("socket"))
            .args(options)
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            let _ = writeln!(std::io::stderr(), "SKIPPED: there is no redis-server");
            return None;
        };
        let redis = Self { child, directory };
        let start = Instant::now();
        while UnixStream::connect(redis.socket()).is_err() {
            assert!(start.elapsed() < Duration::from_secs(60), "Redis does not come up");
            thread::sleep(Duration::from_millis(10));
        }
        Some(redis)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn command(&self, line: &str) {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        assert!(!answer.starts_with('-'), "{answer}");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers each GET with `answer`, the first ones after a pause.
fn serve_gets(directory: &TempDir, answer: &'static [u8], pause: Duration) -> PathBuf {
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                let (mut lines, mut paused) = (0, false);
                while let Ok(len @ 1..) = stream.read(&mut buffer) {
                    if !std::mem::replace(&mut paused, true) {
                        thread::sleep(pause);
                    }
                    lines += buffer[..len].iter().filter(|&&byte| byte == b'\n').count();
                    // An encoded GET has five lines: *2, $3, GET, $16, the key.
                    if stream.write_all(&answer.repeat(lines / 5)).is_err() {
                        return;
                    }
                    lines %= 5;
                }
            });
        }
    });
    path
}

#[test]
fn all_values_read_back_as_written() {
    let Some(redis) = Redis::start(&[]) else { return };
    let json = redis.directory.path().join("json");
    let said = load(
        &redis.socket(),
        &format!(
            "--keys 5k --requests 20k -c 8 -t 2 -P 4 --read-share 50% --size lognormal:300:1 \
            --popularity zipf:0.8 --verify 1 --phases fill,run,first --every 5 --ttl-share 10% --ttl 1h \
            --json {}",
            json.display()
        ),
    );
    assert!(said.status.success(), "{}", said.remarks);
    for (line, phase, requests) in [(0, "fill", 5000.0), (1, "run", 20_000.0), (2, "first", 1000.0)]
    {
        assert!(said.lines[line].starts_with(&format!("load phase={phase} ")), "{:?}", said.lines);
        assert_eq!(said.figure(line, "requests"), requests, "{phase}");
        for name in ["misses", "errors", "wrong"] {
            assert_eq!(said.figure(line, name), 0.0, "{phase}: {name}");
        }
    }
    let reads = said.figure(1, "hits");
    // Half, and one more for each write of a key that another connection was writing: some 450 more.
    assert!((9_000.0..11_500.0).contains(&reads), "{reads} of 20,000");
    assert_eq!(said.figure(2, "hits"), 1000.0);
    assert_eq!(fs::read_to_string(json).unwrap().lines().count(), 3);
    // Another process checks the values by the keys and versions in them.
    let again = load(
        &redis.socket(),
        "--keys 5k --phases first --every 1 --size lognormal:300:1 --verify 1",
    );
    assert_eq!((again.figure(0, "hits"), again.figure(0, "wrong")), (5000.0, 0.0));
}

#[test]
fn wrong_and_missing_values_are_counted() {
    let Some(redis) = Redis::start(&[]) else { return };
    assert!(load(&redis.socket(), "--keys 100 --phases fill --size 70").status.success());
    redis.command("SETRANGE key:000000000005 69 *");
    redis.command("APPEND key:000000000006 *");
    redis.command("COPY key:000000000008 key:000000000007 REPLACE");
    redis.command("DEL key:000000000009");
    let said = load(&redis.socket(), "--keys 100 --phases first --every 1 --size 70 --verify 1");
    assert_eq!(said.status.code(), Some(1));
    assert_eq!((said.figure(0, "wrong"), said.figure(0, "misses")), (3.0, 1.0), "{}", said.remarks);
    assert!(said.remarks.contains("wrong: key "), "{}", said.remarks);
}

#[test]
fn errors_are_counted_and_passwords_sent() {
    let Some(redis) = Redis::start(&["--requirepass", "secret", "--maxmemory", "1mb"]) else {
        return;
    };
    let closed = load(&redis.socket(), "--keys 10 --phases fill");
    assert_eq!((closed.status.code(), closed.figure(0, "errors")), (Some(1), 10.0));
    assert!(closed.remarks.contains("NOAUTH"), "{}", closed.remarks);
    let wrong = load(&redis.socket(), "--keys 10 --password guess");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(wrong.remarks.contains("WRONGPASS"), "{}", wrong.remarks);
    let full = load(&redis.socket(), "--keys 5k --phases fill --password secret");
    assert!(full.remarks.contains("OOM"), "{}", full.remarks);
}

#[test]
fn at_a_fixed_rate_latency_counts_from_the_due_time() {
    let directory = TempDir::new().unwrap();
    let socket = serve_gets(&directory, b"$-1\r\n", Duration::from_millis(500));
    // All requests are due within 300 ms; the server answers none for 500 ms.
    let options = "--phases run --read-share 1 --requests 300 -c 3 -P 50";
    let open = load(&socket, &format!("{options} --rate 1000"));
    assert_eq!(open.figure(0, "requests"), 300.0);
    assert!(open.figure(0, "p50_us") > 200_000.0, "{:?}", open.lines);
}

#[test]
fn wrong_replies_and_a_missing_server_set_the_exit_code() {
    let directory = TempDir::new().unwrap();
    let socket = serve_gets(&directory, b"$3\r\nbad\r\n", Duration::ZERO);
    let said = load(&socket, "--phases run --read-share 1 --requests 50 --verify 0");
    assert_eq!((said.status.code(), said.figure(0, "wrong")), (Some(1), 50.0));
    let said = load(&directory.path().join("nobody"), "--phases run");
    assert_eq!((said.status.code(), said.lines.len()), (Some(2), 0));
}
