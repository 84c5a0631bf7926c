//! `CONFIG`: settings that can be read and changed while the server runs.

use super::client::never_executed;
use super::help::help;
use super::row::{ADMIN, Command, NO_KEY};
use super::{Call, glob};
use crate::figures;
use crate::keyspace::Policy;
use crate::server::{Server, Share};
use crate::size;
use clap::ValueEnum;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::new("config", -2, &[], NO_KEY, "Commands about settings", never_executed),
    Command::new("config|get", -3, ADMIN, NO_KEY, "Reads settings", get),
    Command::new("config|help", 2, &["loading", "stale"], NO_KEY, "Help on commands about settings", config_help),
    Command::new("config|resetstat", 2, ADMIN, NO_KEY, "Resets the counts", resetstat),
    Command::new("config|rewrite", 2, ADMIN, NO_KEY, "Fails: the server has no configuration file", rewrite),
    Command::new("config|set", -4, ADMIN, NO_KEY, "Changes settings", set),
];

/// A valid change, not yet applied.
type Change = Box<dyn FnOnce(&Server)>;

/// A setting that can change.
struct Parameter {
    name: &'static str,
    get: fn(&Server) -> String,
    parse: fn(&[u8]) -> Result<Change, String>,
}

static PARAMETERS: [Parameter; 9] = [
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
            Ok(Box::new(move |server| server.settings.set_client_share(share)))
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
            Ok(Box::new(move |server| server.settings.set_policy(policy)))
        },
    },
    Parameter {
        name: "maxclients",
        get: |server| server.settings.maxclients.load(Relaxed).to_string(),
        parse: |value| {
            let value = number(value, 1, u32::MAX.into())?;
            Ok(Box::new(move |server| {
                let maxclients: &AtomicUsize = &server.settings.maxclients;
                maxclients.store(usize::try_from(value).unwrap_or(usize::MAX), Relaxed);
            }))
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
            Ok(Box::new(move |server| server.settings.set_password(&password)))
        },
    },
];

fn number(value: &[u8], least: u64, most: u64) -> Result<u64, String> {
    let number =
        crate::request::number(value).ok_or("argument couldn't be parsed into an integer")?;
    let number = u64::try_from(number).ok().filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| format!("argument must be between {least} and {most} inclusive"))
}

fn seconds(value: &[u8], field: fn(&Server) -> &AtomicU64) -> Result<Change, String> {
    let value = number(value, 0, i32::MAX.unsigned_abs().into())?;
    Ok(Box::new(move |server| field(server).store(value, Relaxed)))
}

fn memory(value: &[u8], least: u64, field: fn(&Server) -> &AtomicU64) -> Result<Change, String> {
    let bytes = str::from_utf8(value).ok().and_then(size::parse);
    let bytes = bytes.ok_or("argument must be a memory value")?;
    if bytes < least {
        return Err(format!("argument must be between {least} and {} inclusive", i64::MAX));
    }
    Ok(Box::new(move |server| field(server).store(bytes, Relaxed)))
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
    match changes(call.server, pairs) {
        Ok(changes) => {
            changes.into_iter().for_each(|change| change(call.server));
            figures::settings_changed(call.server);
            call.reply.ok();
        }
        Err(error) => call.reply.error_bytes(&error),
    }
}

/// Parses all changes; none is valid unless all are.
fn changes(server: &Server, pairs: &[&[u8]]) -> Result<Vec<Change>, Vec<u8>> {
    const UNKNOWN: &[u8] = b"ERR Unknown option or number of arguments for CONFIG SET - '";
    let failed = |name: &str, why: &str| {
        let text = format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}");
        Err(text.into_bytes())
    };
    let mut found: Vec<(&Parameter, &[u8])> = Vec::new();
    for pair in pairs.chunks_exact(2) {
        let is = |name: &str| pair[0].eq_ignore_ascii_case(name.as_bytes());
        match PARAMETERS.iter().find(|parameter| is(parameter.name)) {
            Some(parameter) if found.iter().any(|(other, _)| other.name == parameter.name) => {
                return failed(parameter.name, "duplicate parameter");
            }
            Some(parameter) => found.push((parameter, pair[1])),
            None => match server.settings.fixed.iter().find(|(name, _)| is(name)) {
                Some((name, _)) => return failed(name, "can't set immutable config"),
                None => return Err([UNKNOWN, pair[0], b"'"].concat()),
            },
        }
    }
    let mut changes = Vec::new();
    for (parameter, value) in found {
        match (parameter.parse)(value) {
            Ok(change) => changes.push(change),
            Err(why) => return failed(parameter.name, &why),
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
