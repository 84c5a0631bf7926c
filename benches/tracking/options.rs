//! The command line.

use crate::Trouble;
use crate::loads::Load;
use crate::watch::Watch;
use lexopt::prelude::*;
use std::time::Duration;

pub(crate) const HELP: &str = "\
Measures what watching memory costs a program, and how well it finds cold memory: all ways to watch
in turn, several times in one run.

Usage: cargo bench --bench tracking -- [OPTIONS]

Options:
  --load NAME,...    the loads [default: all]
  --watch NAME,...   the ways to watch; always none too [default: zap,accessed]
  --gib LIST         GiB of the arena [default: 0.5,2,8,16]
  --foreign LIST     GiB of other anonymous memory in the process, in small pages [default: 0,8]
  --seconds N        of each measurement, from 1 to 3600 [default: 30]. A load lasts longer if its
                     period or its cold age needs it. Below 12, all times of the loads shrink.
  --alternations N   how often to measure each row, from 1 to 1000 [default: 5]
  --cold-age N       seconds, from 1 to 3600, of the loads that evict [default: see below]
  --zipf-share N     zipf reads one object in N per cold age, from 1 to 100000 [default: 64]
  --quick            0.25 GiB, no foreign memory, 1 alternation, 2 seconds
  --self-test        checks the benchmark's own calculations, and measures nothing
  --help             this text

The defaults take most of a day. The first lines of the output say how long a run will take. A size
needs a quarter more memory than it has; the benchmark leaves out a size without that, and says so.

Ways to watch:
  none       no scans: a scan interval of an hour
  zap        page by page: accessed_bits(false)
  accessed   regions by their accessed bits first, then page by page: accessed_bits(true)
  private    as accessed, in an arena of private memory, which has huge pages if the system allows it
  huge       no arena: memory of the system with MADV_HUGEPAGE
  damon      none, while DAMON watches the process (5 ms, 100 ms). It needs root, DAMON's vaddr
             operations, and a DAMON that is not in use. The benchmark switches DAMON off at the end.

Loads, by one thread. All reads follow a random cycle, so that each read depends on the last:
  hot        reads of all memory without pause
  stride     writes to one word in each 64 KiB
  phases     reads of one half; the half changes every 10 s
  turns      8 s of reads, 8 s of rest; the throughput is that of the reads
  bursts     1 s of reads, 2 s of rest
             The loads up to here evict nothing: their cold age is a minute.
  warm       reads of 256 MiB (of half if that is less), the rest idle. The cold age is 12 s, and the
             rest is evicted before the measurement begins.
  zipf       objects of 4 KiB, Zipf 0.99, scattered. Slow, so that most objects are cold: see
             --zipf-share. The throughput is that of the time in the reads.
  one_per_region   reads of one page in each 2 MiB
  idle       no touches
             The last three have a cold age of 4 s, or of 2 s per GiB if that is more, which gives the
             evictor time, and forty scan intervals in a cold age. They last three cold ages at least.

Output: lines that begin with '#' describe the machine and the tables. Each row of a table is also a
line 'tracking load=... gib=... watch=... ratio=...', without the figures that the row lacks. All
figures are medians of the alternations:
  ratio       throughput, divided by that of none in the same alternation
  least       the least of these ratios
  per_second  touches per second, while the load does not rest
  cpu         processor time of the threads thermo-*, and of DAMON's, in percent of one processor
  cpu_vs_smallest   the same, divided by that of the smallest size (load warm)
  faults      minor faults of the thread that touches the memory, in the whole load
  evicted, again, ideal_evicted, ideal_again, idle, idle_left   pages: see benches/tracking/main.rs
  tracking_nanos, tracking_fault_nanos, accessed_scans   from Stats, if it has them

