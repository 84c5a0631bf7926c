//! `CONFIG`: settings that can be read and changed while the server runs.

use super::client::never_executed;
use super::help::help;
use super::row::{ADMIN, Command, NO_KEY};
use super::{Call, glob};
use crate::figures;
use crate::keyspace::Policy;
use crate::server::{Server, Share};
use crate::{process, size};
use clap::ValueEnum;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::new("config", -2, &[], NO_KEY, "Commands about settings", never_executed),
    Command::new("config|get", -3, ADMIN, NO_KEY, "Reads settings", get),
    Command::new("config|help", 2, &["loading", "stale"], NO_KEY, "Help on commands about settings", config_help),
    Command::new("config|resetstat", 2, ADMIN, NO_KEY, "Resets the counts", resetstat),
    Command::new("config|rewrite", 2, ADMIN, NO_KEY, "Fails: the server has no configuration file", rewrite),
    Command::new("config|set", -4, ADMIN, NO_KEY, "Changes settings", set),
];

/// A valid change, not yet applied. The system may refuse it.
type Change = Box<dyn FnOnce(&Server) -> Result<(), String>>;

fn change(apply: impl FnOnce(&Server) + 'static) -> Change {
    Box::new(move |server| {
        apply(server);
        Ok(())
    })
}

const NO_DISK: &str = "this server stores nothing on disk";

/// A setting that can change.
struct Parameter {
    name: &'static str,
    get: fn(&Server) -> String,
    parse: fn(&[u8]) -> Result<Change, String>,
}

static PARAMETERS: [Parameter; 12] = [
    Parameter {
        name: "maxmemory",
        get: |server| server.settings.maxmemory.load(Relaxed).to_string(),
        parse: |value| memory(value, 0, |server| &server.settings.maxmemory),
    },
    Parameter {
        name: "memory-limit",
        get: |server| server.settings.memory_limit.load(Relaxed).to_string(),
        parse: |value| memory(value, 0, |server| &server.settings.memory_limit),
    },
    Parameter {
        name: "maxmemory-clients",
        get: |server| server.settings.client_share().to_string(),
        parse: |value| {
            let share: Share = String::from_utf8_lossy(value).parse()?;
            Ok(change(move |server| server.settings.set_client_share(share)))
        },
    },
    Parameter {
        name: "maxmemory-policy",
        get: |server| server.settings.policy().name(),
        parse: |value| {
            let policy = Policy::from_name(&String::from_utf8_lossy(value));
            let policy = policy.ok_or_else(|| {
                let names: Vec<_> = Policy::value_variants().iter().map(|p| p.name()).collect();
                format!("argument(s) must be one of the following: {}", names.join(", "))
            })?;
            Ok(change(move |server| server.settings.set_policy(policy)))
        },
    },
    Parameter {
        name: "cold-after",
        get: |server| humantime::format_duration(server.settings.cold_after()).to_string(),
        parse: |value| {
            let time = size::duration(&String::from_utf8_lossy(value))?;
            Ok(Box::new(move |server| figures::set_cold_after(server, time)))
        },
    },
    // Nothing is stored on disk, so that these have one value. Programs set them to be sure.
    Parameter {
        name: "save",
        get: |_| String::new(),
        parse: |value| if value.is_empty() { Ok(change(|_| {})) } else { Err(NO_DISK.into()) },
    },
    Parameter {
        name: "appendonly",
        get: |_| "no".into(),
        parse: |value| match value.to_ascii_lowercase().as_slice() {
            b"no" => Ok(change(|_| {})),
            b"yes" => Err(NO_DISK.into()),
            _ => Err("argument must be 'yes' or 'no'".into()),
        },
    },
    Parameter {
        name: "maxclients",
        get: |server| server.settings.maxclients.load(Relaxed).to_string(),
        parse: |value| {
            let value = number(value, 1, u32::MAX.into())?;
            Ok(Box::new(move |server| set_maxclients(server, value)))
        },
    },
    Parameter {
        name: "timeout",
        get: |server| server.settings.timeout.load(Relaxed).to_string(),
        parse: |value| seconds(value, |server| &server.settings.timeout),
    },
    Parameter {
        name: "tcp-keepalive",
        get: |server| server.settings.tcp_keepalive.load(Relaxed).to_string(),
        parse: |value| seconds(value, |server| &server.settings.tcp_keepalive),
    },
    Parameter {
        name: "proto-max-bulk-len",
        get: |server| server.settings.proto_max_bulk_len.load(Relaxed).to_string(),
        parse: |value| memory(value, 1 << 20, |server| &server.settings.proto_max_bulk_len),
    },
    Parameter {
        name: "requirepass",
        get: |server| String::from_utf8_lossy(&server.settings.password()).into_owned(),
        parse: |value| {
            let password = value.to_vec();
            Ok(change(move |server| server.settings.set_password(&password)))
        },
    },
];

