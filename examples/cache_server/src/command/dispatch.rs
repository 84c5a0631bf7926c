//! From a request to its reply: finds the command and checks whether the client may execute it.

use super::admin::DEBUG_IS_OFF;
use super::args::is;
use super::table::{Entry, Flags, Found};
use super::{Call, Server, Session};
use crate::keyspace::{Room, UnixMs};
use crate::reply::Reply;
use crate::server::WorkerStats;

/// A request and its command.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub args: &'a [&'a [u8]],
    pub found: Found,
}

/// The result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Execution {
    Done,
    /// It was not executed, because it needs memory that is not free now. The worker retries it.
    Later,
}

/// Executes a request and appends its reply to `out`.
pub fn execute(
    server: &Server,
    session: &mut Session,
    stats: &WorkerStats,
    request: Request<'_>,
    now: UnixMs,
    out: &mut Vec<u8>,
) -> Execution {
    if matches!(request.found, Found::NoCommand) && is_http(request.args[0]) {
        session.close = true;
        return Execution::Done;
    }
    let start = out.len();
    let mut reply = Reply::new(out, session.protocol);
    let Request { args, found } = request;
    let admitted = admit(server, session, args, found);
    if !matches!(admitted, Err(Obstacle::NoRoomYet))
        && let Some(time) = session.wait.end()
    {
        stats.waited(time);
    }
    match admitted {
        Ok(entry) => {
            session.client.note_command(entry.index);
            if session.queue(entry, args) {
                reply.simple("QUEUED");
            } else {
                run(server, session, stats, entry, args, reply, now);
            }
        }
        Err(Obstacle::NoRoomYet) => {
            session.wait.begin_or_continue();
            return Execution::Later;
        }
        Err(Obstacle::Refusal { text, entry }) => {
            let is_exec = entry.is_some_and(|entry| entry.full_name() == "exec");
            if is_exec {
                session.end_transaction(server);
                let why = text.strip_prefix(b"ERR ").unwrap_or(&text);
                let aborted = b"EXECABORT Transaction discarded because of: ";
                reply.error_bytes(&[aborted, why].concat());
            } else {
                session.refused();
                reply.error_bytes(&text);
            }
            stats.refused(entry.map(|entry| entry.index));
        }
    }
    if !session.wants_reply() {
        out.truncate(start);
    }
    Execution::Done
}

/// Executes an admitted command.
pub fn run(
    server: &Server,
    session: &mut Session,
    stats: &WorkerStats,
    entry: &Entry,
    args: &[&[u8]],
    reply: Reply<'_>,
    now: UnixMs,
) {
    let start = reply.position();
    let mut call = Call { server, session, stats, args, reply, now };
    (entry.command.handler)(&mut call);
    stats.executed(entry.index, call.reply.is_error_since(start));
}

/// Whether this is an HTTP request: a web page may make a browser send commands in its body. Redis
/// closes the connection before it reaches them.
fn is_http(name: &[u8]) -> bool {
    is(name, "POST") || is(name, "Host:")
}

/// Why a request is not executed.
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
    if entry.full_name() == "debug" && !server.settings.debug_command {
        return refuse(DEBUG_IS_OFF);
    }
    if !flags.contains(Flags::NO_AUTH) && session.must_authenticate(server) {
        return refuse("NOAUTH Authentication required.");
    }
    if session.transaction.is_begun() && flags.contains(Flags::NO_MULTI) {
        return refuse("ERR Command not allowed inside a transaction");
    }
    if session.transaction.needs_memory(entry) {
        match server.keyspace.make_room(session.wait.tries) {
            Ok(Room::Ready) => {}
            Ok(Room::Later) => return Err(Obstacle::NoRoomYet),
            Err(_) => return refuse("OOM command not allowed when used memory > 'maxmemory'."),
        }
    }
    Ok(entry)
}

/// The error for a wrong number of arguments, also for handlers.
pub fn wrong_arity(full_name: &str) -> String {
    format!("ERR wrong number of arguments for '{full_name}' command")
}

/// The most bytes of a name or of the arguments in an error.
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

/// The error for a missing subcommand, also for handlers.
pub fn unknown_subcommand(args: &[&[u8]]) -> Vec<u8> {
    let container = args[0].to_ascii_uppercase();
    let name = cut(args[1], SHOWN);
    [b"ERR unknown subcommand '", name, b"'. Try ", cut(&container, SHOWN), b" HELP."].concat()
}

/// As C's `%.*s` prints it: up to the first zero byte, and at most `most` bytes.
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
        assert_eq!(execute_one(server, session, args, &mut out), Execution::Done);
        out.escape_ascii().to_string()
    }

    #[test]
    fn unknown_commands_are_quoted_as_c_prints_them() {
        let server = Server::for_tests();
        let mut session = Session::for_tests(&server);
        let mut say = |args: &[&[u8]]| said(&server, &mut session, args);
        let long = [b'x'; 200];
        let cut = "x".repeat(128);
        assert_eq!(
            say(&[&long]),
            format!(r"-ERR unknown command \'{cut}\', with args beginning with: \r\n")
        );
        // The quoted arguments together are cut at about that length too.
        let begin = r"-ERR unknown command \'no\', with args beginning with: ";
        assert_eq!(say(&[b"no", &long, b"y"]), format!(r"{begin}\'{cut}\' \r\n"));
        assert_eq!(say(&[b"no", b"a\0b", b"c\r\nd"]), format!(r"{begin}\'a\' \'c  d\' \r\n"));
        assert_eq!(
            say(&[b"client", b"a\nb"]),
            r"-ERR unknown subcommand \'a b\'. Try CLIENT HELP.\r\n"
        );
    }

    #[test]
    fn executed_and_refused_requests_are_counted() {
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

    /// In an arena that is far above its limit, a command that needs memory runs after a bounded number of tries,
    /// and other commands run at once.
    #[test]
    fn commands_wait_for_memory_a_bounded_number_of_times() {
        use crate::keyspace::{Keyspace, MAX_TRIES, Options};
        let arena = thermocline::Arena::builder().plain_memory_fallback(true).build().unwrap();
        // The process takes more than this, so that the arena gets its smallest limit.
        let options = Options { memory_limit: Some(1 << 20), ..Options::default() };
        let server =
            Server::new(Keyspace::new(arena, options), crate::server::Settings::default(), 1);
        let (mut session, mut other) = (Session::for_tests(&server), Session::for_tests(&server));
        let mut waited = 0;
        // The values do not compress.
        let mut random = fastrand::Rng::with_seed(1);
        for n in 0..2000 {
            let mut value = vec![0; 8192];
            random.fill(&mut value);
            let (key, mut tries) = (n.to_string().into_bytes(), 0);
            let set: [&[u8]; 3] = [b"SET", &key, &value];
            let mut out = Vec::new();
            while execute_one(&server, &mut session, &set, &mut out) == Execution::Later {
                tries += 1;
                assert_eq!(said(&server, &mut other, &[b"GET", b"missing"]), r"$-1\r\n");
            }
            assert_eq!(out, b"+OK\r\n");
            assert!(tries <= MAX_TRIES, "{tries}");
            waited += u64::from(tries > 0);
        }
        let totals = server.totals();
        assert_eq!(totals.waits, waited);
        assert!(server.keyspace.arena().fault_mode().is_none() || waited > 0, "no command waited");
    }

    fn execute_one(
        server: &Server,
        session: &mut Session,
        args: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Execution {
        let request = Request { args, found: table().find(args) };
        execute(server, session, &server.workers[0], request, 0, out)
    }
}
