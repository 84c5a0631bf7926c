//! The command line.

use crate::Trouble;
use crate::data::Data;
use lexopt::prelude::*;
use std::ops::RangeInclusive;
use thermocline::{Backing, Tracker};

pub(crate) const HELP: &str = "\
Compares an arena with the kernel's own swap to a zram device: the same pages, touched in the same
order, on both sides in turn, several times in one run.

Usage: cargo bench --bench vs_kernel -- [OPTIONS]

It needs root, the kernel module zram, and zswap switched off. It adds a device of its own, swaps to
it with the highest priority while it runs, and removes it again. If that fails it says why and
measures the arena alone.

Options:
  --mib N            MiB on each side, from 8 to 65536 [default: 128]
  --alternations N   how often to measure each side, from 1 to 1000 [default: 7]
  --data KIND        mixed, records, prose, pointers or zeros [default: mixed]
  --tracker NAME     rwp, zap or accessed; the best that the kernel has by default
  --backing NAME     shared or private [default: shared]
  --no-kernel        the arena alone
  --quick            16 MiB, 5 alternations
  --help             this text

Output: lines that begin with '#' describe the machine and say what was left out. Each other line is
a name, a value and a unit, with single spaces. The value is the median of the alternations. A name
that ends in _vs_zram is the arena's figure divided by the kernel's in the same alternation; lines
with _min and _max follow it. The data is written again before each eviction. Figures of touches:

  refault_random      the median touch; each time includes one reading of the clock
  ..._mean, _p99, _cpu   the mean, the 99th percentile, and the processor time per touch
  refault_clustered   the mean; random clusters of 16 pages, each from its first page to its last
  refault_sequential  the mean
  ..._handler         the same in an arena whose threads serve the faults
  ..._asleep          the median touch after pauses of a millisecond
  restore_ensure      Arena::ensure for one page and a read; the kernel's figure is a plain touch
  evict               processor time per evicted page: Arena::evict_now, MADV_PAGEOUT
  throughput_*_N_threads   N threads touch random pages, each its own
  compression_*       evicted bytes per byte of memory that the compressed copies take

Exit code: 0, or 1 if a byte was wrong, or 2 if nothing could be measured.
";

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) mib: usize,
    pub(crate) alternations: usize,
    pub(crate) data: Data,
    pub(crate) tracker: Option<Tracker>,
    pub(crate) backing: Backing,
    pub(crate) no_kernel: bool,
}

#[derive(Debug)]
pub(crate) enum Task {
    Help,
    Compare(Options),
    /// Keep swap on a device of this many bytes. The benchmark starts itself as a child with this.
    KeepSwap(usize),
}

impl Task {
    pub(crate) fn from_env() -> Result<Self, Trouble> {
        Self::parse(lexopt::Parser::from_env()).map_err(|e| format!("{e}; see --help").into())
    }

    fn parse(mut parser: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let mut options = Options {
            mib: 128,
            alternations: 7,
            data: Data::Mixed,
            tracker: None,
            backing: Backing::Shared,
            no_kernel: false,
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Long("mib") => {
                    options.mib = parser.value()?.parse_with(|n| within(n, 8..=65536))?
                }
                Long("alternations") => {
                    options.alternations = parser.value()?.parse_with(|n| within(n, 1..=1000))?;
                }
                Long("data") => options.data = parser.value()?.parse_with(data)?,
                Long("tracker") => options.tracker = Some(parser.value()?.parse_with(tracker)?),
                Long("backing") => options.backing = parser.value()?.parse_with(backing)?,
                Long("no-kernel") => options.no_kernel = true,
                Long("quick") => (options.mib, options.alternations) = (16, 5),
                Long("keep-swap") => return Ok(Self::KeepSwap(parser.value()?.parse()?)),
                Long("help") | Short('h') => return Ok(Self::Help),
                // Cargo passes this to every benchmark.
                Long("bench") => {}
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(Self::Compare(options))
    }
}

fn within(given: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let n = given.parse().ok().filter(|n| range.contains(n));
    n.ok_or_else(|| format!("it takes a whole number from {} to {}", range.start(), range.end()))
}

fn data(given: &str) -> Result<Data, String> {
    let named = Data::ALL.iter().find(|(name, _)| *name == given);
    named.map(|(_, data)| *data).ok_or_else(|| "there is no such data".to_owned())
}

fn tracker(given: &str) -> Result<Tracker, &'static str> {
    match given {
        "rwp" => Ok(Tracker::Rwp),
        "zap" => Ok(Tracker::Zap),
        "accessed" => Ok(Tracker::Accessed),
        _ => Err("it takes rwp, zap or accessed"),
    }
}

fn backing(given: &str) -> Result<Backing, &'static str> {
    match given {
        "shared" => Ok(Backing::Shared),
        "private" => Ok(Backing::Private),
        _ => Err("it takes shared or private"),
    }
}
