//! A program that knows nothing of arenas, with its memory in one: [`tantivy`], a search engine, indexes
//! the documentation of Rust in memory. The arena compresses the idle index, and then the program repeats
//! its queries.
//!
//! ```text
//! cargo run --release -p search
//! cargo run --release -p search -- --mib 600 ~/notes
//! ```
//!
//! Only the lines below that contain `GLOBAL` refer to the arena.
//!
//! Exit code: 0 if every answer was the same as before; 1 if one differed; 2 after an error.

mod documents;
mod engine;
mod options;
mod report;

use crate::documents::Documents;
use crate::engine::Engine;
use crate::options::{HELP, Options};
use crate::report::{Asked, Report, Usage};
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};
use thermocline::{Arena, ArenaAlloc};

/// Smaller blocks come from the system's allocator.
#[global_allocator]
static GLOBAL: ArenaAlloc = ArenaAlloc::new(4096);

/// Short, for a result within seconds. A server would use a minute.
const COLD_AGE: Duration = Duration::from_secs(1);
const SCAN_INTERVAL: Duration = Duration::from_millis(200);

/// Eviction has ended if resident memory shrinks by less than a hundredth in this time.
const QUIET: Duration = Duration::from_secs(2);

/// Any error, with a message for the user.
type BoxError = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match run(&mut io::stdout().lock()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            // A failure of standard error cannot be reported.
            let _ = writeln!(io::stderr(), "search: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs the example. Returns the number of wrong answers.
fn run(out: &mut dyn Write) -> Result<usize, BoxError> {
    let Some(options) = Options::from_env()? else {
        out.write_all(HELP.as_bytes())?;
        return Ok(0);
    };
    let documents = Documents::find(options.paths)?;
    let arena = Arena::builder().cold_age(COLD_AGE).scan_interval(SCAN_INTERVAL).build()?;
    GLOBAL.start(&arena)?;

    writeln!(out, "indexing {} MiB of {documents}", options.mib)?;
    let start = Instant::now();
    let engine = Engine::index(documents.read(options.mib << 20))?;
    let indexing = start.elapsed();

    // The first run warms up caches that the engine fills lazily.
    engine.ask_all()?;
    let expected = engine.ask_all()?;
    let before = Usage::of(&arena);

    writeln!(out, "waiting until {} idle documents are evicted", engine.documents())?;
    sleep_until_evicted(&arena, options.seconds);
    let after = Usage::of(&arena);

    writeln!(out, "asking again")?;
    let refaults = arena.stats().refaults;
    let first = engine.ask_all()?;
    let refaults = arena.stats().refaults - refaults;
    let again = engine.ask_all()?;

    let report = Report {
        documents: engine.documents(),
        text_bytes: engine.text_bytes(),
        index_bytes: engine.index_bytes(),
        indexing,
        wrong: first.differing(&expected) + again.differing(&expected),
        asked: [Asked::of(&expected), Asked::of(&first), Asked::of(&again)],
        refaults,
        before,
        after,
        last: Usage::of(&arena),
        swapping: arena.swapping(),
    };
    write!(out, "\n{report}")?;
    Ok(report.wrong)
}

fn sleep_until_evicted(arena: &Arena, at_most: Duration) {
    let start = Instant::now();
    let (mut stored, mut since) = (0, start);
    while since.elapsed() < QUIET.max(3 * COLD_AGE) && start.elapsed() < at_most {
        thread::sleep(SCAN_INTERVAL);
        let stats = arena.stats();
        if stats.stored_bytes > stored + stats.allocated_bytes / 100 {
            (stored, since) = (stats.stored_bytes, Instant::now());
        }
    }
}
