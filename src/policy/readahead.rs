//! Which stored pages to bring back together with a touched one.
//!
//! If one fault brings sixteen pages back, they share the cost of its entry, exit and system calls. A page that
//! comes back and is not touched costs its decompression, and memory. So:
//!
//! * *Streams.* For each part of the arena [`Readahead`] remembers the last few runs that were brought back. A
//!   fault next to the end of a run continues it in the same direction. From the second time on the window
//!   doubles, because one neighbour may be chance. A fault elsewhere begins a new run.
//! * *Tuning.* One level for the whole arena says how large windows begin and how large they may become. It
//!   rises while faults continue runs, and falls when readahead pages stay untouched.
//! * *Samples.* One of every few runs is armed after it was put in place, as if the evictor were to evict it.
//!   Some runs later a scan tells which of its readahead pages were touched. Where a scan cannot tell, the
//!   readahead pages of a sample are not brought back, and some runs later their words tell which were touched.
//!
//! All state is hints in relaxed atomics. A race between two threads costs a window of the wrong size.

use crate::prim::geometry::{READAHEAD_PAGES, REGION_SHIFT};
use crate::prim::pack::Field;
use crate::prim::sync::plain::{AtomicU32, AtomicU64, Ordering};
use crate::prim::units::index;
use crate::prim::{PageIndex, PageRange, Tick};
use crossbeam::utils::CachePadded;

/// Histories. Regions whose numbers are equal modulo this share one.
const HISTORIES: usize = 64;
/// Runs in a history: one word each, and one more for the run to forget next, fill a cache line.
const RUNS: usize = 7;

/// A run that was brought back: its first page, its length in pages, how often it has been continued, and
/// whether it goes down. A word of zero is no run.
const FIRST: Field = Field::lowest(40);
const LEN: Field = FIRST.then(8);
const STREAK: Field = LEN.then(4);
const DOWN: Field = STREAK.then(1);

/// A fault continues a run if fewer pages than this lie between them.
const NEAR: usize = 2;

/// log2 of the largest window.
const LARGEST: u32 = READAHEAD_PAGES.ilog2();

/// A sample: its first page, its length in pages, and the tick in which it was armed.
const SAMPLE_FIRST: Field = Field::lowest(36);
const SAMPLE_LEN: Field = SAMPLE_FIRST.then(8);
const SAMPLE_TICK: Field = SAMPLE_LEN.then(Tick::BITS);

/// Runs after which the tuner reconsiders its level.
const TURN: u32 = 32;
/// One of this many runs with readahead pages is a sample.
const SAMPLE_EVERY: u32 = 16;

#[derive(Debug, Default)]
struct StreamHistory {
    runs: [AtomicU64; RUNS],
    oldest: AtomicU64,
}

/// Sets the size of windows for the whole arena.
///
/// At level 0 a fault brings back no neighbour. At level [`LARGEST`], the initial one, windows begin with one
/// page and may grow to the largest. At twice [`LARGEST`] every run begins with the largest window.
#[derive(Debug)]
struct ReadaheadTuner {
    level: AtomicU32,
    begun: AtomicU32,
    continued: AtomicU32,
    hits: AtomicU64,
    misses: AtomicU64,
    down: AtomicU32,
    runs_with_readahead: AtomicU32,
    /// Zero if there is no sample.
    sample: AtomicU64,
}

/// What to bring back for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadaheadPlan {
    /// The touched page, and the pages up to the end of the window in one direction.
    pub(crate) window: PageRange,
    down: bool,
    /// How often the run has been continued in the same direction.
    streak: u32,
    /// The index in the history of the run that this one continues.
    continues: Option<usize>,
}

/// Plans which pages come back together with a touched one, and learns from the outcome.
#[derive(Debug)]
pub(crate) struct Readahead {
    histories: Box<[CachePadded<StreamHistory>]>,
    tuner: CachePadded<ReadaheadTuner>,
}

impl Readahead {
    pub(crate) fn new() -> Self {
        let tuner = ReadaheadTuner {
            level: AtomicU32::new(LARGEST),
            begun: AtomicU32::new(0),
            continued: AtomicU32::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            down: AtomicU32::new(0),
            runs_with_readahead: AtomicU32::new(0),
            sample: AtomicU64::new(0),
        };
        Self {
            histories: (0..HISTORIES).map(|_| CachePadded::default()).collect(),
            tuner: CachePadded::new(tuner),
        }
    }

    fn history(&self, page: PageIndex) -> &StreamHistory {
        &self.histories[(page.0 >> REGION_SHIFT) % HISTORIES]
    }

