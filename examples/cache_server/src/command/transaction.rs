//! Transactions: the server queues the commands after `MULTI`, and `EXEC` executes them together.

use super::dispatch::run;
use super::row::{Command, KEYS, NO_KEY};
use super::table::{Entry, Flags, Found};
use super::{Call, Server, Session};
use crate::keyspace::{UnixMs, Watched};
use crate::reply::Reply;
use crate::server::WorkerStats;
use std::sync::atomic::Ordering::Relaxed;

/// As for Redis' commands, in the same order.
const FAST: &[&str] = &["noscript", "loading", "stale", "fast", "allow_busy"];

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::new("multi", 1, FAST, NO_KEY, "Begins a transaction", multi),
    Command::new("exec", 1, &["noscript", "loading", "stale", "skip_slowlog"], NO_KEY, "Executes a transaction", exec),
    Command::new("discard", 1, FAST, NO_KEY, "Discards a transaction", discard),
    Command::new("watch", -2, FAST, KEYS, "Lets the next transaction fail if keys change", watch),
    Command::new("unwatch", 1, FAST, NO_KEY, "Forgets the watched keys", unwatch),
];

/// The commands that are executed at once in a transaction.
const NOT_QUEUED: [&str; 6] = ["multi", "exec", "discard", "watch", "quit", "reset"];

/// Bytes of a queued argument beside its own.
const ARGUMENT: usize = size_of::<Box<[u8]>>() + 16;

/// A queued command.
#[derive(Debug)]
struct Queued {
    entry: &'static Entry,
    args: Vec<Box<[u8]>>,
}

/// The commands since `MULTI`.
#[derive(Debug, Default)]
pub struct Queue {
    commands: Vec<Queued>,
    bytes: usize,
    /// A command was refused, so that `EXEC` fails.
    has_errors: bool,
    needs_memory: bool,
}

/// The transaction of a client.
#[derive(Debug, Default)]
pub struct Transaction {
    /// Some after `MULTI`.
    queue: Option<Queue>,
    watched: Watched,
}

impl Transaction {
    /// Bytes of the queued commands.
    pub fn bytes(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.bytes)
    }

    /// Whether the client has sent `MULTI`.
    pub fn is_begun(&self) -> bool {
        self.queue.is_some()
    }

    /// Whether the command needs memory: as `EXEC` does for the queued commands.
    pub fn needs_memory(&self, entry: &Entry) -> bool {
        let queued = || self.queue.as_ref().is_some_and(|queue| queue.needs_memory);
        entry.flags.contains(Flags::DENYOOM) || entry.full_name() == "exec" && queued()
    }

    /// Ends the transaction and the watch.
    pub fn end(&mut self, server: &Server) {
        self.queue = None;
        server.keyspace.unwatch(&mut self.watched);
    }
}

impl Session {
    /// Whether a request is an `EXEC` with commands to execute: no other client's command may run meanwhile.
    pub fn executes_transaction(&self, found: Found) -> bool {
        self.transaction.is_begun()
            && matches!(found, Found::Command(entry) if entry.full_name() == "exec")
    }

    /// Queues a command, if the client has begun a transaction and the command is one to be queued.
    pub fn queue(&mut self, entry: &'static Entry, args: &[&[u8]]) -> bool {
        let Some(queue) = &mut self.transaction.queue else { return false };
        if NOT_QUEUED.contains(&entry.full_name()) {
            return false;
        }
        if !queue.has_errors {
            queue.bytes += args.iter().map(|arg| arg.len() + ARGUMENT).sum::<usize>();
            queue.bytes += size_of::<Queued>();
            queue.needs_memory |= entry.flags.contains(Flags::DENYOOM);
            let args = args.iter().map(|arg| Box::from(*arg)).collect();
            queue.commands.push(Queued { entry, args });
        }
        self.show_transaction();
        true
    }

    /// Records that a command was refused, so that its transaction fails.
    pub fn refused(&mut self) {
        if let Some(queue) = &mut self.transaction.queue {
            // Nothing is executed, so that the commands are not needed.
            *queue = Queue { has_errors: true, ..Queue::default() };
            self.show_transaction();
        }
    }

    /// Ends the transaction and the watch.
    pub fn end_transaction(&mut self, server: &Server) {
        self.transaction.end(server);
        self.show_transaction();
    }

