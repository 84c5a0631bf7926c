//! How much memory an allocator holds for the bytes that a program has in use.
//!
//! This program starts a child of itself for each measurement, so that no memory of an earlier one is
//! counted. The held bytes are the growth of the child until the load is steady: the resident bytes of
//! its private mappings, as the kernel counts them per mapping, and the arena's bytes of shared memory.
//! The child starts the arena after the first count, so that the arena's tables and threads are
//! included. It touches the lists of blocks before the first count, so that the lists are not included.

use crate::Trouble;
use crate::blocks::{Blocks, Room};
use crate::contestant::Kind;
use crate::sides::Side;
use crate::sizes::{MIXED, SHIFTED};
use procfs::ProcError;
use procfs::process::{MMPermissions, Process};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::fmt;
use std::iter::Sum;
use std::process::Command;
use std::str::FromStr;
use std::sync::Barrier;
use std::thread::{self, ScopedJoinHandle};

/// How often each half replaces every block, on average.
const TURNS: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// New blocks replace random blocks.
    Random,
    /// From half of the time on new blocks are four times as large.
    Shift,
}

impl Change {
    pub(crate) const ALL: [Self; 2] = [Self::Random, Self::Shift];
}

/// Blocks of `mib` MiB in all, spread evenly over `threads` threads. Each page of each block is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) change: Change,
    pub(crate) mib: usize,
    pub(crate) threads: usize,
}

/// Bytes that the load allocated and did not free, and bytes of memory that the allocator holds for them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    pub(crate) live: u64,
    pub(crate) held: u64,
}

impl Sum for Held {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            live: sum.live + one.live,
            held: sum.held + one.held,
        })
    }
}

impl Load {
    fn bytes_each(self) -> usize {
        (self.mib << 20) / self.threads
    }

    fn rooms(self) -> Vec<Room> {
        // Twice the expected number, because sizes are random.
        let blocks = self.bytes_each() / MIXED.mean() * 2;
        (0..self.threads).map(|_| Room::new(blocks)).collect()
    }

    /// Puts the load on a side, and counts the memory of the process while it is there.
    pub(crate) fn put_on<S: Side>(self, side: &S, rooms: Vec<Room>) -> Result<Held, ProcError> {
        let barrier = Barrier::new(self.threads);
        let work = |room, seed| -> Result<Held, ProcError> {
            let mut blocks = Blocks::new(side, room);
            let live = self.fill(&mut blocks, seed) as u64;
            let look = || private_bytes().map(|bytes| bytes + side.shared_bytes());
            let held = barrier.wait().is_leader().then(look);
            // Thread caches count too, so no thread ends before the count.
            barrier.wait();
            Ok(Held { live, held: held.transpose()?.unwrap_or_default() })
        };
        thread::scope(|scope| {
            let spawn = |(seed, room)| scope.spawn(move || work(room, seed));
            let threads: Vec<_> = (0..).zip(rooms).map(spawn).collect();
            let join = |thread: ScopedJoinHandle<'_, _>| thread.join().expect("it has memory");
            threads.into_iter().map(join).sum()
        })
    }

    /// Allocates and replaces blocks, and returns how many bytes are live.
    fn fill<S: Side>(self, blocks: &mut Blocks<'_, S>, seed: u64) -> usize {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut live = 0;
        for half in [&MIXED, if self.change == Change::Random { &MIXED } else { &SHIFTED }] {
            let mut sizes = half.draw(seed);
            let mut refill = |blocks: &mut Blocks<'_, S>, live: &mut usize| {
                while *live < self.bytes_each() {
                    let size = sizes.next().expect("sizes are without end");
                    blocks.push_whole(size);
                    *live += size;
                }
            };
            refill(blocks, &mut live);
            for _ in 0..TURNS * blocks.len() {
                live -= blocks.remove_any(&mut random);
                refill(blocks, &mut live);
            }
        }
        live
    }

    /// Starts a child process that holds the load, and returns its counts.
    pub(crate) fn measure(self, kind: Kind, checked: bool) -> Result<Held, Trouble> {
        let mut child = Command::new(std::env::current_exe()?);
        child.args(["--sides", &kind.to_string(), "--hold", &self.to_string()]);
        if checked {
            child.arg("--check");
        }
        let output = child.output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let mut numbers = said.split_whitespace().map_while(|word| word.parse().ok());
        match (output.status.success(), numbers.next(), numbers.next()) {
            (true, Some(live), Some(held)) => Ok(Held { live, held }),
            _ => {
                let reason = String::from_utf8_lossy(&output.stderr);
                Err(format!("{kind} under {self}: {}, {}", output.status, reason.trim_end()).into())
            }
        }
    }

    /// The work of that child, and its output.
    pub(crate) fn hold(self, kind: Kind, checked: bool) -> Result<String, Trouble> {
        let rooms = self.rooms();
        // Twice, so that the memory for counting itself is in the first count too.
        private_bytes()?;
        let before = private_bytes()?;
        let Held { live, held } = kind.start(checked)?.hold(self, rooms)?;
        Ok(format!("{live} {}\n", held.saturating_sub(before)))
    }
}

/// The name of the load.
impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = match self.change {
            Change::Random => "random",
            Change::Shift => "shift",
        };
        write!(f, "held_{change}_{}m_{}t", self.mib, self.threads)
    }
}

impl FromStr for Load {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let parts: Vec<_> = name.split('_').collect();
        let load = match parts[..] {
            ["held", change, mib, threads] => (|| {
                let change = match change {
                    "random" => Change::Random,
                    "shift" => Change::Shift,
                    _ => return None,
                };
                let mib = mib.strip_suffix('m')?.parse().ok()?;
                let threads = threads.strip_suffix('t')?.parse().ok()?;
                Some(Self { change, mib, threads })
            })(),
            _ => None,
        };
        load.ok_or("it takes the name of a load")
    }
}

/// Resident bytes of the process's private mappings.
fn private_bytes() -> Result<u64, ProcError> {
    let maps = Process::myself()?.smaps()?;
    let private = maps.iter().filter(|map| map.perms.contains(MMPermissions::PRIVATE));
    Ok(private.filter_map(|map| map.extension.map.get("Rss")).sum())
}