    /// What to bring back for a fault on `page`. The window ends below `end`.
    pub(crate) fn plan(&self, page: PageIndex, end: PageIndex) -> ReadaheadPlan {
        let level = self.tuner.level.load(Ordering::Relaxed);
        let most = level.min(LARGEST);
        let least = level.saturating_sub(LARGEST);
        let mut plan = ReadaheadPlan {
            window: page.only(),
            streak: 0,
            down: self.tuner.down.load(Ordering::Relaxed) == 1,
            continues: None,
        };
        for (i, run) in self.history(page).runs.iter().enumerate() {
            let run = run.load(Ordering::Relaxed);
            let (first, len) = (index(FIRST.get(run)), index(LEN.get(run)));
            let after = page.0.wrapping_sub(first + len) < NEAR;
            let before = first.wrapping_sub(page.0 + 1) < NEAR;
            if len > 0 && (after || before) {
                plan.down = before;
                let same_way = (DOWN.get(run) == 1) == before || STREAK.get(run) == 0;
                plan.streak = if same_way { (STREAK.get_u32(run) + 1).min(15) } else { 1 };
                plan.continues = Some(i);
                break;
            }
        }
        let log2 = (least + plan.streak.saturating_sub(1)).min(most);
        let reach = (1 << log2) - 1;
        plan.window = if plan.down {
            PageRange::new(page.0.saturating_sub(reach), page.0 + 1)
        } else {
            PageRange::new(page.0, (page.0 + 1 + reach).min(end.0.max(page.0 + 1)))
        };
        plan
    }

    /// Remembers that a fault with this `plan` brought `run` back.
    pub(crate) fn note(&self, plan: ReadaheadPlan, run: PageRange) {
        let down = u64::from(plan.down);
        let word = FIRST.set(0, run.start.0 as u64);
        let word = LEN.set(word, run.pages() as u64);
        let word = DOWN.set(STREAK.set(word, plan.streak.into()), down);
        let history = self.history(run.start);
        let place = plan
            .continues
            .unwrap_or_else(|| index(history.oldest.fetch_add(1, Ordering::Relaxed)) % RUNS);
        history.runs[place].store(word, Ordering::Relaxed);

        let tuner = &self.tuner;
        let count = |counter: &AtomicU32| counter.fetch_add(1, Ordering::Relaxed);
        if plan.continues.is_some() {
            tuner.down.store(u32::from(plan.down), Ordering::Relaxed);
            count(&tuner.continued);
        } else if (count(&tuner.begun) + tuner.continued.load(Ordering::Relaxed)) >= TURN {
            self.reconsider();
        }
    }

