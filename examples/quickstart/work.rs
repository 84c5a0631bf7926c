//! What a program does with its memory: most of the time it works on a part, and now and then it
//! needs the rest.

use crate::library::{Library, Mismatch};
use crate::measure::Touches;
use crate::options::MIB;
use crate::{COLD_AGE, progress};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};
use thermocline::{Arena, Stats, Swapping};

/// Between rounds the processor is somebody else's.
const PAUSE: Duration = Duration::from_millis(10);

/// Eviction has come to an end when so long less than a hundredth has gone.
const QUIET: Duration = Duration::from_secs(2);

/// Checksums that were compared.
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

/// What working on a part came to.
#[derive(Debug)]
pub(crate) struct Worked {
    pub(crate) verified: Verified,
    pub(crate) rounds: u32,
    pub(crate) time: Duration,
}

/// Reads and edits `documents` again and again until the arena evicts no more of the others.
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

/// Tells when the arena has evicted what there is to evict.
struct End {
    /// Below this, growth is no growth.
    step: u64,
    stored: u64,
    since: Instant,
    /// Before that nothing can have gone cold.
    not_before: Instant,
}

impl End {
    fn new(arena: &Arena) -> Self {
        let now = Instant::now();
        // Plain memory has nothing to wait for.
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

/// What touching everything came to.
#[derive(Debug)]
pub(crate) struct Touched {
    pub(crate) verified: Verified,
    pub(crate) touches: Touches,
    /// Before and after the touches that were timed.
    pub(crate) before: Stats,
    pub(crate) after: Stats,
    pub(crate) time: Duration,
}

impl Touched {
    /// Refaults among the touches that were timed, by the arena's count.
    pub(crate) fn refaults(&self) -> u64 {
        self.after.refaults - self.before.refaults
    }
}

/// Touches and verifies all documents.
pub(crate) fn everything(library: &Library<'_>, arena: &Arena) -> Touched {
    let bar = progress::documents(library.len());
    let start = Instant::now();
    // Looking them up brings back names and the map's table. That is not timed, and must not be
    // counted among what is.
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
