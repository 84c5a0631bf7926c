//! Checks replies and counts them.

use super::Drive;
use super::connection::{Asked, Awaited};
use super::tally::Tally;
use crate::content::Expected;
use crate::resp::Reply;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct Judge<'a> {
    drive: &'a Drive<'a>,
    random: SmallRng,
    scratch: Vec<u8>,
    pub(crate) tally: Tally,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(drive: &'a Drive<'a>, thread: usize) -> Self {
        let random = SmallRng::seed_from_u64(!drive.options.seed ^ thread as u64);
        Self { drive, random, scratch: Vec::new(), tally: Tally::new(Instant::now()) }
    }

    pub(crate) fn begin(&mut self, start: Instant) {
        self.tally = Tally::new(start + self.drive.warm_up);
    }

    /// Checks the reply to a request, and records its latency.
    pub(crate) fn answered(&mut self, awaited: Awaited, now: Instant, reply: Reply<'_>) {
        let due = awaited.due.unwrap_or(now);
        let counts = due >= self.tally.since;
        if counts {
            self.tally.record(now.saturating_duration_since(due), now);
        }
        match (awaited.asked, reply) {
            (Asked::Read { oldest }, Reply::Bulk(value)) => {
                self.tally.hits += u64::from(counts);
                let expected = Expected { key: awaited.key, oldest, whole: self.is_sampled() };
                if !self.drive.content.check(value, expected, &mut self.scratch) {
                    self.wrong(awaited, value);
                }
            }
            (Asked::Read { .. }, Reply::Null) => self.tally.misses += u64::from(counts),
            (Asked::Write { version }, Reply::Status(b"OK")) => {
                self.drive.versions.finish(awaited.key, version, true);
            }
            (asked, reply) => {
                if let Asked::Write { version } = asked {
                    self.drive.versions.finish(awaited.key, version, false);
                }
                match reply {
                    Reply::Error(text) => self.error(text),
                    _ => self.wrong(awaited, format!("{reply:?}").as_bytes()),
                }
            }
        }
    }

    fn is_sampled(&mut self) -> bool {
        let share = self.drive.options.verify;
        share >= 1.0 || share > 0.0 && self.random.random_bool(share)
    }

    fn error(&mut self, text: &[u8]) {
        if self.tally.errors == 0 {
            self.tally.remarks.push(format!("an error: {}", String::from_utf8_lossy(text)));
        }
        self.tally.errors += 1;
    }

    fn wrong(&mut self, awaited: Awaited, value: &[u8]) {
        if self.tally.wrong == 0 {
            let shown = String::from_utf8_lossy(&value[..value.len().min(100)]).into_owned();
            let Awaited { key, asked, .. } = awaited;
            let len = value.len();
            self.tally.remarks.push(format!("wrong: key {key}, {asked:?}, {len} bytes: {shown:?}"));
        }
        self.tally.wrong += 1;
    }
}
