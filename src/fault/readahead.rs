//! Which neighbours to bring back together with a page that was touched.
//!
//! Bringing sixteen pages back in one go costs a fault's entry, its exit and its calls once. What is
//! brought back and then not touched costs its decompression, and memory. So:
//!
//! * *Trails.* For each part of the arena the last few runs that were brought back are
//!   remembered. A fault next to the end of one continues it, in its direction, and from the second
//!   time on (once may be chance) with a window twice as large; a fault elsewhere begins a new one.
//! * *ReadaheadTuner.* How large windows begin and may become, for the arena as a whole. It rises while runs
//!   are continued again and again, and falls when what was brought along is not wanted.
//! * *Samples.* Of every few runs one is watched after it was put in place, as if it were to be
//!   evicted, and looked at some runs later: which of the pages that came along were touched?
//!
//! All of it is hints in relaxed atomics. A race between two threads costs a window that is not
//! quite as it should be.

use super::scratch::RUN;
use crate::prim::pack::Field;
use crate::prim::sync::plain::{AtomicU32, AtomicU64, Ordering};
use crate::prim::units::index;
use crate::prim::{PageIndex, PageRange, Tick};
use crossbeam::utils::CachePadded;

/// Trails that are kept apart, each for the regions whose numbers are alike.
const PLACES: usize = 64;
/// log2 of the pages in a region, whose runs share a trail.
const REGION_SHIFT: u32 = 9;
/// Runs that a place remembers: a cache line, less the word that says which to forget next.
const RUNS: usize = 7;

/// A run that was brought back: its first page and how many pages it has, how often it continued
/// another, and whether it goes down rather than up. Zero is none.
const FIRST: Field = Field::lowest(40);
const LEN: Field = FIRST.then(8);
const STREAK: Field = LEN.then(4);
const DOWN: Field = STREAK.then(1);

/// A fault that leaves out fewer pages than this belongs to the run before it.
const NEAR: usize = 2;

/// log2 of the largest window.
const LARGEST: u32 = RUN.ilog2();

/// Pages that came along and are watched, and since when.
const SAMPLE_FIRST: Field = Field::lowest(36);
const SAMPLE_LEN: Field = SAMPLE_FIRST.then(8);
const SAMPLE_TICK: Field = SAMPLE_LEN.then(Tick::BITS);

/// Runs after which the mood is looked at.
const TURN: u32 = 32;
/// Of so many runs that brought something along one is watched.
const SAMPLE_EVERY: u32 = 16;

#[derive(Debug, Default)]
struct StreamHistory {
    runs: [AtomicU64; RUNS],
    oldest: AtomicU64,
}

/// From zero, when nothing is ever brought along, to twice [`LARGEST`], when every run begins with
/// the largest window. At [`LARGEST`], where it begins, windows begin with one page and may grow to
/// the largest.
#[derive(Debug)]
struct ReadaheadTuner {
    level: AtomicU32,
    begun: AtomicU32,
    continued: AtomicU32,
    wanted: AtomicU64,
    wasted: AtomicU64,
    down: AtomicU32,
    with_company: AtomicU32,
    /// Zero where nothing is being watched.
    sample: AtomicU64,
}

/// What to bring back for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The page, and how far to go in either direction.
    pub(super) window: PageRange,
    down: bool,
    /// How often the run has been continued in the same direction.
    streak: u32,
    /// Which run of its place it continues.
    continues: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Readahead {
    trails: Box<[CachePadded<StreamHistory>]>,
    mood: CachePadded<ReadaheadTuner>,
}

impl Readahead {
    pub(super) fn new() -> Self {
        let mood = ReadaheadTuner {
            level: AtomicU32::new(LARGEST),
            begun: AtomicU32::new(0),
            continued: AtomicU32::new(0),
            wanted: AtomicU64::new(0),
            wasted: AtomicU64::new(0),
            down: AtomicU32::new(0),
            with_company: AtomicU32::new(0),
            sample: AtomicU64::new(0),
        };
        Self {
            trails: (0..PLACES).map(|_| CachePadded::default()).collect(),
            mood: CachePadded::new(mood),
        }
    }

    fn trail(&self, page: PageIndex) -> &StreamHistory {
        &self.trails[(page.0 >> REGION_SHIFT) % PLACES]
    }

