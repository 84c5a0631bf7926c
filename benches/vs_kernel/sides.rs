//! The two sides: memory that the kernel swaps to zram, and an arena.

use crate::Trouble;
use crate::common::{PAGE, in_mode};
use crate::data::{Data, MARK, WORDS};
use crate::keeper::Swap;
use crate::kernel::{Anonymous, cpu_time};
use crate::measure::number;
use crate::options::Options;
use allocator_api2::vec::Vec as ArenaVec;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use thermocline::{Arena, ArenaError, FaultMode};

/// Pages that an eviction took, and the processor time that all threads of the process spent on it.
#[derive(Debug)]
pub(crate) struct Gone {
    pub(crate) pages: usize,
    pub(crate) cpu: Duration,
}

pub(crate) trait Side: Sync {
    fn words(&self) -> &[AtomicU64];

    /// Evicts every page.
    fn evict(&self) -> Result<Gone, Trouble>;

    /// Evicted bytes per byte of memory that they take now; `None` if they take none.
    fn compression(&self) -> Result<Option<f64>, Trouble>;
}

/// Writes to every page, which brings all of them back and makes them differ from any stored copy. False
/// if a page does not hold the value that the last call wrote.
pub(crate) fn write_all(side: &dyn Side, data: Data, round: u64) -> bool {
    let mut right = true;
    for (page, words) in side.words().chunks_exact(WORDS).enumerate() {
        let before = words[MARK].swap(data.mark(page, round), Ordering::Relaxed);
        right &= before == data.mark(page, round - 1);
    }
    right
}

/// The number of pages with wrong contents after `round` rounds of [`write_all`].
pub(crate) fn wrong_pages(side: &dyn Side, data: Data, round: u64) -> usize {
    let pages = side.words().chunks_exact(WORDS).enumerate();
    let wrong = pages.filter(|(number, words)| {
        let mut expected = data.page(*number);
        expected[MARK] = data.mark(*number, round);
        words.iter().zip(expected).any(|(word, e)| word.load(Ordering::Relaxed) != e)
    });
    wrong.count()
}

fn fill(words: &[AtomicU64], data: Data) {
    for (number, words) in words.chunks_exact(WORDS).enumerate() {
        for (word, value) in words.iter().zip(data.page(number)) {
            word.store(value, Ordering::Relaxed);
        }
    }
}

/// Anonymous memory, and the device that the kernel swaps it to.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Dropped before the device, so that swapoff has no pages to bring back.
    memory: Anonymous,
    swap: Swap,
    pagemap: File,
}

impl Kernel {
    pub(crate) fn new(pages: usize, data: Data) -> Result<Self, Trouble> {
        let memory = Anonymous::new(pages)?;
        fill(memory.words(), data);
        Ok(Self { memory, swap: Swap::start(pages)?, pagemap: File::open("/proc/self/pagemap")? })
    }

    pub(crate) fn algorithm(&self) -> &str {
        &self.swap.algorithm
    }

    fn swapped_pages(&self) -> io::Result<usize> {
        const ENTRY: usize = size_of::<u64>();
        const SWAPPED: u64 = 1 << 62;
        let words = self.words();
        let mut entries = vec![0; words.len() / WORDS * ENTRY];
        let first = words.as_ptr().addr() / PAGE;
        self.pagemap.read_exact_at(&mut entries, (first * ENTRY) as u64)?;
        let (entries, _) = entries.as_chunks();
        Ok(entries.iter().filter(|entry| u64::from_ne_bytes(**entry) & SWAPPED != 0).count())
    }
}

impl Side for Kernel {
    fn words(&self) -> &[AtomicU64] {
        self.memory.words()
    }

    fn evict(&self) -> Result<Gone, Trouble> {
        let start = cpu_time();
        self.memory.page_out()?;
        let cpu = cpu_time() - start;
        let pages = self.swapped_pages()?;
        let used = self.swap.used_bytes()? / PAGE;
        if used < pages {
            return Err(format!("{pages} pages were swapped, {used} to our device").into());
        }
        Ok(Gone { pages, cpu })
    }

    fn compression(&self) -> Result<Option<f64>, Trouble> {
        let (swapped, taken) = self.swap.compression()?;
        // The device's header counts too, although pages of zeros do not reach the device.
        let most = swapped > size_of_val(self.words()) / 2;
        Ok((most && taken > 0).then(|| number(swapped) / number(taken)))
    }
}

/// An arena with one large block in it.
#[derive(Debug)]
pub(crate) struct Evicting {
    pub(crate) arena: Arena,
    words: ArenaVec<AtomicU64, Arena>,
}

impl Evicting {
    pub(crate) fn new(pages: usize, mode: FaultMode, options: &Options) -> Result<Self, Trouble> {
        let builder = in_mode(mode).reserve((pages * PAGE * 2).max(1 << 30));
        let builder = builder.backing(options.backing);
        let arena = match options.tracker {
            Some(tracker) => builder.tracker(tracker).build()?,
            None => builder.build()?,
        };
        let mut words = ArenaVec::new_in(arena.clone());
        words.try_reserve_exact(pages * WORDS).map_err(|e| e.to_string())?;
        words.resize_with(pages * WORDS, AtomicU64::default);
        if words.as_ptr().addr() % PAGE != 0 {
            return Err("a large block does not begin on a page".into());
        }
        fill(&words, options.data);
        Ok(Self { arena, words })
    }

    /// Brings a page back.
    pub(crate) fn ensure(&self, page: usize) -> Result<(), ArenaError> {
        self.arena.ensure(&self.words[page * WORDS..(page + 1) * WORDS])
    }
}

impl Side for Evicting {
    fn words(&self) -> &[AtomicU64] {
        &self.words
    }

    fn evict(&self) -> Result<Gone, Trouble> {
        let start = cpu_time();
        let evicted = self.arena.evict_now()?;
        Ok(Gone { pages: evicted.pages, cpu: cpu_time() - start })
    }

    fn compression(&self) -> Result<Option<f64>, Trouble> {
        let stats = self.arena.stats();
        let (stored, taken) = (stats.stored_bytes, stats.store_bytes);
        Ok((taken > 0).then(|| number(stored as usize) / number(taken as usize)))
    }
}
