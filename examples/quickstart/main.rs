//! The library's main use on real input: text in a `HashMap` and `Vec`s in an arena. The program works on a
//! tenth of it, while the arena compresses the rest in the background and restores it later.
//!
//! ```text
//! cargo run --release --example quickstart
//! cargo run --release --example quickstart -- --mib 1024 ~/notes /var/log
//! ```
//!
//! 1. [`texts`] finds the files, and loads them into a [`library`].
//! 2. [`work`] reads and edits a tenth until the arena evicts no more. The program never asks for eviction.
//! 3. [`work`] touches everything again, verifies it, and measures the time of each first touch.
//! 4. [`report`] prints the results.
//!
//! Exit code: 0 if every checksum was right; 1 if one was wrong; 2 after an error.

mod library;
mod measure;
mod options;
mod progress;
mod report;
mod texts;
mod work;

use crate::library::Library;
use crate::measure::Usage;
use crate::options::{HELP, MIB, Options};
use crate::report::Report;
use crate::texts::Texts;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;
use thermocline::{Arena, Builder, Swapping};

/// Any error, with a message for the user.
type BoxError = Box<dyn Error>;

/// Short, for a result within seconds. A server would use a minute.
const COLD_AGE: Duration = Duration::from_secs(1);
const SCAN_INTERVAL: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    match run(&mut io::stdout().lock()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            // A failure of standard error cannot be reported.
            let _ = writeln!(io::stderr(), "quickstart: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs the example. Returns the number of wrong checksums.
fn run(out: &mut dyn Write) -> Result<usize, BoxError> {
    let Some(options) = Options::from_env()? else {
        out.write_all(HELP.as_bytes())?;
        return Ok(0);
    };
    let arena = builder(options.mib * MIB, &options).build()?;
    let texts = Texts::find(options.paths)?;
    say_what_swaps(out, &arena)?;

    writeln!(out, "loading {} MiB of text from {texts}", options.mib)?;
    let mut library = Library::new(&arena);
    texts.load(&mut library, options.mib * MIB)?;
    let loaded = Usage::of(&arena);

    let tenth = library.first_tenth();
    let (some, all) = (tenth.len(), library.len());
    writeln!(out, "working on a tenth, {some} of {all} documents, until the rest is evicted")?;
    let worked = work::on_a_tenth(&mut library, tenth, &arena, options.seconds);
    let settled = Usage::of(&arena);

    writeln!(out, "touching everything again")?;
    let touched = work::everything(&library, &arena);

    let report = Report {
        documents: library.len(),
        text_bytes: library.text_bytes(),
        loaded,
        worked,
        settled,
        touched,
        last: Usage::of(&arena),
        swapping: arena.swapping(),
        route: arena.route(),
        fault_mode: arena.fault_mode(),
    };
    write!(out, "\n{report}")?;
    Ok(report.mismatches())
}

fn builder(bytes: usize, options: &Options) -> Builder {
    let builder = Arena::builder()
        // Reserved address space takes no memory.
        .reserve((bytes * 4).max(1 << 30))
        .cold_age(COLD_AGE)
        .scan_interval(SCAN_INTERVAL)
        .fault_mode(options.fault_mode);
    match options.tracker {
        // With an explicit tracker the build fails if that tracker is not available.
        Some(tracker) => builder.tracker(tracker),
        None => builder.plain_memory_fallback(true),
    }
}

/// Prints a warning if the arena does not swap. A program that silently falls back to plain memory saves
/// nothing, and its user does not know why.
fn say_what_swaps(out: &mut dyn Write, arena: &Arena) -> io::Result<()> {
    if let Swapping::Off(reason) = arena.swapping() {
        writeln!(out, "*** THE ARENA DOES NOT SWAP. It works as plain memory.")?;
        writeln!(out, "*** {reason}")?;
    }
    Ok(())
}
