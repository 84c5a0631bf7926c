//! The command line.

use crate::BoxError;
use lexopt::prelude::*;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const HELP: &str = "\
Indexes documents with tantivy, in memory, in a process whose large blocks come from a thermocline
arena. Waits until the arena has compressed the idle index, repeats the queries, and compares the
answers with the first ones.

Usage: search [OPTIONS] [FILE OR DIRECTORY]...

Without files it takes the documentation of the Rust toolchain, or the sources of the crates that
cargo has downloaded. It walks directories, but skips symbolic links in them and files that are not
text. It indexes only the text of HTML.

Options:
  --mib N       the most MiB of files to read, from 1 to 65536 [default: 256]
  --seconds N   the longest wait, from 1 to 3600; the wait ends earlier if the arena has no more pages
                to evict [default: 60]
  --help        this text

Exit code: 0; 1 if an answer was wrong; 2 after an error.
";

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) mib: usize,
    /// The longest wait for the end of eviction.
    pub(crate) seconds: Duration,
    pub(crate) paths: Vec<PathBuf>,
}

impl Options {
    /// None if the user asked for help.
    pub(crate) fn from_env() -> Result<Option<Self>, BoxError> {
        Self::parse(lexopt::Parser::from_env()).map_err(|e| format!("{e}; see --help").into())
    }

    fn parse(mut parser: lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut options = Self { mib: 256, seconds: Duration::from_secs(60), paths: Vec::new() };
        while let Some(argument) = parser.next()? {
            match argument {
                Long("mib") => options.mib = parser.value()?.parse_with(mib)?,
                Long("seconds") => options.seconds = parser.value()?.parse_with(seconds)?,
                Long("help") | Short('h') => return Ok(None),
                Value(path) => options.paths.push(path.into()),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

fn mib(given: &str) -> Result<usize, &'static str> {
    let n = given.parse().ok().filter(|n| (1..=1 << 16).contains(n));
    n.ok_or("--mib takes a whole number from 1 to 65536")
}

fn seconds(given: &str) -> Result<Duration, &'static str> {
    let n = given.parse().ok().filter(|n| (1..=3600).contains(n));
    n.map(Duration::from_secs).ok_or("--seconds takes a whole number from 1 to 3600")
}