Exit code: 0, or 1 if a byte was wrong, or 2 if nothing could be measured.
";

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) loads: Vec<Load>,
    pub(crate) watches: Vec<Watch>,
    pub(crate) gib: Vec<f64>,
    pub(crate) foreign: Vec<f64>,
    pub(crate) length: Duration,
    pub(crate) alternations: usize,
    pub(crate) cold_age: Option<Duration>,
    pub(crate) zipf_share: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            loads: Load::ALL.to_vec(),
            // DAMON belongs to the machine, so it is switched on only if the command names it.
            watches: vec![Watch::Zap, Watch::Accessed],
            gib: vec![0.5, 2.0, 8.0, 16.0],
            foreign: vec![0.0, 8.0],
            length: Duration::from_secs(30),
            alternations: 5,
            cold_age: None,
            zipf_share: 64,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Task {
    Help,
    SelfTest,
    Compare(Options),
}

impl Task {
    pub(crate) fn from_env() -> Result<Self, Trouble> {
        Self::parse(lexopt::Parser::from_env()).map_err(|e| format!("{e}; see --help").into())
    }

    pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let mut options = Options::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("load") => {
                    options.loads = parser.value()?.parse_with(|names| list(names, load))?;
                }
                Long("watch") => {
                    options.watches = parser.value()?.parse_with(|names| list(names, watch))?;
                }
                Long("gib") => {
                    options.gib = parser.value()?.parse_with(|sizes| list(sizes, size))?;
                    if options.gib.contains(&0.0) {
                        return Err("an arena needs more than 0 GiB".into());
                    }
                }
                Long("foreign") => {
                    options.foreign = parser.value()?.parse_with(|sizes| list(sizes, size))?;
                }
                Long("seconds") => {
                    let seconds = parser.value()?.parse_with(|n| within(n, 1, 3600))?;
                    options.length = Duration::from_secs(seconds);
                }
                Long("alternations") => {
                    let many = parser.value()?.parse_with(|n| within(n, 1, 1000))?;
                    options.alternations = usize::try_from(many).unwrap_or(1);
                }
                Long("cold-age") => {
                    let seconds = parser.value()?.parse_with(|n| within(n, 1, 3600))?;
                    options.cold_age = Some(Duration::from_secs(seconds));
                }
                Long("zipf-share") => {
                    options.zipf_share = parser.value()?.parse_with(|n| within(n, 1, 100_000))?;
                }
                Long("quick") => {
                    (options.gib, options.foreign) = (vec![0.25], vec![0.0]);
                    (options.alternations, options.length) = (1, Duration::from_secs(2));
                }
                Long("self-test") => return Ok(Self::SelfTest),
                Long("help") | Short('h') => return Ok(Self::Help),
                // Cargo passes this to every benchmark.
                Long("bench") => {}
                _ => return Err(argument.unexpected()),
            }
        }
        options.gib.sort_by(f64::total_cmp);
        // The other ways are compared with it.
        options.watches.retain(|watch| *watch != Watch::None);
        options.watches.insert(0, Watch::None);
        Ok(Self::Compare(options))
    }
}

fn list<T>(given: &str, one: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    given.split(',').map(one).collect()
}

fn load(given: &str) -> Result<Load, String> {
    let named = Load::ALL.into_iter().find(|load| load.name() == given);
    named.ok_or_else(|| format!("there is no load {given}"))
}

fn watch(given: &str) -> Result<Watch, String> {
    let named = Watch::ALL.into_iter().find(|watch| watch.name() == given);
    named.ok_or_else(|| format!("there is no way to watch {given}"))
}

fn size(given: &str) -> Result<f64, String> {
    let size = given.parse().ok().filter(|gib| *gib == 0.0 || (0.03125..=4096.0).contains(gib));
    size.ok_or_else(|| "it takes GiB: 0, or from 0.03125 to 4096".to_owned())
}

fn within(given: &str, least: u64, most: u64) -> Result<u64, String> {
    let n = given.parse().ok().filter(|n| (least..=most).contains(n));
    n.ok_or_else(|| format!("it takes a whole number from {least} to {most}"))
}
