//! From a request to a reply: whether there is such a command and the client may have it.

use super::admin::DEBUG_IS_OFF;
use super::args::is;
use super::table::{Entry, Flags, Found};
use super::{Call, Server, Session};
use crate::keyspace::UnixMs;
use crate::reply::Reply;
use crate::server::WorkerStats;

/// A request, and what it is about.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub args: &'a [&'a [u8]],
    pub found: Found,
}

impl<'a> Request<'a> {
    /// The keys whose whole values it is going to look at.
    pub fn values_read(self) -> impl Iterator<Item = &'a [u8]> {
        let entry = match self.found {
            Found::Command(entry) if entry.reads_values => Some(entry),
            _ => None,
        };
        entry.into_iter().flat_map(|entry| entry.command.keys_in(self.args))
    }
}

/// Carries a request out and appends its reply to `out`.
pub fn carry_out(
    server: &Server,
    session: &mut Session,
    stats: &WorkerStats,
    request: Request<'_>,
    now: UnixMs,
    out: &mut Vec<u8>,
) {
    if matches!(request.found, Found::NoCommand) && is_http(request.args[0]) {
        session.close = true;
        return;
    }
    let start = out.len();
    let mut reply = Reply::new(out, session.protocol);
    let Request { args, found } = request;
    match admit(server, session, args, found) {
        Ok(entry) => {
            session.client.note_command(entry.index);
            let mut call = Call { server, session, args, reply, now };
            (entry.command.handler)(&mut call);
            let failed = out.get(start) == Some(&b'-');
            stats.carried_out(entry.index, failed);
        }
        Err(Refusal { text, entry }) => {
            reply.error_bytes(&text);
            stats.refused(entry.map(|entry| entry.index));
        }
    }
    if !session.wants_reply() {
        out.truncate(start);
    }
}

/// Whether this is a browser speaking, made to by a page that wants its words taken for commands.
/// Redis closes the connection before it comes to them.
fn is_http(name: &[u8]) -> bool {
    is(name, "POST") || is(name, "Host:")
}

/// Why a request is not carried out.
struct Refusal {
    text: Vec<u8>,
    entry: Option<&'static Entry>,
}

fn admit(
    server: &Server,
    session: &Session,
    args: &[&[u8]],
    found: Found,
) -> Result<&'static Entry, Refusal> {
    let entry = match found {
        Found::Command(entry) => entry,
        Found::NoCommand => return Err(Refusal { text: unknown_command(args), entry: None }),
        Found::NoSubcommand => {
            return Err(Refusal { text: unknown_subcommand(args), entry: None });
        }
    };
    let refuse = |text: &str| Err(Refusal { text: text.as_bytes().to_vec(), entry: Some(entry) });
    if !entry.command.takes(args.len()) {
        return refuse(&wrong_arity(entry.full_name()));
    }
    let flags = entry.flags;
    if !flags.contains(Flags::NO_AUTH) && session.must_authenticate(server) {
        let is_off = entry.command.name == "debug" && !server.settings.debug_command;
        return refuse(if is_off { DEBUG_IS_OFF } else { "NOAUTH Authentication required." });
    }
    if flags.contains(Flags::DENYOOM) && server.keyspace.make_room().is_err() {
        return refuse("OOM command not allowed when used memory > 'maxmemory'.");
    }
    Ok(entry)
}

/// What is said of too few or too many arguments, by handlers too.
pub fn wrong_arity(full_name: &str) -> String {
    format!("ERR wrong number of arguments for '{full_name}' command")
}

/// Longer names and arguments are cut in errors.
const SHOWN: usize = 128;

fn unknown_command(args: &[&[u8]]) -> Vec<u8> {
    let mut shown = Vec::new();
    for arg in &args[1..] {
        if shown.len() >= SHOWN {
            break;
        }
        let room = SHOWN - shown.len();
        shown.push(b'\'');
        shown.extend_from_slice(cut(arg, room));
        shown.extend_from_slice(b"' ");
    }
    let name = cut(args[0], SHOWN);
    [b"ERR unknown command '", name, b"', with args beginning with: ", &shown].concat()
}

/// What is said of a subcommand that is not there, by handlers too.
pub fn unknown_subcommand(args: &[&[u8]]) -> Vec<u8> {
    let container = args[0].to_ascii_uppercase();
    let name = cut(args[1], SHOWN);
    [b"ERR unknown subcommand '", name, b"'. Try ", cut(&container, SHOWN), b" HELP."].concat()
}

/// As C would print it: up to the first zero byte, and not too long.
fn cut(bytes: &[u8], most: usize) -> &[u8] {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    &bytes[..end.min(most)]
}
