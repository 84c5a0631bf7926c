//! The main job on real input: text in a `HashMap` and `Vec`s that live in an arena, of which a
//! tenth is worked on while the rest goes cold, is compressed in the background, and comes back.
//!
//! ```text
//! cargo run --release --example quickstart
//! cargo run --release --example quickstart -- --mib 1024 ~/notes /var/log
//! ```
//!
//! 1. [`texts`] finds the files, [`library`] is what they are loaded into.
//! 2. [`work`] reads and edits a tenth until the arena evicts no more. Nothing here tells it to.
//! 3. [`work`] touches everything again, verifies it, and takes the time of each first touch.
//! 4. [`report`] says what it came to.
//!
//! It ends with 0 if every checksum was right, with 1 if one was not, and with 2 if it could not do
//! its job.

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

/// What kept the program from doing its job, in words.
type Trouble = Box<dyn Error>;

/// So short that there is something to see within seconds. A server would take a minute.
const COLD_AGE: Duration = Duration::from_secs(1);
const SCAN_INTERVAL: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    match run(&mut io::stdout().lock()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(trouble) => {
            // Where this cannot be written, there is nobody to read it either.
            let _ = writeln!(io::stderr(), "quickstart: {trouble}");
            ExitCode::from(2)
        }
    }
}

/// Does it all and says how many checksums were wrong.
fn run(out: &mut dyn Write) -> Result<usize, Trouble> {
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
        // Address space, not memory: room to spare costs nothing.
        .reserve((bytes * 4).max(1 << 30))
        .cold_age(COLD_AGE)
        .scan_interval(SCAN_INTERVAL)
        .fault_mode(options.fault_mode);
    match options.tracker {
        // Who asks for a tracker wants that one or a reason why not.
        Some(tracker) => builder.tracker(tracker),
        None => builder.plain_memory_fallback(true),
    }
}

/// A program that falls back to plain memory without a word is one that saves nothing, and nobody
/// knows why.
fn say_what_swaps(out: &mut dyn Write, arena: &Arena) -> io::Result<()> {
    if let Swapping::Off(reason) = arena.swapping() {
        writeln!(out, "*** THE ARENA DOES NOT SWAP. It works as plain memory.")?;
        writeln!(out, "*** {reason}")?;
    }
    Ok(())
}
