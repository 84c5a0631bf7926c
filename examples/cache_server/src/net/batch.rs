//! Executes requests in batches.

use super::connection::{Connection, MAX_UNSENT};
use super::scratch::{Parsed, Scratch};
use crate::command::table::table;
use crate::command::{Execution, Request, execute};
use crate::reply::Reply;
use crate::request::{Limits, Next, ProtocolError};
use crate::server::{Server, WorkerStats, unix_ms};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// The most requests in a batch.
const BATCH: usize = 64;

/// The most requests of a connection's turn.
const TURN: usize = 1024;

impl Connection {
    /// Executes the requests in the input, at most a turn's worth.
    pub(super) fn execute(&mut self, server: &Server, stats: &WorkerStats, scratch: &mut Scratch) {
        let mut done = 0;
        while done < TURN && self.input.may_hold_request() && !self.must_pause() {
            let last = self.parse_batch(server, scratch);
            done += scratch.parsed.len();
            let all = self.execute_batch(server, stats, scratch);
            if let (true, Some(error)) = (all, last) {
                self.refuse(&error, scratch);
            }
        }
    }

    /// Answers invalid input, if the client wants replies, and closes the connection.
    fn refuse(&mut self, error: &ProtocolError, scratch: &mut Scratch) {
        self.session.close = true;
        if self.session.wants_reply() {
            self.output.prepare(scratch);
            let mut reply = Reply::new(self.output.bytes(), self.session.protocol);
            reply.error_bytes(&error.message());
        }
    }

    fn must_pause(&self) -> bool {
        self.session.close
            || self.waits_for_memory
            || self.output.unsent() > MAX_UNSENT
            || self.session.client.killed.load(Relaxed)
    }

    /// Parses requests into `scratch`. Returns the error if the input after them is invalid.
    fn parse_batch(&mut self, server: &Server, scratch: &mut Scratch) -> Option<ProtocolError> {
        let unauthenticated = self.session.must_authenticate(server);
        let limits =
            Limits { bulk: server.settings.proto_max_bulk_len.load(Relaxed), unauthenticated };
        // The next request may contain the password. Then other limits apply to the requests after it.
        let most = if unauthenticated { 1 } else { BATCH };
        scratch.parsed.clear();
        scratch.spans.clear();
        scratch.of_words = false;
        // The first request may have begun in an earlier turn.
        scratch.start = self.input.parser().done();
        while scratch.parsed.len() < most {
            let start = self.input.parser().position();
            match self.input.next(limits) {
                Next::Request if self.input.parser().was_words() && !scratch.parsed.is_empty() => {
                    // A line of words is not parsed in place, so it makes a batch of its own.
                    self.input.go_back(start);
                    return None;
                }
                Next::Request => {
                    let parser = self.input.parser();
                    let first = scratch.spans.len();
                    scratch.spans.extend_from_slice(parser.arguments());
                    let behind = scratch.spans.len();
                    scratch.parsed.push(Parsed { first, behind, end: parser.position() });
                    if parser.was_words() {
                        scratch.of_words = true;
                        return None;
                    }
                }
                Next::Incomplete { .. } => return None,
                Next::Error(error) => return Some(error),
            }
        }
        None
    }

    /// Executes the batch. True if all requests were executed with the limits that they were parsed with;
    /// if not, the input is set back to the end of the last executed request.
    fn execute_batch(
        &mut self,
        server: &Server,
        stats: &WorkerStats,
        scratch: &mut Scratch,
    ) -> bool {
        if scratch.parsed.is_empty() {
            return true;
        }
        let begun = Instant::now();
        let now = unix_ms();
        self.output.prepare(scratch);
        let Self { input, output, session, waits_for_memory, .. } = self;
        let source = if scratch.of_words { input.parser().words() } else { input.bytes() };
        let mut args = scratch.args.take();
        args.extend(scratch.spans.iter().map(|span| span.of(source)));
        scratch.found.clear();
        scratch.found.extend(scratch.parsed.iter().map(|p| table().find(&args[p.args()])));
        let requests = scratch.parsed.iter().zip(&scratch.found);
        let requests = requests.map(|(p, &found)| Request { args: &args[p.args()], found });

        let was_unauthenticated = session.must_authenticate(server);
        let (mut done, mut other_limits) = (0, false);
        for request in requests {
            if execute(server, session, stats, request, now, output.bytes()) == Execution::Later {
                *waits_for_memory = true;
                break;
            }
            done += 1;
            let killed = session.client.killed.load(Relaxed);
            // The requests after this one were parsed with other limits.
            other_limits = session.must_authenticate(server) != was_unauthenticated;
            if session.close || killed || other_limits || output.unsent() > MAX_UNSENT {
                break;
            }
        }
        scratch.args.give(args);
        stats.took(&scratch.found[..done], begun.elapsed());
        let end = scratch.parsed[..done].last().map_or(scratch.start, |last| last.end);
        let all = done == scratch.parsed.len() && !other_limits;
        if !all {
            self.input.go_back(end);
        }
        all
    }
}
