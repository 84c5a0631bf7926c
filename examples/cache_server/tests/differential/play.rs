//! Plays programs against both servers.

use super::compare::{Comparison, Verdict};
use super::request::{Request, Step};
use super::rules::LISTED;
use super::side::{Outcome, Side, exchange};
use crate::common::process::{PATIENCE, ServerProcess};
use std::time::Instant;

/// A difference between the servers.
#[derive(Debug)]
pub struct Difference {
    /// The index of the program's step.
    pub step: usize,
    pub theirs: Outcome,
    pub ours: Outcome,
}

/// Both servers, Redis first, and the counts of comparisons.
#[derive(Debug)]
pub struct Pair<'a> {
    sides: [Side<'a>; 2],
    password: Option<&'a str>,
    comparison: Comparison,
    /// The number of compared replies.
    pub requests: u64,
    /// The number of differences that each entry of [`LISTED`] excuses.
    pub excused: [u64; LISTED.len()],
}

impl<'a> Pair<'a> {
    pub fn new(
        redis: &'a ServerProcess,
        ours: &'a ServerProcess,
        password: Option<&'a str>,
    ) -> Self {
        Self {
            sides: [Side::new(redis), Side::new(ours)],
            password,
            comparison: Comparison::default(),
            requests: 0,
            excused: [0; LISTED.len()],
        }
    }

    /// Plays a program on empty servers until its end or the first difference.
    pub fn play(&mut self, steps: &[Step]) -> Result<(), Difference> {
        self.sides.iter_mut().for_each(Side::reconnect);
        let mut preamble: Vec<_> = self.password.iter().map(|p| format!("AUTH {p}")).collect();
        preamble.extend(["FLUSHALL", "CONFIG SET maxmemory 1gb"].map(str::to_owned));
        for line in preamble {
            for reply in self.ask(&Request::words(&line)) {
                assert_eq!(reply.to_string(), "+OK\\r\\n", "{line}");
            }
        }
        self.sides.iter_mut().for_each(Side::reconnect);
        self.comparison.begin();
        self.comparison.reconnected();
        let mut start = 0;
        for batch in steps.split_inclusive(|step| step.ends_batch) {
            // While a program is shrunk, the end of a batch may be missing.
            for part in batch.chunk_by(|_, next| !next.reconnects) {
                if part[0].reconnects {
                    self.sides.iter_mut().for_each(Side::reconnect);
                    self.comparison.reconnected();
                }
                self.play_batch(part).map_err(|d| Difference { step: start + d.step, ..d })?;
                start += part.len();
            }
        }
        Ok(())
    }

    fn play_batch(&mut self, batch: &[Step]) -> Result<(), Difference> {
        let mut bytes = Vec::new();
        batch.iter().for_each(|step| step.request.encode(&mut bytes));
        let began = Instant::now();
        exchange(&mut self.sides, &bytes, batch[0].piece, batch.len());
        let took = u64::try_from(began.elapsed().as_millis()).expect("less than an age");
        self.comparison.longest_ms = self.comparison.longest_ms.max(took);
        let [theirs, ours] = self.sides.each_mut().map(|side| side.take(batch.len()));
        let mut to_settle = None;
        for (step, (theirs, ours)) in theirs.into_iter().zip(ours).enumerate() {
            self.requests += 1;
            match self.comparison.verdict(&batch[step].request, &theirs, &ours) {
                Verdict::Same => {}
                Verdict::Excused(entry) => self.excused[entry] += 1,
                Verdict::Later(entry) => {
                    self.excused[entry] += 1;
                    to_settle = Some(step);
                }
                Verdict::Different => return Err(Difference { step, theirs, ours }),
            }
        }
        to_settle.map_or(Ok(()), |step| self.settle(step, &batch[step].request))
    }

    /// Repeats a request until the replies agree.
    fn settle(&mut self, step: usize, request: &Request) -> Result<(), Difference> {
        let deadline = Instant::now() + PATIENCE / 4;
        loop {
            let [theirs, ours] = self.ask(request);
            if theirs == ours {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Difference { step, theirs, ours });
            }
        }
    }

    /// Both replies to one request, on the current connections.
    pub fn ask(&mut self, request: &Request) -> [Outcome; 2] {
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        exchange(&mut self.sides, &bytes, usize::MAX, 1);
        self.sides.each_mut().map(|side| side.take(1).remove(0))
    }
}