/// Each client needs a descriptor.
fn set_maxclients(server: &Server, value: u64) -> Result<(), String> {
    let value = usize::try_from(value).unwrap_or(usize::MAX);
    let most = process::allow_clients(value);
    if most < value {
        return Err(format!(
            "The operating system is not able to handle the specified number of clients, try with \
             {most}"
        ));
    }
    server.settings.maxclients.store(value, Relaxed);
    Ok(())
}

fn number(value: &[u8], least: u64, most: u64) -> Result<u64, String> {
    let number =
        crate::request::number(value).ok_or("argument couldn't be parsed into an integer")?;
    let number = u64::try_from(number).ok().filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| format!("argument must be between {least} and {most} inclusive"))
}

fn seconds(value: &[u8], field: fn(&Server) -> &AtomicU64) -> Result<Change, String> {
    let value = number(value, 0, i32::MAX.unsigned_abs().into())?;
    Ok(change(move |server| field(server).store(value, Relaxed)))
}

fn memory(value: &[u8], least: u64, field: fn(&Server) -> &AtomicU64) -> Result<Change, String> {
    let bytes = str::from_utf8(value).ok().and_then(size::parse);
    let bytes = bytes.ok_or("argument must be a memory value")?;
    if bytes < least {
        return Err(format!("argument must be between {least} and {} inclusive", i64::MAX));
    }
    Ok(change(move |server| field(server).store(bytes, Relaxed)))
}

fn get(call: &mut Call<'_>) {
    let patterns: Vec<_> = call.args[2..].iter().map(|p| p.to_ascii_lowercase()).collect();
    let server = call.server;
    let changeable = PARAMETERS.iter().map(|p| (p.name, (p.get)(server)));
    let fixed = server.settings.fixed.iter().cloned();
    let matching = changeable
        .chain(fixed)
        .filter(|(name, _)| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes())));
    let matching: Vec<_> = matching.collect();
    call.reply.map(matching.len());
    for (name, value) in matching {
        call.reply.bulk(name.as_bytes());
        call.reply.bulk(value.as_bytes());
    }
}

fn set(call: &mut Call<'_>) {
    let pairs = &call.args[2..];
    if !pairs.len().is_multiple_of(2) {
        return call.reply.error("ERR syntax error");
    }
    let applied = changes(call.server, pairs).and_then(|changes| apply(call.server, changes));
    figures::settings_changed(call.server);
    match applied {
        Ok(()) => call.reply.ok(),
        Err(error) => call.reply.error_bytes(&error),
    }
}

