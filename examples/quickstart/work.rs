//! The program's work: it mostly uses a part of its memory, and now and then the rest.

use crate::library::{Library, Mismatch};
use crate::measure::Touches;
use crate::options::MIB;
use crate::{COLD_AGE, progress};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};
use thermocline::{Arena, Stats, Swapping};

/// The pause between rounds, in which the program does not use the processor.
const PAUSE: Duration = Duration::from_millis(10);

/// Eviction has ended if resident memory shrinks by less than a hundredth in this time.
const QUIET: Duration = Duration::from_secs(2);

/// The number of compared checksums, and of wrong ones.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Verified {
    pub(crate) documents: usize,
    pub(crate) mismatches: usize,
}

impl Verified {
    fn count(&mut self, result: Result<(), Mismatch>) {
        self.documents += 1;
        self.mismatches += usize::from(result.is_err());
    }
}

/// The result of working on a part.
#[derive(Debug)]
pub(crate) struct Worked {
    pub(crate) verified: Verified,
    pub(crate) rounds: u32,
    pub(crate) time: Duration,
}

/// Reads and edits `documents` repeatedly until the arena evicts no more.
pub(crate) fn on_a_tenth(
    library: &mut Library<'_>,
    documents: Range<usize>,
    arena: &Arena,
    at_most: Duration,
) -> Worked {
    let spinner = progress::spinner();
    let start = Instant::now();
    let mut end = End::new(arena);
    let mut worked = Worked { verified: Verified::default(), rounds: 0, time: Duration::ZERO };
    while !end.has_come(arena) && worked.time < at_most {
        for number in documents.clone() {
            let result = library.revise(number, worked.rounds);
            worked.verified.count(result);
        }
        worked.rounds += 1;
        thread::sleep(PAUSE);
        worked.time = start.elapsed();
        let stored = arena.stats().stored_bytes / MIB as u64;
        spinner.set_message(format!("round {}, {stored} MiB stored", worked.rounds));
        spinner.tick();
    }
    spinner.finish_and_clear();
    worked
}

/// Detects that the arena has evicted all pages that it can.
struct End {
    /// Less growth than this counts as none.
    step: u64,
    stored: u64,
    since: Instant,
    /// Before this time no page can be cold.
    not_before: Instant,
}

impl End {
    fn new(arena: &Arena) -> Self {
        let now = Instant::now();
        // Plain memory evicts nothing, so there is nothing to wait for.
        let wait = match arena.swapping() {
            Swapping::On(_) => COLD_AGE * 3,
            _ => Duration::ZERO,
        };
        Self {
            step: arena.stats().allocated_bytes / 100,
            stored: 0,
            since: now,
            not_before: now + wait,
        }
    }

    fn has_come(&mut self, arena: &Arena) -> bool {
        let stored = arena.stats().stored_bytes;
        if stored > self.stored + self.step {
            self.stored = stored;
            self.since = Instant::now();
        }
        self.since.elapsed() >= QUIET && Instant::now() >= self.not_before
    }
}

/// The result of touching everything.
#[derive(Debug)]
pub(crate) struct Touched {
    pub(crate) verified: Verified,
    pub(crate) touches: Touches,
    /// Statistics before and after the timed touches.
    pub(crate) before: Stats,
    pub(crate) after: Stats,
    pub(crate) time: Duration,
}

impl Touched {
    /// The refaults among the timed touches, as the arena counts them.
    pub(crate) fn refaults(&self) -> u64 {
        self.after.refaults - self.before.refaults
    }
}

/// Touches and verifies all documents.
pub(crate) fn everything(library: &Library<'_>, arena: &Arena) -> Touched {
    let bar = progress::documents(library.len());
    let start = Instant::now();
    // The lookups restore names and the map's table. They are not timed, so their refaults must not be
    // counted.
    let texts: Vec<&[u8]> = (0..library.len()).map(|n| library.text(n)).collect();
    let before = arena.stats();
    let mut verified = Verified::default();
    let mut touches = Touches::new();
    for (number, text) in texts.into_iter().enumerate() {
        touches.touch(text);
        verified.count(library.verify(number));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Touched { verified, touches, before, after: arena.stats(), time: start.elapsed() }
}