    /// What to bring back for a fault on `page`, of pages below `end`.
    pub(super) fn plan(&self, page: PageIndex, end: PageIndex) -> Plan {
        let level = self.mood.level.load(Ordering::Relaxed);
        let most = level.min(LARGEST);
        let least = level.saturating_sub(LARGEST);
        let mut plan = Plan {
            window: page.only(),
            streak: 0,
            down: self.mood.down.load(Ordering::Relaxed) == 1,
            continues: None,
        };
        for (i, run) in self.trail(page).runs.iter().enumerate() {
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

    /// Remembers that `run` was brought back by `plan`.
    pub(super) fn note(&self, plan: Plan, run: PageRange) {
        let down = u64::from(plan.down);
        let word = FIRST.set(0, run.start.0 as u64);
        let word = LEN.set(word, run.pages() as u64);
        let word = DOWN.set(STREAK.set(word, plan.streak.into()), down);
        let trail = self.trail(run.start);
        let place = plan
            .continues
            .unwrap_or_else(|| index(trail.oldest.fetch_add(1, Ordering::Relaxed)) % RUNS);
        trail.runs[place].store(word, Ordering::Relaxed);

        let mood = &self.mood;
        let count = |counter: &AtomicU32| counter.fetch_add(1, Ordering::Relaxed);
        if plan.continues.is_some() {
            mood.down.store(u32::from(plan.down), Ordering::Relaxed);
            count(&mood.continued);
        } else if (count(&mood.begun) + mood.continued.load(Ordering::Relaxed)) >= TURN {
            self.reconsider();
        }
    }

    /// Whether `run`, which is being brought back, is one to be watched.
    pub(super) fn is_sample(&self, run: PageRange) -> bool {
        let runs = &self.mood.with_company;
        run.pages() > 1 && runs.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAMPLE_EVERY)
    }

    /// Remembers that `company`, pages that came along with another, are watched from `now` on.
    pub(super) fn put_sample(&self, company: PageRange, now: Tick) {
        let word = SAMPLE_FIRST.set(0, company.start.0 as u64);
        let word = SAMPLE_LEN.set(word, company.pages() as u64);
        self.mood.sample.store(SAMPLE_TICK.set(word, now.raw().into()), Ordering::Relaxed);
    }

    /// The pages that are watched, if it is still `now`: the evictor's looks, one in each tick, watch
    /// them anew.
    pub(super) fn take_sample(&self, now: Tick) -> Option<PageRange> {
        let word = self.mood.sample.swap(0, Ordering::Relaxed);
        let (first, len) = (index(SAMPLE_FIRST.get(word)), index(SAMPLE_LEN.get(word)));
        let same_tick = SAMPLE_TICK.get(word) == u64::from(now.raw());
        (len > 0 && same_tick).then(|| PageRange::new(first, first + len))
    }

    /// Takes into account that of pages that came along so many were touched, and so many not.
    pub(super) fn learn(&self, wanted: u64, wasted: u64) {
        self.mood.wanted.fetch_add(wanted, Ordering::Relaxed);
        self.mood.wasted.fetch_add(wasted, Ordering::Relaxed);
        // Waste is a reason to act at once.
        if self.mood.wasted.load(Ordering::Relaxed) >= u64::from(TURN / 2) {
            self.reconsider();
        }
    }

    fn reconsider(&self) {
        let mood = &self.mood;
        let [begun, continued] =
            [&mood.begun, &mood.continued].map(|counter| counter.swap(0, Ordering::Relaxed));
        let [wanted, wasted] =
            [&mood.wanted, &mood.wasted].map(|counter| counter.swap(0, Ordering::Relaxed));
        let level = mood.level.load(Ordering::Relaxed);
        let level = if wasted > wanted {
            level.saturating_sub(1)
        } else if wasted * 4 <= wanted && continued >= begun * if level < LARGEST { 3 } else { 1 } {
            // Where windows were cut down for being wasted, more has to speak for them.
            level + 1
        } else {
            level
        };
        mood.level.store(level.min(2 * LARGEST), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: PageIndex = PageIndex(1 << 20);

    /// Brings back what is touched of `touches`, and gives the length of each run.
    struct Reader {
        neighbours: Readahead,
        here: std::collections::BTreeSet<usize>,
        runs: Vec<usize>,
        watched: Vec<(PageRange, usize)>,
        touched: std::collections::BTreeSet<usize>,
    }

    impl Reader {
        fn new() -> Self {
            Self {
                neighbours: Readahead::new(),
                here: Default::default(),
                runs: Vec::new(),
                watched: Vec::new(),
                touched: Default::default(),
            }
        }

        fn touch(&mut self, page: usize) {
            self.touched.insert(page);
            if !self.here.insert(page) {
                return;
            }
            let plan = self.neighbours.plan(PageIndex(page), END);
            assert!(plan.window.iter().any(|p| p.0 == page) && plan.window.pages() <= RUN);
            self.here.extend(plan.window.iter().map(|p| p.0));
            self.runs.push(plan.window.pages());
            self.neighbours.note(plan, plan.window);
            if self.neighbours.is_sample(plan.window) {
                self.watched.push((plan.window, page));
            }
            if self.watched.len() > 1 {
                let (run, page) = self.watched.remove(0);
                let came = run.iter().filter(|p| p.0 != page);
                let (wanted, wasted): (Vec<_>, Vec<_>) =
                    came.partition(|p| self.touched.contains(&p.0));
                self.neighbours.learn(wanted.len() as u64, wasted.len() as u64);
            }
        }

        fn brought(&self) -> usize {
            self.runs.iter().sum()
        }
    }

    #[test]
    fn windows_double_along_a_run_in_either_direction() {
        let mut up = Reader::new();
        (5000..5040).for_each(|page| up.touch(page));
        assert_eq!(up.runs, [1, 1, 2, 4, 8, 16, 16]);
        let mut down = Reader::new();
        (5000..5040).rev().for_each(|page| down.touch(page));
        assert_eq!(down.runs, [1, 1, 2, 4, 8, 16, 16]);
    }

    #[test]
    fn touches_here_and_there_bring_nothing_along() {
        let mut reader = Reader::new();
        (0..10_000).for_each(|i| reader.touch(i * 7919 * 13 % (1 << 20)));
        assert!(reader.brought() < 10_100, "{}", reader.brought());
    }

    #[test]
    fn several_runs_at_a_time_are_told_apart() {
        let mut reader = Reader::new();
        for i in 0..100 {
            (0..5).for_each(|run| reader.touch(run * 90 + 1000 + i % 80));
        }
        assert!(reader.runs.len() < 60, "{:?}", reader.runs);
    }

    #[test]
    fn clusters_are_soon_brought_back_whole() {
        let mut reader = Reader::new();
        for cluster in 0..2000 {
            (0..16).for_each(|i| reader.touch(cluster * 7919 % 60_000 * 17 + i));
        }
        let late = &reader.runs[reader.runs.len() - 100..];
        assert!(late.iter().filter(|run| **run == 16).count() > 90, "{late:?}");
    }

    #[test]
    fn what_is_wasted_is_given_up_and_comes_back_when_it_pays() {
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
