//! What the command line says.

use crate::Trouble;
use lexopt::prelude::*;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const HELP: &str = "\
Indexes documents with tantivy, in memory, in a process whose large blocks come from a thermocline
arena. Leaves the index alone until it is compressed, asks it again, and compares the answers with
those from before.

Usage: search [OPTIONS] [FILE OR DIRECTORY]...

Without files it takes the documentation of the Rust toolchain, or the sources of the crates that
cargo has downloaded. Directories are walked; symbolic links in them, and what is not text, are left
out. Of HTML only the text is indexed.

Options:
  --mib N       MiB of files to read at most, from 1 to 65536 [default: 256]
  --seconds N   wait for at most so long, from 1 to 3600, if the arena still has pages to evict; it
                goes on when there are none left [default: 60]
  --help        this text

Exit code: 0, or 1 if an answer was wrong, or 2 if there is nothing to index or no way to do so.
";

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) mib: usize,
    /// The longest time to wait for eviction to come to an end.
    pub(crate) seconds: Duration,
    pub(crate) paths: Vec<PathBuf>,
}

impl Options {
    /// None if the help was asked for.
    pub(crate) fn from_env() -> Result<Option<Self>, Trouble> {
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