    /// Whether `run`, which a thread is bringing back, is to become the sample.
    pub(crate) fn is_sample(&self, run: PageRange) -> bool {
        let runs = &self.tuner.runs_with_readahead;
        run.pages() > 1 && runs.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAMPLE_EVERY)
    }

    /// Whether the readahead pages of `run`, which a thread is bringing back, are to stay stored as the sample. Not those
    /// of the first runs: they are missed most.
    pub(crate) fn is_withheld(&self, run: PageRange) -> bool {
        let runs = &self.tuner.runs_with_readahead;
        run.pages() > 1 && runs.fetch_add(1, Ordering::Relaxed) % SAMPLE_EVERY == SAMPLE_EVERY / 2
    }

    /// Makes `pages`, which are readahead pages and armed since `now`, the sample.
    pub(crate) fn put_sample(&self, pages: PageRange, now: Tick) {
        let word = SAMPLE_FIRST.set(0, pages.start.0 as u64);
        let word = SAMPLE_LEN.set(word, pages.pages() as u64);
        self.tuner.sample.store(SAMPLE_TICK.set(word, now.raw().into()), Ordering::Relaxed);
    }

    /// Takes the sample, if it was armed in the tick `now`. In a later tick the evictor may have armed it anew.
    pub(crate) fn take_sample(&self, now: Tick) -> Option<PageRange> {
        let word = self.tuner.sample.swap(0, Ordering::Relaxed);
        let (first, len) = (index(SAMPLE_FIRST.get(word)), index(SAMPLE_LEN.get(word)));
        let same_tick = SAMPLE_TICK.get(word) == u64::from(now.raw());
        (len > 0 && same_tick).then(|| PageRange::new(first, first + len))
    }

    /// Takes note that `hits` pages of a sample were touched and `misses` were not.
    pub(crate) fn learn(&self, hits: u64, misses: u64) {
        self.tuner.hits.fetch_add(hits, Ordering::Relaxed);
        self.tuner.misses.fetch_add(misses, Ordering::Relaxed);
        // Many misses lower the level without waiting for the end of the turn.
        if self.tuner.misses.load(Ordering::Relaxed) >= u64::from(TURN / 2) {
            self.reconsider();
        }
    }

    fn reconsider(&self) {
        let tuner = &self.tuner;
        let [begun, continued] =
            [&tuner.begun, &tuner.continued].map(|counter| counter.swap(0, Ordering::Relaxed));
        let [hits, misses] =
            [&tuner.hits, &tuner.misses].map(|counter| counter.swap(0, Ordering::Relaxed));
        let level = tuner.level.load(Ordering::Relaxed);
        let level = if misses > hits {
            level.saturating_sub(1)
        } else if misses * 4 <= hits && continued >= begun * if level < LARGEST { 3 } else { 1 } {
            // Below the initial level, to which misses have lowered it, the level needs more continued runs to
            // rise again.
            level + 1
        } else {
            level
        };
        tuner.level.store(level.min(2 * LARGEST), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: PageIndex = PageIndex(1 << 20);

    /// A program that touches pages, and the runs that its faults bring back.
    struct Reader {
        readahead: Readahead,
        resident: std::collections::BTreeSet<usize>,
        runs: Vec<usize>,
        sampled: Vec<(PageRange, usize)>,
        touched: std::collections::BTreeSet<usize>,
    }

    impl Reader {
        fn new() -> Self {
            Self {
                readahead: Readahead::new(),
                resident: Default::default(),
                runs: Vec::new(),
                sampled: Vec::new(),
                touched: Default::default(),
            }
        }

        fn touch(&mut self, page: usize) {
            self.touched.insert(page);
            if !self.resident.insert(page) {
                return;
            }
            let plan = self.readahead.plan(PageIndex(page), END);
            assert!(
                plan.window.iter().any(|p| p.0 == page) && plan.window.pages() <= READAHEAD_PAGES
            );
            self.resident.extend(plan.window.iter().map(|p| p.0));
            self.runs.push(plan.window.pages());
            self.readahead.note(plan, plan.window);
            if self.readahead.is_sample(plan.window) {
                self.sampled.push((plan.window, page));
            }
            if self.sampled.len() > 1 {
                let (run, page) = self.sampled.remove(0);
                let along = run.iter().filter(|p| p.0 != page);
                let (hits, misses): (Vec<_>, Vec<_>) =
                    along.partition(|p| self.touched.contains(&p.0));
                self.readahead.learn(hits.len() as u64, misses.len() as u64);
            }
        }

        fn brought(&self) -> usize {
            self.runs.iter().sum()
        }
    }

    #[test]
    fn windows_double_along_a_stream_in_either_direction() {
        let mut up = Reader::new();
        (5000..5040).for_each(|page| up.touch(page));
        assert_eq!(up.runs, [1, 1, 2, 4, 8, 16, 16]);
        let mut down = Reader::new();
        (5000..5040).rev().for_each(|page| down.touch(page));
        assert_eq!(down.runs, [1, 1, 2, 4, 8, 16, 16]);
    }

    #[test]
    fn random_touches_bring_no_pages_along() {
        let mut reader = Reader::new();
        (0..10_000).for_each(|i| reader.touch(i * 7919 * 13 % (1 << 20)));
        assert!(reader.brought() < 10_100, "{}", reader.brought());
    }

    #[test]
    fn interleaved_streams_are_told_apart() {
        let mut reader = Reader::new();
        for i in 0..100 {
            (0..5).for_each(|run| reader.touch(run * 90 + 1000 + i % 80));
        }
        assert!(reader.runs.len() < 60, "{:?}", reader.runs);
    }

    #[test]
    fn a_cluster_soon_comes_back_in_one_run() {
        let mut reader = Reader::new();
        for cluster in 0..2000 {
            (0..16).for_each(|i| reader.touch(cluster * 7919 % 60_000 * 17 + i));
        }
        let late = &reader.runs[reader.runs.len() - 100..];
        assert!(late.iter().filter(|run| **run == 16).count() > 90, "{late:?}");
    }

    #[test]
    fn readahead_stops_when_pages_stay_untouched_and_returns_when_it_pays() {
        let mut reader = Reader::new();
        for pair in 0..4000 {
            (0..2).for_each(|i| reader.touch(pair * 7919 % 60_000 * 17 + i));
        }
        let wasted = reader.brought() - 8000;
        assert!(wasted < 800, "{wasted} pages brought back for nothing");
        (1 << 19..(1 << 19) + 4000).for_each(|page| reader.touch(page));
        assert_eq!(reader.runs.last(), Some(&16));
    }
}
