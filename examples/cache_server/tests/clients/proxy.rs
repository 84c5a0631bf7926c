//! Several servers behind a proxy: nutcracker, with the configuration of the README.

use crate::common::process::{PATIENCE, ServerProcess, free_ports};
use crate::common::skip::has_programs;
use redis::{Client, Commands, Connection, IntoConnectionInfo};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const README: &str = include_str!("../../README.md");

/// The ports in the README's configuration: the proxy's and those of the servers.
const PORTS: [u16; 4] = [6400, 6401, 6402, 6403];

const KEYS: usize = 3000;

/// The README's configuration with other ports. The proxy waits as long for a server as a busy machine may
/// need, and tries a lost server again soon.
fn configuration(ports: &[u16]) -> String {
    let begin = README.find("```yaml\n").expect("a configuration") + "```yaml\n".len();
    let text = &README[begin..];
    let mut text = text[..text.find("```").expect("its end")].to_owned();
    let mut replace = |old: &str, new: &str| {
        assert_eq!(text.matches(old).count(), 1, "{old} in\n{text}");
        text = text.replace(old, new);
    };
    for (old, new) in PORTS.iter().zip(ports) {
        replace(&format!("127.0.0.1:{old}"), &format!("127.0.0.1:{new}"));
    }
    replace("timeout: 1000", "timeout: 120000");
    replace("server_retry_timeout: 5000", "server_retry_timeout: 300");
    text
}