    /// For `CLIENT LIST`.
    pub fn show_transaction(&self) {
        let queue = self.transaction.queue.as_ref();
        let len = queue.map_or(-1, |queue| queue.commands.len() as i64);
        self.client.queued.store(len, Relaxed);
        self.client.queued_bytes.store(self.transaction.bytes(), Relaxed);
    }
}

fn multi(call: &mut Call<'_>) {
    if call.session.transaction.queue.is_some() {
        return call.reply.error("ERR MULTI calls can not be nested");
    }
    call.session.transaction.queue = Some(Queue::default());
    call.session.show_transaction();
    call.reply.ok();
}

fn discard(call: &mut Call<'_>) {
    if call.session.transaction.queue.is_none() {
        return call.reply.error("ERR DISCARD without MULTI");
    }
    call.session.end_transaction(call.server);
    call.reply.ok();
}

fn watch(call: &mut Call<'_>) {
    let Transaction { queue, watched } = &mut call.session.transaction;
    if queue.is_some() {
        return call.reply.error("ERR WATCH inside MULTI is not allowed");
    }
    // Once a key has changed, no more keys matter.
    if !watched.is_changed() {
        call.args[1..].iter().for_each(|key| call.server.keyspace.watch(watched, key, call.now));
    }
    call.reply.ok();
}

fn unwatch(call: &mut Call<'_>) {
    call.server.keyspace.unwatch(&mut call.session.transaction.watched);
    call.reply.ok();
}

/// The caller has closed the gate of the keyspace.
fn exec(call: &mut Call<'_>) {
    let Call { server, session, stats, reply, now, .. } = call;
    let Some(queue) = session.transaction.queue.take() else {
        return reply.error("ERR EXEC without MULTI");
    };
    server.keyspace.notice_expired(&session.transaction.watched, *now);
    let is_changed = session.transaction.watched.is_changed();
    session.end_transaction(server);
    if queue.has_errors {
        reply.error("EXECABORT Transaction discarded because of previous errors.");
    } else if is_changed {
        reply.null_array();
    } else {
        execute_queue(server, session, stats, reply, *now, &queue);
    }
}

fn execute_queue(
    server: &Server,
    session: &mut Session,
    stats: &WorkerStats,
    reply: &mut Reply<'_>,
    now: UnixMs,
    queue: &Queue,
) {
    reply.array(queue.commands.len());
    for Queued { entry, args } in &queue.commands {
        let args: Vec<&[u8]> = args.iter().map(|arg| &**arg).collect();
        let begin = reply.position();
        run(server, session, stats, entry, &args, reply.part(session.protocol), now);
        // `CLIENT REPLY` decides about the reply to EXEC as a whole.
        debug_assert!(reply.position() > begin, "each command replies");
    }
    reply.set_protocol(session.protocol);
}

#[cfg(test)]
mod tests {
    use crate::command::transcript::{compare, compare_in};
    use crate::reply::Protocol;

    #[test]
    fn commands_are_queued_and_executed_as_in_redis() {
        compare(&[
            ("EXEC", "-ERR EXEC without MULTI\r\n"),
            ("DISCARD", "-ERR DISCARD without MULTI\r\n"),
            ("MULTI", "+OK\r\n"),
            ("EXEC", "*0\r\n"),
            ("MULTI", "+OK\r\n"),
            ("SET a 1", "+QUEUED\r\n"),
            ("INCR a", "+QUEUED\r\n"),
            ("SET b text", "+QUEUED\r\n"),
            ("INCR b", "+QUEUED\r\n"),
            ("MGET a b missing", "+QUEUED\r\n"),
            ("UNWATCH", "+QUEUED\r\n"),
            ("DBSIZE", "+QUEUED\r\n"),
            (
                "EXEC",
                "*7\r\n+OK\r\n:2\r\n+OK\r\n-ERR value is not an integer or out of range\r\n\
                 *3\r\n$1\r\n2\r\n$4\r\ntext\r\n$-1\r\n+OK\r\n:2\r\n",
            ),
            ("EXEC", "-ERR EXEC without MULTI\r\n"),
            ("MULTI", "+OK\r\n"),
            ("SET a 9", "+QUEUED\r\n"),
            ("DISCARD", "+OK\r\n"),
            ("GET a", "$1\r\n2\r\n"),
            ("MULTI", "+OK\r\n"),
            ("MULTI", "-ERR MULTI calls can not be nested\r\n"),
            ("WATCH a", "-ERR WATCH inside MULTI is not allowed\r\n"),
            ("SET a 3", "+QUEUED\r\n"),
            ("EXEC", "*1\r\n+OK\r\n"),
            ("MULTI x", "-ERR wrong number of arguments for 'multi' command\r\n"),
            ("WATCH", "-ERR wrong number of arguments for 'watch' command\r\n"),
            ("UNWATCH", "+OK\r\n"),
        ]);
    }

