//! Carrying requests out, as many at a time as have come.

use super::connection::{Connection, MOST_UNSENT};
use super::scratch::{Parsed, Scratch};
use crate::command::table::table;
use crate::command::{Carried, Request, carry_out};
use crate::reply::Reply;
use crate::request::{Limits, Next, ProtocolError};
use crate::server::{Server, WorkerStats, unix_ms};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Requests that are looked at together before the first of them is carried out.
const BATCH: usize = 64;

/// Requests that are carried out in one turn of a connection.
const TURN: usize = 1024;

impl Connection {
    /// Carries out what the input holds, within the bounds of a turn.
    pub(super) fn carry_out(
        &mut self,
        server: &Server,
        stats: &WorkerStats,
        scratch: &mut Scratch,
    ) {
        let mut done = 0;
        while done < TURN && self.input.may_hold_request() && !self.is_held_up() {
            let last = self.parse_batch(server, scratch);
            done += scratch.parsed.len();
            let all = self.carry_out_batch(server, stats, scratch);
            if let (true, Some(error)) = (all, last) {
                self.refuse(&error, scratch);
            }
        }
    }

    /// Answers what is no request, if the client wants replies, and ends.
    fn refuse(&mut self, error: &ProtocolError, scratch: &mut Scratch) {
        self.session.close = true;
        if self.session.wants_reply() {
            self.output.prepare(scratch);
            let mut reply = Reply::new(self.output.bytes(), self.session.protocol);
            reply.error_bytes(&error.message());
        }
    }

    fn is_held_up(&self) -> bool {
        self.session.close
            || self.waits
            || self.output.unsent() > MOST_UNSENT
            || self.session.client.killed.load(Relaxed)
    }

    /// Takes requests apart, into `scratch`. What comes behind them may be an error.
    fn parse_batch(&mut self, server: &Server, scratch: &mut Scratch) -> Option<ProtocolError> {
        let unauthenticated = self.session.must_authenticate(server);
        let limits =
            Limits { bulk: server.settings.proto_max_bulk_len.load(Relaxed), unauthenticated };
        // The password may be in the next request, and changes what is allowed behind it.
        let most = if unauthenticated { 1 } else { BATCH };
        scratch.parsed.clear();
        scratch.spans.clear();
        scratch.of_words = false;
        scratch.start = self.input.parser().position();
        while scratch.parsed.len() < most {
            let start = self.input.parser().position();
            match self.input.next(limits) {
                Next::Request if self.input.parser().was_words() && !scratch.parsed.is_empty() => {
                    // Words are not in the input itself: they make a batch of their own.
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

    /// Whether all of it was carried out, and what was found behind it still holds; if not, the input
    /// goes on behind what was carried out.
    fn carry_out_batch(
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
        let Self { input, output, session, waits, .. } = self;
        let source = if scratch.of_words { input.parser().words() } else { input.bytes() };
        let mut args = scratch.args.take();
        args.extend(scratch.spans.iter().map(|span| span.of(source)));
        scratch.found.clear();
        scratch.found.extend(scratch.parsed.iter().map(|p| table().find(&args[p.args()])));
        let requests = scratch.parsed.iter().zip(&scratch.found);
        let requests = requests.map(|(p, &found)| Request { args: &args[p.args()], found });

        let stranger = session.must_authenticate(server);
        let (mut done, mut other_limits) = (0, false);
        for request in requests {
            if carry_out(server, session, stats, request, now, output.bytes()) == Carried::Later {
                *waits = true;
                break;
            }
            done += 1;
            let killed = session.client.killed.load(Relaxed);
            // What comes behind was taken apart with the limits for the other.
            other_limits = session.must_authenticate(server) != stranger;
            if session.close || killed || other_limits || output.unsent() > MOST_UNSENT {
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
