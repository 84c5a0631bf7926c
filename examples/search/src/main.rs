//! A program that was not written for it, with its memory in an arena: [`tantivy`], a search engine,
//! holds an index of the documentation that comes with Rust in memory, the index is left alone until
//! it is compressed, and then it is asked again.
//!
//! ```text
//! cargo run --release -p search
//! cargo run --release -p search -- --mib 600 ~/notes
//! ```
//!
//! All that makes it so are the lines below with `GLOBAL` in them.
//!
//! It ends with 0 if every answer was the same as before, with 1 if one was not, and with 2 if it could
//! not do its job.

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

/// What is smaller stays with the system.
#[global_allocator]
static GLOBAL: ArenaAlloc = ArenaAlloc::new(4096);

/// So short that there is something to see within seconds. A server would take a minute.
const COLD_AGE: Duration = Duration::from_secs(1);
const SCAN_INTERVAL: Duration = Duration::from_millis(200);

/// Eviction has come to an end when so long less than a hundredth has gone.
const QUIET: Duration = Duration::from_secs(2);

/// What kept the program from doing its job, in words.
type Trouble = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match run(&mut io::stdout().lock()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(trouble) => {
            // Where this cannot be written, there is nobody to read it either.
            let _ = writeln!(io::stderr(), "search: {trouble}");
            ExitCode::from(2)
        }
    }
}

/// Does it all and says how many answers were wrong.
fn run(out: &mut dyn Write) -> Result<usize, Trouble> {
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

    // The first time is for what is made at the first time.
    engine.ask_all()?;
    let expected = engine.ask_all()?;
    let before = Usage::of(&arena);

    writeln!(out, "leaving {} documents alone until they are evicted", engine.documents())?;
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