    #[test]
    fn a_transaction_with_a_refused_command_is_not_executed() {
        compare(&[
            ("MULTI", "+OK\r\n"),
            ("SET a 1", "+QUEUED\r\n"),
            ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
            ("SET a 2", "+QUEUED\r\n"),
            ("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n"),
            ("EXISTS a", ":0\r\n"),
            ("MULTI", "+OK\r\n"),
            ("NO", "-ERR unknown command 'NO', with args beginning with: \r\n"),
            ("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n"),
            ("MULTI", "+OK\r\n"),
            ("SHUTDOWN NOSAVE", "-ERR Command not allowed inside a transaction\r\n"),
            ("DISCARD", "+OK\r\n"),
            ("WATCH a", "+OK\r\n"),
            ("SET a 1", "+OK\r\n"),
            ("MULTI", "+OK\r\n"),
            ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
            ("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n"),
            ("MULTI", "+OK\r\n"),
            (
                "EXEC x",
                "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' \
                 command\r\n",
            ),
            ("EXEC", "-ERR EXEC without MULTI\r\n"),
            ("MULTI", "+OK\r\n"),
            ("RESET", "+RESET\r\n"),
            ("EXEC", "-ERR EXEC without MULTI\r\n"),
        ]);
    }

    #[test]
    fn changes_of_watched_keys_stop_a_transaction() {
        // For each: the commands between WATCH and MULTI, and whether they change what is watched.
        let cases: [(&[(&'static str, &'static str)], bool); 17] = [
            (&[("GET k", "$1\r\n1\r\n")], false),
            (&[("SET k 1", "+OK\r\n")], true),
            (&[("SET other 1", "+OK\r\n")], false),
            (&[("SET missing 1", "+OK\r\n")], true),
            (&[("DEL missing", ":0\r\n")], false),
            (&[("DEL k", ":1\r\n"), ("SET k 1", "+OK\r\n")], true),
            (&[("EXPIRE k 1000", ":1\r\n")], true),
            (&[("PERSIST k", ":0\r\n")], false),
            (&[("GETEX k PERSIST", "$1\r\n1\r\n")], false),
            (&[("GETEX k EX 1000", "$1\r\n1\r\n")], true),
            (&[("APPEND k 1", ":2\r\n")], true),
            (&[(r#"SETRANGE k 0 """#, ":1\r\n")], false),
            (&[("RENAME other2 k", "-ERR no such key\r\n")], false),
            (&[("RENAME k other2", "+OK\r\n")], true),
            (&[("COPY k missing", ":1\r\n")], true),
            (&[("FLUSHALL", "+OK\r\n")], true),
            (&[("SET k 1", "+OK\r\n"), ("UNWATCH", "+OK\r\n")], false),
        ];
        for (changes, stops) in cases {
            let mut lines = vec![("SET k 1", "+OK\r\n"), ("WATCH k missing k", "+OK\r\n")];
            lines.extend(changes);
            lines.extend([("MULTI", "+OK\r\n"), ("PING", "+QUEUED\r\n")]);
            lines.push(("EXEC", if stops { "*-1\r\n" } else { "*1\r\n+PONG\r\n" }));
            // The watch is over.
            lines.extend([("SET k 2", "+OK\r\n"), ("MULTI", "+OK\r\n"), ("EXEC", "*0\r\n")]);
            compare(&lines);
        }
        compare_in(
            Protocol::Resp3,
            &[
                ("WATCH k", "+OK\r\n"),
                ("SET k 1", "+OK\r\n"),
                ("MULTI", "+OK\r\n"),
                ("EXEC", "_\r\n"),
                ("WATCH k", "+OK\r\n"),
                ("FLUSHALL", "+OK\r\n"),
                ("WATCH k", "+OK\r\n"),
                ("MULTI", "+OK\r\n"),
                ("DISCARD", "+OK\r\n"),
                ("MULTI", "+OK\r\n"),
                ("GET k", "+QUEUED\r\n"),
                ("EXEC", "*1\r\n_\r\n"),
            ],
        );
    }
}
