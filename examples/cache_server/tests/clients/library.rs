//! The `redis` crate in typical uses, with both versions of the protocol.

use crate::common::process::{PATIENCE, ServerProcess};
use redis::{Client, Commands, Connection, ErrorKind, ServerErrorKind};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Runs a test with a client for each version of the protocol.
fn with_both_protocols(test: impl Fn(&ServerProcess, &Client)) {
    for protocol in ["resp2", "resp3"] {
        let server = ServerProcess::ours(&[]);
        test(&server, &client(&server, &format!("protocol={protocol}")));
    }
}

fn client(server: &ServerProcess, query: &str) -> Client {
    Client::open(format!("redis+unix://{}?{query}", server.socket().display())).unwrap()
}

fn connection(client: &Client) -> Connection {
    let connection = client.get_connection().unwrap();
    // A missing reply fails the test instead of blocking it.
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection
}

#[test]
fn sessions_expire_unless_they_are_used() {
    with_both_protocols(|_, client| {
        let mut con = connection(client);
        for user in 0..100 {
            let session = format!("{{\"user\":{user},\"roles\":[\"reader\"]}}");
            let _: () = con.set_ex(format!("session:{user}"), session, 3600).unwrap();
        }
        let _: () = con.pexpire("session:0", 20).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while con.exists::<_, bool>("session:0").unwrap() {
            assert!(Instant::now() < deadline, "a session does not expire");
        }
        assert_eq!(con.get::<_, Option<String>>("session:0").unwrap(), None);
        let ttl: i64 = con.ttl("session:1").unwrap();
        assert!((3000..=3600).contains(&ttl), "{ttl}");
        let read: String = con.get_ex("session:1", redis::Expiry::EX(7200)).unwrap();
        assert_eq!(read, "{\"user\":1,\"roles\":[\"reader\"]}");
        let ttl: i64 = con.ttl("session:1").unwrap();
        assert!((6000..=7200).contains(&ttl), "{ttl}");
        let _: bool = con.persist("session:2").unwrap();
        assert_eq!(con.ttl::<_, i64>("session:2").unwrap(), -1);
        let last: String = con.get_del("session:3").unwrap();
        assert_eq!(last, "{\"user\":3,\"roles\":[\"reader\"]}");
        assert!(!con.exists::<_, bool>("session:3").unwrap());
    });
}

/// Increments of many threads are all counted, with a pool of fewer connections than threads.
#[test]
fn increments_of_all_threads_are_counted() {
    with_both_protocols(|_, client| {
        let pool = r2d2::Pool::builder().max_size(4).build(client.clone()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let pool = &pool;
                scope.spawn(move || {
                    for round in 0..200 {
                        let mut con = pool.get().unwrap();
                        let _: i64 = con.incr("all", 1).unwrap();
                        let own: i64 = con.incr(format!("own:{thread}"), 3).unwrap();
                        assert_eq!(own, 3 * (round + 1));
                        let _: i64 = con.decr("down", 2).unwrap();
                    }
                });
            }
        });
        let mut con = connection(client);
        let totals: (i64, i64) = con.mget(&["all", "down"]).unwrap();
        assert_eq!(totals, (1600, -3200));
        assert_eq!(con.incr::<_, _, f64>("part", 0.25).unwrap(), 0.25);
    });
}

/// A lock taken with `SET NX` has one holder at a time.
#[test]
fn a_lock_has_one_holder() {
    with_both_protocols(|_, client| {
        for round in 0..20 {
            let holders: usize = std::thread::scope(|scope| {
                let takers: Vec<_> = (0..4)
                    .map(|thread| {
                        scope.spawn(move || {
                            let taken: Option<String> = redis::cmd("SET")
                                .arg(format!("lock:{round}"))
                                .arg(thread)
                                .arg("NX")
                                .arg("PX")
                                .arg(1_000_000)
                                .query(&mut connection(client))
                                .unwrap();
                            usize::from(taken.is_some())
                        })
                    })
                    .collect();
                takers.into_iter().map(|taker| taker.join().unwrap()).sum()
            });
            assert_eq!(holders, 1, "round {round}");
        }
    });
}

#[test]
fn many_keys_are_set_and_read_in_one_command() {
    with_both_protocols(|_, client| {
        let mut con = connection(client);
        let pairs: Vec<_> = (0..2000).map(|n| (format!("many:{n}"), vec![n as u8; n])).collect();
        let _: () = con.mset(&pairs).unwrap();
        let keys: Vec<_> = pairs.iter().map(|(key, _)| key.as_str()).chain(["missing"]).collect();
        let values: Vec<Option<Vec<u8>>> = con.mget(&keys).unwrap();
        for ((_, value), read) in pairs.iter().zip(&values) {
            assert_eq!(read.as_ref(), Some(value));
        }
        assert_eq!(values.last(), Some(&None));
        assert_eq!(con.del::<_, usize>(&keys[..1000]).unwrap(), 1000);
        assert_eq!(con.exists::<_, usize>(&keys).unwrap(), 1000);
    });
}