/// Applies all changes. If the system refuses one, undoes those before it.
fn apply(server: &Server, changes: Vec<(&'static Parameter, Change)>) -> Result<(), Vec<u8>> {
    let mut before: Vec<(&Parameter, String)> = Vec::new();
    for (parameter, change) in changes {
        let value = (parameter.get)(server);
        if let Err(why) = change(server) {
            for (parameter, value) in before.into_iter().rev() {
                // It was the value until now.
                let _ = (parameter.parse)(value.as_bytes()).and_then(|change| change(server));
            }
            return failed(parameter.name.as_bytes(), &why);
        }
        before.push((parameter, value));
    }
    Ok(())
}

fn failed<T>(name: &[u8], why: &str) -> Result<T, Vec<u8>> {
    let before = b"ERR CONFIG SET failed (possibly related to argument '";
    Err([before, name, b"') - ", why.as_bytes()].concat())
}

/// Parses all changes; none is valid unless all are.
fn changes(server: &Server, pairs: &[&[u8]]) -> Result<Vec<(&'static Parameter, Change)>, Vec<u8>> {
    const UNKNOWN: &[u8] = b"ERR Unknown option or number of arguments for CONFIG SET - '";
    let mut found: Vec<(&'static Parameter, &[u8])> = Vec::new();
    for pair in pairs.chunks_exact(2) {
        let is = |name: &str| pair[0].eq_ignore_ascii_case(name.as_bytes());
        match PARAMETERS.iter().find(|parameter| is(parameter.name)) {
            Some(parameter) if found.iter().any(|(other, _)| other.name == parameter.name) => {
                return failed(pair[0], "duplicate parameter");
            }
            Some(parameter) => found.push((parameter, pair[1])),
            None => match server.settings.fixed.iter().find(|(name, _)| is(name)) {
                Some(_) => return failed(pair[0], "can't set immutable config"),
                None => return Err([UNKNOWN, pair[0], b"'"].concat()),
            },
        }
    }
    let mut changes = Vec::new();
    for (parameter, value) in found {
        match (parameter.parse)(value) {
            Ok(change) => changes.push((parameter, change)),
            Err(why) => return failed(parameter.name.as_bytes(), &why),
        }
    }
    Ok(changes)
}

fn resetstat(call: &mut Call<'_>) {
    call.server.reset_totals();
    figures::reset_events(call.server);
    call.reply.ok();
}

fn rewrite(call: &mut Call<'_>) {
    call.reply.error("ERR The server is running without a config file");
}

fn config_help(call: &mut Call<'_>) {
    help(
        call,
        "GET <pattern> [<pattern> ...]
    The settings that match, and their values.
SET <directive> <value> [<directive> <value> ...]
    Changes settings, all or none.
RESETSTAT
    Begins to count anew what INFO shows.
REWRITE
    Fails: there is no file.",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::transcript::{Client, compare};

    #[test]
    fn each_setting_takes_its_own_value() {
        let server = Server::for_tests();
        for parameter in &PARAMETERS {
            let value = (parameter.get)(&server);
            let change = (parameter.parse)(value.as_bytes()).unwrap();
            assert_eq!(change(&server), Ok(()), "{}", parameter.name);
            assert_eq!((parameter.get)(&server), value, "{}", parameter.name);
        }
    }

    #[test]
    fn settings_are_refused_as_in_redis() {
        compare(&[
            ("CONFIG SET maxmemory-clients 0%", "+OK\r\n"),
            ("CONFIG GET maxmemory-clients", "*2\r\n$17\r\nmaxmemory-clients\r\n$1\r\n0\r\n"),
            (
                "CONFIG SET maxmemory-clients 101%",
                "-ERR CONFIG SET failed (possibly related to argument 'maxmemory-clients') - \
                 percentage argument must be less or equal to 100\r\n",
            ),
            (
                "CONFIG SET maxmemory-clients -1%",
                "-ERR CONFIG SET failed (possibly related to argument 'maxmemory-clients') - \
                 argument must be a memory or percent value\r\n",
            ),
            (
                "CONFIG SET appendonly maybe",
                "-ERR CONFIG SET failed (possibly related to argument 'appendonly') - argument \
                 must be 'yes' or 'no'\r\n",
            ),
            (
                "CONFIG SET timeout 1 TIMEOUT 2",
                "-ERR CONFIG SET failed (possibly related to argument 'TIMEOUT') - duplicate \
                 parameter\r\n",
            ),
            (
                "CONFIG SET TIMEOUT x",
                "-ERR CONFIG SET failed (possibly related to argument 'timeout') - argument \
                 couldn't be parsed into an integer\r\n",
            ),
        ]);
    }

    #[test]
    fn settings_change_together_or_not_at_all() {
        let mut client = Client::at(0);
        let value = |client: &mut Client, name: &str| {
            let reply = client.say(&format!("CONFIG GET {name}"));
            reply.lines().nth(4).unwrap_or_default().to_owned()
        };
        let set = "CONFIG SET cold-after 90s timeout 7 maxmemory-policy volatile-ttl";
        assert_eq!(client.say(set), "+OK\r\n");
        let all = ["cold-after", "timeout", "maxmemory-policy"];
        assert_eq!(all.map(|name| value(&mut client, name)), ["1m 30s", "7", "volatile-ttl"]);
        // Invalid values, and one for which the system has too few descriptors.
        for (wrong, name, why) in [
            ("cold-after soon", "cold-after", "give a time"),
            ("maxclients 4000000000", "maxclients", "The operating system is not able to handle"),
            ("timeout 8", "timeout", "duplicate parameter"),
            ("TimeOut 8", "TimeOut", "duplicate parameter"),
            ("save 60", "save", "this server stores nothing on disk"),
            ("appendonly yes", "appendonly", "this server stores nothing on disk"),
        ] {
            let set = format!("CONFIG SET timeout 8 maxmemory 9 cold-after 5s {wrong}");
            let set = set.replacen("cold-after 5s cold-after", "cold-after", 1);
            let start =
                format!("-ERR CONFIG SET failed (possibly related to argument '{name}') - {why}");
            let reply = client.say(&set);
            assert!(reply.starts_with(&start), "{reply}");
            assert_eq!(all.map(|name| value(&mut client, name)), ["1m 30s", "7", "volatile-ttl"]);
            assert_eq!(value(&mut client, "maxmemory"), "0");
        }
        assert_eq!(client.say(r#"CONFIG SET save "" appendonly no"#), "+OK\r\n");
        assert_eq!(client.say("CONFIG SET timeout 9 cold-after"), "-ERR syntax error\r\n");
    }
}