/// The proxy's process. Killed when dropped.
struct Proxy {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Proxy {
    fn start(port: u16, stats: u16, configuration: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("nutcracker.yml"), configuration).unwrap();
        let child = Command::new("nutcracker")
            .args(["--stats-addr", "127.0.0.1", "--stats-port", &stats.to_string()])
            .arg("--conf-file")
            .arg(path("nutcracker.yml"))
            .arg("--pid-file")
            .arg(path("pid"))
            .arg("--output")
            .arg(path("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut proxy = Self { child, folder, port };
        let address = format!("127.0.0.1:{port}");
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(&address).is_err() {
            if let Some(status) = proxy.child.try_wait().unwrap() {
                panic!("nutcracker: {status}\n{}\n{configuration}", proxy.log());
            }
            assert!(Instant::now() < deadline, "nutcracker does not listen\n{}", proxy.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        proxy
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Fails only if the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Without `CLIENT SETINFO`, because the proxy closes a connection that sends a command that it does not know.
fn connect(port: u16) -> Connection {
    let info = format!("redis://127.0.0.1:{port}").into_connection_info().unwrap();
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    let client = Client::open(info.set_redis_settings(settings)).unwrap();
    let connection = client.get_connection().unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection
}

fn key(n: usize) -> String {
    format!("key:{n}")
}

/// The numbers of a server's keys.
fn keys_of(port: u16) -> BTreeSet<usize> {
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connect(port)).unwrap();
    keys.iter().map(|key| key["key:".len()..].parse().unwrap()).collect()
}

/// A program that keeps values in the cache, and knows the last value that it has written to each key.
struct Program {
    proxy: Connection,
    written: BTreeMap<usize, String>,
}

/// The outcome of a request through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Missing,
    /// The proxy has answered that it does not reach the server.
    Lost,
}

impl Program {
    fn set(&mut self, n: usize, value: &str) -> Outcome {
        let reply = redis::cmd("SET").arg(key(n)).arg(value).query::<String>(&mut self.proxy);
        match reply {
            Ok(reply) => {
                assert_eq!(reply, "OK");
                self.written.insert(n, value.to_owned());
                Outcome::Done
            }
            Err(error) => lost(&error),
        }
    }

    /// Reads a key, whose value must be the last one written.
    fn get(&mut self, n: usize) -> Outcome {
        match redis::cmd("GET").arg(key(n)).query::<Option<String>>(&mut self.proxy) {
            Ok(Some(value)) => {
                assert_eq!(Some(&value), self.written.get(&n), "{}", key(n));
                Outcome::Done
            }
            Ok(None) => Outcome::Missing,
            Err(error) => lost(&error),
        }
    }

    /// Repeats a request until the proxy reaches a server for it.
    fn until_reached(&mut self, mut request: impl FnMut(&mut Self) -> Outcome) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match request(self) {
                Outcome::Lost => assert!(Instant::now() < deadline, "the key's server stays lost"),
                outcome => return outcome,
            }
        }
    }
}

/// The proxy's own errors begin with `ERR`, and the connection to the proxy stays.
fn lost(error: &redis::RedisError) -> Outcome {
    assert!(error.code() == Some("ERR") && !error.is_io_error(), "{error}");
    Outcome::Lost
}

/// Three servers and the proxy before them.
struct Setup {
    ports: Vec<u16>,
    servers: Vec<ServerProcess>,
    proxy: Proxy,
}

impl Setup {
    fn start() -> Self {
        let ports = free_ports(5);
        let servers = ports[1..4].iter().map(|&port| server(port)).collect();
        let proxy = Proxy::start(ports[0], ports[4], &configuration(&ports[..4]));
        Self { ports, servers, proxy }
    }
}

fn server(port: u16) -> ServerProcess {
    ServerProcess::ours(&["--port", &port.to_string()])
}

#[test]
fn commands_of_several_keys_are_divided_among_the_servers() {
    if !has_programs("commands_of_several_keys_are_divided", &["nutcracker"]) {
        return;
    }
    let setup = Setup::start();
    let mut proxy = connect(setup.proxy.port);
    let pairs: Vec<_> = (0..300).map(|n| (key(n), n)).collect();
    let _: () = proxy.mset(&pairs).unwrap();
    let counts: Vec<usize> = setup.ports[1..4].iter().map(|&port| keys_of(port).len()).collect();
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
    let keys: Vec<_> = (0..301).map(key).collect();
    let values: Vec<Option<usize>> = proxy.mget(&keys).unwrap();
    assert_eq!(values, (0..300).map(Some).chain([None]).collect::<Vec<_>>());
    assert_eq!(proxy.del::<_, usize>(&keys[200..]).unwrap(), 100);
    assert_eq!(proxy.unlink::<_, usize>(&keys[100..]).unwrap(), 100);
    assert_eq!(redis::cmd("TOUCH").arg(&keys).query::<usize>(&mut proxy).unwrap(), 100);
}

#[test]
fn only_the_keys_of_a_killed_server_are_missing_behind_a_proxy() {
    if !has_programs("only_the_keys_of_a_killed_server_are_missing", &["nutcracker"]) {
        return;
    }
    let Setup { ports, mut servers, proxy } = Setup::start();
    let mut program = Program { proxy: connect(proxy.port), written: BTreeMap::new() };

    for n in 0..KEYS {
        assert_eq!(program.set(n, &format!("first {n}")), Outcome::Done);
    }
    for n in 0..KEYS {
        assert_eq!(program.get(n), Outcome::Done);
    }
    let owned: Vec<BTreeSet<usize>> = ports[1..4].iter().map(|&port| keys_of(port)).collect();
    let counts: Vec<usize> = owned.iter().map(BTreeSet::len).collect();
    // Each has about a third.
    assert!(counts.iter().all(|&count| count > KEYS / 5), "{counts:?}");
    assert_eq!(owned.iter().flatten().collect::<BTreeSet<_>>().len(), KEYS);
    assert_eq!(owned.iter().map(BTreeSet::len).sum::<usize>(), KEYS, "a key has two servers");
    let is_of_second = |n: &usize| owned[1].contains(n);

    // Dropping the process kills it.
    drop(servers.remove(1));
    for n in 0..KEYS {
        let outcome = program.until_reached(|program| program.get(n));
        let expected = if is_of_second(&n) { Outcome::Missing } else { Outcome::Done };
        assert_eq!(outcome, expected, "{}", key(n));
    }
    // The other servers take its keys meanwhile.
    for &n in &owned[1] {
        program.until_reached(|program| program.set(n, &format!("second {n}")));
        assert_eq!(program.until_reached(|program| program.get(n)), Outcome::Done);
    }
    for n in (0..KEYS).filter(|n| !is_of_second(n)) {
        assert_eq!(program.until_reached(|program| program.get(n)), Outcome::Done);
    }

    servers.push(server(ports[2]));
    // Until the proxy tries the server again, the other servers have its keys; then they are missing.
    let first = *owned[1].first().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while program.until_reached(|program| program.get(first)) != Outcome::Missing {
        assert!(Instant::now() < deadline, "the server is not used again\n{}", proxy.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    for &n in &owned[1] {
        assert_eq!(program.get(n), Outcome::Missing, "{}", key(n));
        assert_eq!(program.set(n, &format!("third {n}")), Outcome::Done);
    }
    for n in 0..KEYS {
        assert_eq!(program.get(n), Outcome::Done, "{}", key(n));
    }
    assert_eq!(keys_of(ports[2]), owned[1]);
}