#[test]
fn pipelines_keep_their_order() {
    with_both_protocols(|_, client| {
        let mut con = connection(client);
        let mut pipeline = redis::pipe();
        for n in 0..5000 {
            pipeline.set(format!("p:{}", n % 100), n).ignore().get(format!("p:{}", n % 100));
        }
        let values: Vec<i64> = pipeline.query(&mut con).unwrap();
        assert_eq!(values, (0..5000).collect::<Vec<_>>());
    });
}

/// An error of one command does not affect the other commands or the connection.
#[test]
fn an_error_affects_only_its_command() {
    with_both_protocols(|_, client| {
        let mut con = connection(client);
        let _: () = con.set("text", "abc").unwrap();
        let error = con.incr::<_, _, i64>("text", 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Server(ServerErrorKind::ResponseError), "{error}");
        assert!(error.to_string().contains("not an integer or out of range"), "{error}");
        let error = redis::cmd("NO-SUCH").query::<()>(&mut con).unwrap_err();
        assert!(error.to_string().contains("unknown command"), "{error}");
        assert_eq!(con.get::<_, String>("text").unwrap(), "abc");
    });
}

#[test]
fn scans_show_every_key() {
    with_both_protocols(|_, client| {
        let mut con = connection(client);
        let all: HashSet<_> = (0..3000).map(|n| format!("scan:{n}")).collect();
        for key in &all {
            let _: () = con.set(key, 1).unwrap();
        }
        let _: () = con.set("another", 1).unwrap();
        let found: HashSet<String> =
            con.scan_match("scan:*").unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(found, all);
        // The scan shows the remaining keys while a thread adds and removes other keys.
        let mut writer = connection(client);
        let mut found = HashSet::new();
        for (n, key) in con.scan::<String>().unwrap().enumerate() {
            let _: () = writer.del(format!("scan:{}", 1500 + n % 1500)).unwrap();
            let _: () = writer.set(format!("new:{n}"), 1).unwrap();
            found.insert(key.unwrap());
            assert!(n < 100_000, "a scan does not end");
        }
        let stayed: Vec<_> = (0..1500).map(|n| format!("scan:{n}")).collect();
        assert!(stayed.iter().all(|key| found.contains(key)));
    });
}

#[test]
fn large_and_binary_values_come_back() {
    with_both_protocols(|_, client| {
        let mut con = connection(client);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(1 << 20).collect();
        let every_byte: Vec<u8> = (0..=255).collect();
        let _: () = con.set(&every_byte, &bytes).unwrap();
        assert!(con.get::<_, Vec<u8>>(&every_byte).unwrap() == bytes);
        assert_eq!(con.append::<_, _, usize>(&every_byte, &every_byte).unwrap(), (1 << 20) + 256);
        bytes.extend(&every_byte);
        bytes[1000..1003].copy_from_slice(b"\r\n\0");
        let _: usize = con.setrange(&every_byte, 1000, b"\r\n\0").unwrap();
        assert!(con.get::<_, Vec<u8>>(&every_byte).unwrap() == bytes);
        let part: Vec<u8> = con.getrange(&every_byte, 990, 1010).unwrap();
        assert_eq!(part, bytes[990..=1010]);
        for n in 0..32 {
            let _: () = con.set(format!("large:{n}"), vec![n; 1 << 20]).unwrap();
        }
        let keys: Vec<_> = (0..32).map(|n| format!("large:{n}")).collect();
        let values: Vec<Vec<u8>> = con.mget(&keys).unwrap();
        for (n, value) in values.iter().enumerate() {
            assert!(value.len() == 1 << 20 && value.iter().all(|byte| usize::from(*byte) == n));
        }
    });
}

#[test]
fn the_servers_description_is_understood() {
    with_both_protocols(|_, client| {
        let mut con = connection(client);
        let info: redis::InfoDict = redis::cmd("INFO").query(&mut con).unwrap();
        assert!(info.get::<u64>("used_memory").is_some());
        let limit: HashMap<String, String> =
            redis::cmd("CONFIG").arg("GET").arg("maxmemory").query(&mut con).unwrap();
        assert!(limit.contains_key("maxmemory"), "{limit:?}");
        let _: () = redis::cmd("CLIENT").arg("SETNAME").arg("test").query(&mut con).unwrap();
        let name: String = redis::cmd("CLIENT").arg("GETNAME").query(&mut con).unwrap();
        assert_eq!(name, "test");
        let _: () = con.set("k", "v").unwrap();
        assert_eq!(redis::cmd("DBSIZE").query::<usize>(&mut con).unwrap(), 1);
        let _: () = con.flushall().unwrap();
        assert_eq!(redis::cmd("DBSIZE").query::<usize>(&mut con).unwrap(), 0);
    });
}

#[test]
fn a_password_is_required() {
    let server = ServerProcess::ours(&["--requirepass", "secret"]);
    for protocol in ["resp2", "resp3"] {
        let with = |query: &str| client(&server, &format!("protocol={protocol}{query}"));
        let mut con = connection(&with("&pass=secret"));
        assert_eq!(redis::cmd("PING").query::<String>(&mut con).unwrap(), "PONG");
        assert!(with("&pass=wrong").get_connection_with_timeout(PATIENCE).is_err());
        let refused = with("")
            .get_connection_with_timeout(Duration::from_secs(60))
            .and_then(|mut con| con.get::<_, Option<String>>("k"));
        assert!(refused.unwrap_err().to_string().contains("NOAUTH"));
    }
}
