//! The command line.

use crate::Trouble;
use crate::contestant::Kind;
use crate::held::Load;
use lexopt::prelude::*;
use std::ops::RangeInclusive;
use std::time::Duration;

pub(crate) const HELP: &str = "\
Compares an arena with other allocators: the system's, mimalloc and jemalloc, each with its default
features. All do the same in one run, in turn.

Usage: cargo run --release -p thermocline-allocators -- [OPTIONS]

Options:
  --sides LIST      of arena, plain (an arena that only allocates), system, mimalloc, jemalloc
                    [default: arena,system,mimalloc,jemalloc]
  --patterns LIST   of pairs, batches, mixed, handoff, larson, growth, held [default: all]
  --threads LIST    numbers of threads, for patterns with several threads [default: 1,2]
  --mib N           MiB that each thread has in use in mixed, from 8 to 4096 [default: 64]
  --held-mib LIST   MiB that all threads together have in use in held, from 8 to 4096
                    [default: 64,256]
  --rounds N        how often to measure each side, from 1 to 1000 [default: 9]
  --budget MS       milliseconds for a measurement, from 1 to 10000 [default: 25]
  --quick           3 rounds, a budget of 5 ms, 16 MiB in mixed and 32 in held
  --check           compare the written bytes when a block is freed, which distorts the times
  --help            this text

Patterns. The figures are the times of:

  pairs_SIZE            allocate a block, write its first byte, free it
  batches_SIZE_ORDER    allocate 10,000 blocks and write to them, then free them: the youngest first
                        (lifo), the oldest first (fifo), or in random order (shuffled); per block
  mixed_Nt              each of N threads has --mib MiB in blocks of all sizes, frees a random one
                        and allocates another. Sizes are log-normal, 16 bytes to 32 KiB with a median
                        of 128 bytes; one in 512 is from 32 to 512 KiB.
  handoff_N_N           N threads allocate blocks of 8 to 1000 bytes that N other threads free;
                        wall-clock time per block
  larson_Nt             each of N threads has 5000 blocks of 8 to 1000 bytes, frees a random one and
                        allocates another, and after 50,000 of these hands its blocks to a new thread
  growth_FACTOR_SIZE_Nv N vectors of bytes grow in turn, from 16 bytes to SIZE, by doubling or by half;
                        new bytes are written after each step, and the vectors are freed
  held_CHANGE_MIB_Nt    no time, but the memory that a process of its own has grown by while it has
                        MIB MiB in use in N threads. It replaces random blocks of the sizes of
                        'mixed' for a while. In 'shift' the new blocks are four times as large in
                        the second half, in 'random' they are not. Each page of each block is
                        written. The table also has the ratio to the bytes in use.

The first and the last byte of each block are written, if nothing else is said.

Output: lines that begin with '#' describe the machine, then a table, then a line per figure for
scripts. Values are medians of all rounds. The last column, vs_best in the lines, is the arena's
value divided by that of the best rival in the same round: the median, and in the lines the least and
the greatest.

Exit code: 0, or 2 if a measurement failed, or 101 if a byte was wrong.
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    Pairs,
    Batches,
    Mixed,
    Handoff,
    Larson,
    Growth,
    Held,
}

impl Pattern {
    const ALL: [(&str, Self); 7] = [
        ("pairs", Self::Pairs),
        ("batches", Self::Batches),
        ("mixed", Self::Mixed),
        ("handoff", Self::Handoff),
        ("larson", Self::Larson),
        ("growth", Self::Growth),
        ("held", Self::Held),
    ];
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) sides: Vec<Kind>,
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) threads: Vec<usize>,
    pub(crate) mib: usize,
    pub(crate) held_mib: Vec<usize>,
    pub(crate) rounds: usize,
    pub(crate) budget: Duration,
    pub(crate) check: bool,
}

#[derive(Debug)]
pub(crate) enum Task {
    Help,
    Compare(Options),
    /// Put a load on a side and print what it holds. The benchmark starts itself as a child with this.
    Hold(Load, Kind, bool),
}

impl Task {
    pub(crate) fn from_env() -> Result<Self, Trouble> {
        Self::parse(lexopt::Parser::from_env()).map_err(|e| format!("{e}; see --help").into())
    }

    fn parse(mut parser: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let mut options = Options {
            sides: Kind::ALL.into_iter().filter(|kind| *kind != Kind::Plain).collect(),
            patterns: Pattern::ALL.map(|(_, pattern)| pattern).to_vec(),
            threads: vec![1, 2],
            mib: 64,
            held_mib: vec![64, 256],
            rounds: 9,
            budget: Duration::from_millis(25),
            check: false,
        };
        let mut load = None;
        while let Some(argument) = parser.next()? {
            match argument {
                Long("sides") => options.sides = parser.value()?.parse_with(|l| list(l, side))?,
                Long("patterns") => {
                    options.patterns = parser.value()?.parse_with(|l| list(l, pattern))?;
                }
                Long("threads") => {
                    let threads = |l: &str| list(l, |n| within(n, 1..=64));
                    options.threads = parser.value()?.parse_with(threads)?;
                }
                Long("mib") => options.mib = parser.value()?.parse_with(mib)?,
                Long("held-mib") => {
                    options.held_mib = parser.value()?.parse_with(|l| list(l, mib))?;
                }
                Long("rounds") => {
                    options.rounds = parser.value()?.parse_with(|n| within(n, 1..=1000))?;
                }
                Long("budget") => {
                    let millis = parser.value()?.parse_with(|n| within(n, 1..=10_000))?;
                    options.budget = Duration::from_millis(millis as u64);
                }
                Long("quick") => {
                    (options.rounds, options.mib, options.held_mib) = (3, 16, vec![32]);
                    options.budget = Duration::from_millis(5);
                }
                Long("check") => options.check = true,
                Long("hold") => load = Some(parser.value()?.parse::<Load>()?),
                Long("help") | Short('h') => return Ok(Self::Help),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(match load {
            Some(load) => Self::Hold(load, options.sides[0], options.check),
            None => Self::Compare(options),
        })
    }
}

fn within(given: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let n = given.parse().ok().filter(|n| range.contains(n));
    n.ok_or_else(|| format!("it takes whole numbers from {} to {}", range.start(), range.end()))
}

fn mib(given: &str) -> Result<usize, String> {
    within(given, 8..=4096)
}

/// Values with commas between them, at least one: no value is the empty word.
fn list<T>(given: &str, one: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    given.split(',').map(one).collect()
}

fn side(given: &str) -> Result<Kind, String> {
    let named = Kind::ALL.into_iter().find(|kind| kind.to_string() == given);
    named.ok_or_else(|| format!("there is no side '{given}'"))
}

fn pattern(given: &str) -> Result<Pattern, String> {
    let named = Pattern::ALL.iter().find(|(name, _)| *name == given);
    named.map(|(_, pattern)| *pattern).ok_or_else(|| format!("there is no pattern '{given}'"))
}
