//! The command line.

use crate::BoxError;
use lexopt::prelude::*;
use std::path::PathBuf;
use std::time::Duration;
use thermocline::{FaultMode, Tracker};

pub(crate) const MIB: usize = 1 << 20;

pub(crate) const HELP: &str = "\
Loads text into collections that live in a thermocline arena, works on a tenth of it while the rest
is compressed in the background, then touches and verifies everything.

Usage: quickstart [OPTIONS] [FILE OR DIRECTORY]...

Without files it takes the documentation of the Rust toolchain, or the sources of the crates that
cargo has downloaded. It walks directories, but skips symbolic links in them and files that are not
text. If the files are too few, it loads them repeatedly under other names.

Options:
  --mib N          MiB to load, from 1 to 1048576 [default: 256]
  --seconds N      the longest time to work, from 1 to 3600; the work ends earlier if the arena
                   has no more pages to evict [default: 60]
  --tracker NAME   rwp or zap [default: the best that the kernel supports]
  --faults MODE    handler or inline: whether a handler thread or the faulting thread restores a
                   page [default: handler, if faults of system calls can be served too]
  --help           this text

Exit code: 0; 1 if a checksum was wrong; 2 after an error.
";

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) mib: usize,
    /// The longest wait for the end of eviction.
    pub(crate) seconds: Duration,
    pub(crate) tracker: Option<Tracker>,
    pub(crate) fault_mode: FaultMode,
    pub(crate) paths: Vec<PathBuf>,
}

impl Options {
    /// None if the user asked for help.
    pub(crate) fn from_env() -> Result<Option<Self>, BoxError> {
        Self::parse(lexopt::Parser::from_env()).map_err(|e| format!("{e}; see --help").into())
    }

    fn parse(mut parser: lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut options = Self {
            mib: 256,
            seconds: Duration::from_secs(60),
            tracker: None,
            fault_mode: FaultMode::Auto,
            paths: Vec::new(),
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Long("mib") => options.mib = parser.value()?.parse_with(mib)?,
                Long("seconds") => options.seconds = parser.value()?.parse_with(seconds)?,
                Long("tracker") => options.tracker = Some(parser.value()?.parse_with(tracker)?),
                Long("faults") => options.fault_mode = parser.value()?.parse_with(fault_mode)?,
                Long("help") | Short('h') => return Ok(None),
                Value(path) => options.paths.push(path.into()),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

fn mib(given: &str) -> Result<usize, &'static str> {
    let n = given.parse().ok().filter(|n| (1..=MIB).contains(n));
    n.ok_or("--mib takes a whole number from 1 to 1048576")
}

fn seconds(given: &str) -> Result<Duration, &'static str> {
    let n = given.parse().ok().filter(|n| (1..=3600).contains(n));
    n.map(Duration::from_secs).ok_or("--seconds takes a whole number from 1 to 3600")
}

fn tracker(given: &str) -> Result<Tracker, &'static str> {
    match given {
        "rwp" => Ok(Tracker::Rwp),
        "zap" => Ok(Tracker::Zap),
        _ => Err("--tracker takes rwp or zap"),
    }
}

fn fault_mode(given: &str) -> Result<FaultMode, &'static str> {
    match given {
        "handler" => Ok(FaultMode::Handler),
        "inline" => Ok(FaultMode::Inline),
        _ => Err("--faults takes handler or inline"),
    }
}
