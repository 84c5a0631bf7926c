//! Puts load on a server that speaks Redis' protocol, checks its replies, and measures its speed.
//!
//! ```text
//! cargo run --release -p load -- --help
//! cargo run --release -p load -- --keys 1m --duration 30s 127.0.0.1:6379
//! ```
//!
//! Exit code: 0; 1 if a reply was wrong or an error; 2 if the load could not be run.

mod content;
mod drive;
mod keys;
mod options;
mod progress;
mod quantity;
mod resp;
mod versions;

use crate::drive::{Drive, Plan, Tally};
use crate::keys::{Picker, Shuffle};
use crate::options::{HELP, Length, Options, Phase};
use crate::progress::Progress;
use crate::versions::Versions;
use std::error::Error;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// Any error, with a message for the user.
type BoxError = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match run(&mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // A failure of standard error cannot be reported.
            let _ = writeln!(io::stderr(), "load: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs the phases. True if all replies were right.
fn run(out: &mut dyn Write) -> Result<bool, BoxError> {
    let Some(options) = Options::from_env()? else {
        out.write_all(HELP.as_bytes())?;
        return Ok(true);
    };
    if options.flush {
        let mut flush = options.greeting();
        flush.push(b"*1\r\n$8\r\nFLUSHALL\r\n".to_vec());
        options.address.connect(&flush)?;
    }
    let versions = Versions::new(options.keys);
    let picker = Picker::new(options.keys, options.popularity, options.seed)?;
    let mut good = true;
    for phase in options.phases() {
        if let (Phase::First, Some(idle)) = (phase, options.idle) {
            sleep(idle);
        }
        let tally = perform(phase, &options, &versions, &picker)?;
        for remark in &tally.remarks {
            writeln!(io::stderr(), "load: {remark}")?;
        }
        writeln!(out, "{}", tally.line(phase.name()))?;
        out.flush()?;
        if let Some(path) = &options.json {
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            file.write_all(tally.json(phase.name())?.as_bytes())?;
        }
        good &= tally.is_good();
    }
    Ok(good)
}

fn perform(
    phase: Phase,
    options: &Options,
    versions: &Versions,
    picker: &Picker,
) -> Result<Tally, BoxError> {
    let name = phase.name();
    let (plan, progress) = match phase {
        Phase::Fill => (Plan::Fill, Progress::of_answers(name, options.keys)),
        Phase::Run => {
            let progress = match options.length {
                Length::Time(time) => Progress::of_time(name, options.warm_up + time),
                Length::Requests(count) => Progress::of_answers(name, count),
            };
            (Plan::Run { picker, length: options.length }, progress)
        }
        Phase::First => {
            let count = options.keys.div_ceil(options.every);
            // Another permutation than the one that selects popular keys.
            let order = Shuffle::new(count, !options.seed);
            (Plan::First { order, count, every: options.every }, Progress::of_answers(name, count))
        }
    };
    let (pipeline, warm_up) = match phase {
        Phase::Fill => (options.fill_pipeline, Duration::ZERO),
        Phase::Run => (options.pipeline, options.warm_up),
        Phase::First => (options.pipeline, Duration::ZERO),
    };
    let drive = Drive::new(options, options.content(), versions, plan, pipeline, warm_up);
    let tally = drive.run(|answers, time| progress.show(answers, time));
    progress.finish();
    tally
}

fn sleep(length: Duration) {
    let progress = Progress::of_time("idle", length);
    let start = Instant::now();
    while let Some(left) = length.checked_sub(start.elapsed()) {
        thread::sleep(left.min(Duration::from_millis(250)));
        progress.show(0, start.elapsed());
    }
    progress.finish();
}
