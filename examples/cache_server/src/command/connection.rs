//! Commands about the connection.

use super::dispatch::wrong_arity;
use super::row::{BEFORE_AUTH, Command, LOADING_FAST, NO_KEY};
use super::{Call, client};
use crate::reply::Protocol;
use crate::request::number;
use crate::session::Replies;
use std::sync::atomic::Ordering::Relaxed;

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::new("auth", -2, BEFORE_AUTH, NO_KEY, "Authenticates with the password", auth),
    Command::new("echo", 2, LOADING_FAST, NO_KEY, "Returns its argument", echo),
    Command::new("hello", -1, BEFORE_AUTH, NO_KEY, "Chooses the protocol, and describes the server", hello),
    Command::new("ping", -1, &["fast"], NO_KEY, "Returns PONG or its argument", ping),
    Command::new("quit", -1, BEFORE_AUTH, NO_KEY, "Closes the connection", quit),
    Command::new("reset", 1, BEFORE_AUTH, NO_KEY, "Resets the connection to its initial state", reset),
    Command::new("select", 2, LOADING_FAST, NO_KEY, "Chooses a database; only 0 exists", select),
];

/// The version of Redis that the server reports. Clients decide by it which commands they send.
pub const REDIS_VERSION: &str = "7.0.15";

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

fn ping(call: &mut Call<'_>) {
    match call.args {
        [_] => call.reply.simple("PONG"),
        [_, message] => call.reply.bulk(message),
        _ => call.reply.error(&wrong_arity("ping")),
    }
}

fn echo(call: &mut Call<'_>) {
    call.reply.bulk(call.args[1]);
}

fn quit(call: &mut Call<'_>) {
    call.reply.ok();
    call.session.close = true;
}

fn select(call: &mut Call<'_>) {
    if call.database(1).is_some() {
        call.reply.ok();
    }
}

fn reset(call: &mut Call<'_>) {
    call.session.end_transaction(call.server);
    call.session.set_protocol(Protocol::Resp2);
    call.reply.set_protocol(Protocol::Resp2);
    call.session.authenticated = !call.server.settings.has_password();
    // If RESET's own reply is to be skipped, it is skipped.
    if call.session.replies == Replies::Off {
        call.session.replies = Replies::On;
    }
    call.session.client.names.lock().name.clear();
    call.session.client.no_evict.store(false, Relaxed);
    call.session.client.no_touch.store(false, Relaxed);
    call.reply.simple("RESET");
}

fn auth(call: &mut Call<'_>) {
    let (user, password) = match call.args {
        [_, password] => {
            if !call.server.settings.has_password() {
                call.reply.error(
                    "ERR AUTH <password> called without any password configured for the default \
                     user. Are you sure your configuration is correct?",
                );
                return;
            }
            (&b"default"[..], *password)
        }
        [_, user, password] => (*user, *password),
        _ => return call.reply.error("ERR syntax error"),
    };
    if authenticate(call, user, password) {
        call.reply.ok();
    } else {
        call.reply.error(WRONG_PASSWORD);
    }
}

/// There is one user. Without a password every password is right.
fn authenticate(call: &mut Call<'_>, user: &[u8], password: &[u8]) -> bool {
    let settings = &call.server.settings;
    let right = user == b"default" && (!settings.has_password() || settings.is_password(password));
    call.session.authenticated |= right;
    right
}

fn hello(call: &mut Call<'_>) {
    let protocol = match call.args.get(1).map(|version| number(version)) {
        None => None,
        Some(Some(2)) => Some(Protocol::Resp2),
        Some(Some(3)) => Some(Protocol::Resp3),
        Some(Some(_)) => return call.reply.error("NOPROTO unsupported protocol version"),
        Some(None) => {
            return call.reply.error("ERR Protocol version is not an integer or out of range");
        }
    };
    let mut options = call.args.get(2..).unwrap_or_default();
    // Each option takes effect at once, even if a later one is an error.
    while let [option, rest @ ..] = options {
        options = match (option.to_ascii_lowercase().as_slice(), rest) {
            (b"auth", [user, password, rest @ ..]) => {
                if !authenticate(call, user, password) {
                    return call.reply.error(WRONG_PASSWORD);
                }
                rest
            }
            (b"setname", [name, rest @ ..]) => {
                if !client::is_name(name) {
                    return call.reply.error(client::BAD_NAME);
                }
                call.session.client.names.lock().name = name.to_vec();
                rest
            }
            _ => {
                return call.reply.error_quoting("ERR Syntax error in HELLO option '", option, "'");
            }
        };
    }
    if call.session.must_authenticate(call.server) {
        return call.reply.error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO AUTH <user> <pass> option can be used to authenticate the client and select the \
             RESP protocol version at the same time",
        );
    }
    if let Some(protocol) = protocol {
        call.session.set_protocol(protocol);
        call.reply.set_protocol(protocol);
    }
    introduce(call);
}

fn introduce(call: &mut Call<'_>) {
    let Call { reply, session, .. } = call;
    reply.map(7);
    let mut text = |key: &str, value: &str| {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    };
    text("server", "redis");
    text("version", REDIS_VERSION);
    reply.bulk(b"proto");
    reply.integer(if session.protocol == Protocol::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(session.client.id.cast_signed());
    let mut text = |key: &str, value: &str| {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    };
    text("mode", "standalone");
    text("role", "master");
    reply.bulk(b"modules");
    reply.array(0);
}
