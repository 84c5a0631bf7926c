//! From a request to a reply: whether there is such a command and the client may have it.

use super::admin::DEBUG_IS_OFF;
use super::args::is;
use super::table::{Entry, Flags, Found};
use super::{Call, Server, Session};
use crate::keyspace::{Room, UnixMs};
use crate::reply::Reply;
use crate::server::WorkerStats;

/// A request, and what it is about.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub args: &'a [&'a [u8]],
    pub found: Found,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Carried {
    Out,
    /// Nothing yet: it needs memory that there is none of at the moment. To be tried again.
    Later,
}

/// Carries a request out and appends its reply to `out`.
pub fn carry_out(
    server: &Server,
    session: &mut Session,
    stats: &WorkerStats,
    request: Request<'_>,
    now: UnixMs,
    out: &mut Vec<u8>,
) -> Carried {
    if matches!(request.found, Found::NoCommand) && is_http(request.args[0]) {
        session.close = true;
        return Carried::Out;
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
        Err(Obstacle::NoRoomYet) => return Carried::Later,
        Err(Obstacle::Refusal { text, entry }) => {
            reply.error_bytes(&text);
            stats.refused(entry.map(|entry| entry.index));
        }
    }
    if !session.wants_reply() {
        out.truncate(start);
    }
    Carried::Out
}

/// Whether this is a browser speaking, made to by a page that wants its words taken for commands.
/// Redis closes the connection before it comes to them.
fn is_http(name: &[u8]) -> bool {
    is(name, "POST") || is(name, "Host:")
}

/// Why a request is not carried out.
enum Obstacle {
    NoRoomYet,
    Refusal { text: Vec<u8>, entry: Option<&'static Entry> },
}

fn admit(
    server: &Server,
    session: &Session,
    args: &[&[u8]],
    found: Found,
) -> Result<&'static Entry, Obstacle> {
    let entry = match found {
        Found::Command(entry) => entry,
        Found::NoCommand => {
            return Err(Obstacle::Refusal { text: unknown_command(args), entry: None });
        }
        Found::NoSubcommand => {
            return Err(Obstacle::Refusal { text: unknown_subcommand(args), entry: None });
        }
    };
    let refuse =
        |text: &str| Err(Obstacle::Refusal { text: text.as_bytes().to_vec(), entry: Some(entry) });
    if !entry.command.takes(args.len()) {
        return refuse(&wrong_arity(entry.full_name()));
    }
    let flags = entry.flags;
    if !flags.contains(Flags::NO_AUTH) && session.must_authenticate(server) {
        let is_off = entry.command.name == "debug" && !server.settings.debug_command;
        return refuse(if is_off { DEBUG_IS_OFF } else { "NOAUTH Authentication required." });
    }
    if flags.contains(Flags::DENYOOM) {
        match server.keyspace.make_room() {
            Ok(Room::Ready) => {}
            Ok(Room::Later) => return Err(Obstacle::NoRoomYet),
            Err(_) => return refuse("OOM command not allowed when used memory > 'maxmemory'."),
        }
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

#[cfg(test)]
mod tests {
    use super::super::table::table;
    use super::*;

    fn said(server: &Server, session: &mut Session, args: &[&[u8]]) -> String {
        let mut out = Vec::new();
        let request = Request { args, found: table().find(args) };
        let carried = carry_out(server, session, &server.workers[0], request, 0, &mut out);
        assert_eq!(carried, Carried::Out);
        out.escape_ascii().to_string()
    }

    #[test]
    fn what_is_not_there_is_quoted_as_c_would_print_it() {
        let server = Server::for_tests();
        let mut session = Session::for_tests(&server);
        let mut say = |args: &[&[u8]]| said(&server, &mut session, args);
        let long = [b'x'; 200];
        let cut = "x".repeat(128);
        assert_eq!(
            say(&[&long]),
            format!(r"-ERR unknown command \'{cut}\', with args beginning with: \r\n")
        );
        // The arguments that are shown are together not much longer than that.
        let begin = r"-ERR unknown command \'no\', with args beginning with: ";
        assert_eq!(say(&[b"no", &long, b"y"]), format!(r"{begin}\'{cut}\' \r\n"));
        assert_eq!(say(&[b"no", b"a\0b", b"c\r\nd"]), format!(r"{begin}\'a\' \'c  d\' \r\n"));
        assert_eq!(
            say(&[b"client", b"a\nb"]),
            r"-ERR unknown subcommand \'a b\'. Try CLIENT HELP.\r\n"
        );
    }

    #[test]
    fn what_was_done_and_refused_is_counted() {
        let server = Server::for_tests();
        let mut session = Session::for_tests(&server);
        for args in [&[b"PING".as_slice()][..], &[b"echo"], &[b"no"], &[b"select", b"9"]] {
            said(&server, &mut session, args);
        }
        let totals = server.totals();
        assert_eq!((totals.commands, totals.errors), (2, 3));
        let of =
            |name: &str| totals.by_command(table().by_full_name(name.as_bytes()).unwrap().index);
        assert_eq!((of("ping").calls, of("ping").failed), (1, 0));
        assert_eq!((of("echo").calls, of("echo").refused), (0, 1));
        assert_eq!((of("select").calls, of("select").failed), (1, 1));
        server.reset_totals();
        assert_eq!(server.totals().commands, 0);
    }
}
