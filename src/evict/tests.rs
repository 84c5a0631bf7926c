//! The evictor without its thread, on memory that only the test touches.

#![allow(unsafe_code)]

mod refusals;

use super::*;
use crate::common;
use crate::prim::{BATCH_PAGES, PAGE_SIZE, REGION_PAGES};
use crate::store::Decompressor;
use crate::sys::accessed::tests::alone;
use crate::sys::backing::{Content, FaultDelivery, MemoryKind};
use crate::track::Tracker;

/// Three regions; the last one is not full.
const PAGES: usize = 2 * REGION_PAGES + 100;
const ALL: PageRange = PageRange::new(0, PAGES);

/// `all_from` of a plan under which no page must go: an age above the largest.
const NONE: u32 = Tick::MAX_AGE + 1;

struct Fixture {
    evictor: Evictor,
    core: Arc<Core>,
}

/// A word of a page. No other page has it.
fn word_of(page: PageIndex, i: usize) -> u64 {
    (page.0 * 10_000 + i / 8) as u64
}

impl Fixture {
    fn new((memory, tracker): Kind, store_limit: usize, zeal: bool) -> Self {
        let bytes = 3 * REGION_PAGES * PAGE_SIZE;
        let delivery = FaultDelivery::Messages(1);
        let core = Core::new(bytes, memory, tracker, 0, delivery, store_limit);
        Self::on(core.unwrap(), zeal)
    }

    /// A fixture whose pages are all in memory, with tick 0 and their words.
    fn on(core: Core, zeal: bool) -> Self {
        Self::with(Arc::new(core), EvictorOptions { zeal, ..EvictorOptions::TEST }, None)
    }

    fn with(core: Arc<Core>, options: EvictorOptions, references: Option<References>) -> Self {
        let evictor = Evictor::new(Arc::clone(&core), options, references).unwrap();
        let it = Self { evictor, core };
        assert_eq!(it.core.backing.fill(ALL, Content::Zeros), (PAGES, None));
        for page in ALL.iter() {
            it.core.table.begin_fill(page, Word::EMPTY).unwrap();
            let _ = it.core.table.finish_fill(page, Word::EMPTY);
            (0..PAGE_SIZE / 8).for_each(|i| it.write(page, i, word_of(page, i)));
        }
        it
    }

    fn address(&self, page: PageIndex, i: usize) -> *mut u64 {
        assert!(page < ALL.end && i < PAGE_SIZE / 8);
        self.core.backing.base().wrapping_add(page.offset() + i * 8).cast()
    }

    fn write(&self, page: PageIndex, i: usize, value: u64) {
        // SAFETY: within the mapping, and aligned. This thread alone touches it. A page that is in memory
        // and not frozen lets the write through.
        unsafe { self.address(page, i).write_volatile(value) }
    }

    fn touch(&self, page: usize) {
        // SAFETY: as in `write`.
        unsafe { self.address(PageIndex(page), 0).read_volatile() };
    }

    fn state(&self, page: usize) -> State {
        self.core.table.load(PageIndex(page)).state()
    }

    /// The pages that are stored. Checks that the store has the words of each.
    fn stored(&self) -> Vec<usize> {
        let mut decompressor = Decompressor::new();
        let mut bytes = vec![0; PAGE_SIZE];
        let is_stored = |page: &PageIndex| self.state(page.0) == State::Stored;
        let stored: Vec<_> = ALL.iter().filter(is_stored).collect();
        for &page in &stored {
            let handle = self.core.table.load(page).handle();
            self.core.store.get(handle, page.0 as u64, &mut decompressor, &mut bytes).unwrap();
            let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
            assert!(words.eq((0..PAGE_SIZE / 8).map(|i| word_of(page, i))), "{page:?}");
        }
        stored.iter().map(|page| page.0).collect()
    }

    fn scan(&mut self, now: u64) {
        self.evictor.scan(Tick::new(now), Reach::Due).unwrap();
    }

    fn execute(&mut self, now: u64, all_from: u32, some_from: u32, pages: usize) -> Evicted {
        let done =
            self.evictor.execute(Tick::new(now), EvictionPlan { all_from, some_from, pages });
        // After any outcome no page is in an intermediate state.
        let is_final = |page| matches!(self.state(page), State::Resident | State::Stored);
        assert!((0..PAGES).all(is_final));
        self.core.table.check().unwrap();
        let words = ALL.iter().map(|page| self.core.table.load(page));
        let handles = words.filter(|word| word.state() == State::Stored).map(Word::handle);
        self.core.store.check(handles).unwrap();
        done
    }
}

/// Runs a test with each tracker on shared memory.
fn each(test: &str, run: impl Fn(Fixture)) {
    for tracker in common::trackers(test) {
        run(Fixture::new((MemoryKind::Shared, tracker), 64 << 20, false));
    }
}

/// A kind of memory with a tracker.
type Kind = (MemoryKind, Tracker);

/// All kinds that work here.
fn kinds(test: &str) -> impl Iterator<Item = Kind> {
    let shared = common::trackers(test).into_iter().map(|tracker| (MemoryKind::Shared, tracker));
    let private = common::private_trackers(test).into_iter();
    shared.chain(private.map(|tracker| (MemoryKind::Private, tracker)))
}

fn each_kind(test: &str, run: impl Fn(Fixture)) {
    kinds(test).for_each(|kind| run(Fixture::new(kind, 64 << 20, false)));
}

#[test]
fn idle_pages_go_and_touched_pages_stay() {
    each("idle_pages_go", |mut it| {
        it.scan(1);
        assert_eq!(it.core.counters.armed_pages.get(), PAGES as u64);
        assert_eq!(it.core.counters.scanned_pages.get(), 0, "no page was armed before");
        it.touch(3);
        it.touch(700);
        it.scan(2);
        assert_eq!(it.core.counters.scanned_pages.get(), PAGES as u64);
        assert_eq!(it.core.counters.armed_pages.get(), PAGES as u64 + 2, "the touched ones again");
        // The third region was quiet; its next scan is due at tick 4.
        it.scan(5);
        let ages = it.evictor.ages(Tick::new(5));
        assert_eq!([0, 3, 4, 5].map(|age| ages.at_least(age)), [PAGES, PAGES, PAGES - 2, 0]);
        let done = it.execute(5, 4, 4, usize::MAX);
        assert_eq!(done, Evicted { pages: PAGES - 2, ..Evicted::default() });
        assert_eq!((it.state(3), it.state(700)), (State::Resident, State::Resident));
        assert_eq!(it.stored().len(), PAGES - 2);
        assert_eq!(it.core.counters.evicted_pages.get(), PAGES as u64 - 2);
        assert!(it.core.counters.freezes.get() >= (PAGES / BATCH_PAGES) as u64);
        assert!(it.core.counters.freeze_nanos.get() >= it.core.counters.longest_freeze_nanos.get());
        assert!(it.core.counters.longest_freeze_nanos.get() > 0);
        // Younger pages go only as far as the plan wants more.
        assert_eq!(it.execute(5, NONE, 4, 1).pages, 0);
        assert_eq!(it.execute(5, NONE, 3, 1).pages, 1);
        assert_eq!(it.stored().len(), PAGES - 1);
    });
}

#[test]
fn a_page_touched_after_the_last_scan_stays() {
    each("a_page_touched_after_the_last_scan", |mut it| {
        (1..4).for_each(|now| it.scan(now));
        it.touch(9);
        it.touch(2 * REGION_PAGES);
        let scanned = it.core.counters.scanned_pages.get();
        it.scan(4);
        assert_eq!(it.core.counters.scanned_pages.get(), scanned, "quiet regions are not due");
        // The evictor scans a region that was not scanned just now before any of its pages goes.
        let done = it.execute(4, 3, 3, usize::MAX);
        assert_eq!(done, Evicted { pages: PAGES - 2, ..Evicted::default() });
        assert_eq!(it.core.table.load(PageIndex(9)).tick(), Tick::new(4));
        assert_eq!((it.state(9), it.state(2 * REGION_PAGES)), (State::Resident, State::Resident));
    });
}

#[test]
fn a_plan_evicts_no_more_pages_than_it_says_and_the_next_one_continues_there() {
    each("a_plan_evicts_no_more_pages", |mut it| {
        it.scan(1);
        it.scan(3);
        let mut gone = 0;
        for pages in
            [1, 10, BATCH_PAGES, BATCH_PAGES + 1, REGION_PAGES - 2 * BATCH_PAGES - 12, 5, 600]
        {
            let done = it.execute(3, NONE, 1, pages);
            assert_eq!(done, Evicted { pages, ..Evicted::default() });
            gone += pages;
            // The stored pages have no gap, from the first page on.
            assert_eq!(it.stored(), (0..gone).collect::<Vec<_>>());
        }
        // The first region has an evictable page again, but another region is next.
        let page = PageIndex(20);
        let word = it.core.table.load(page);
        it.core.table.begin_fill(page, word).unwrap();
        let bytes: Vec<u8> =
            (0..PAGE_SIZE / 8).flat_map(|i| word_of(page, i).to_ne_bytes()).collect();
        assert_eq!(it.core.backing.fill(page.only(), Content::Bytes(&bytes)), (1, None));
        it.core.store.free(word.handle());
        let _ = it.core.table.finish_fill(page, word);
        it.scan(4);
        it.scan(5);
        assert_eq!(it.execute(5, NONE, 1, 1).pages, 1);
        assert_eq!(it.state(20), State::Resident);
        assert_eq!(it.state(gone), State::Stored);
        // The first region follows the last.
        assert_eq!(it.execute(5, NONE, 1, PAGES).pages, PAGES - gone);
        assert_eq!(it.stored().len(), PAGES);
    });
}

#[test]
fn a_plan_evicts_all_old_pages_before_young_ones() {
    each("a_plan_evicts_all_old_pages", |mut it| {
        it.scan(1);
        (0..REGION_PAGES).for_each(|page| it.touch(page));
        it.scan(3);
        it.scan(5);
        let ages = it.evictor.ages(Tick::new(5));
        assert_eq!(ages.at_least(4), PAGES - REGION_PAGES);
        // The young pages lie in the first region, with which the evictor begins.
        let old = PAGES - REGION_PAGES;
        assert_eq!(it.execute(5, 4, 2, 50).pages, 50);
        assert!(it.stored().iter().all(|page| *page >= REGION_PAGES));
        assert_eq!(it.execute(5, 4, 2, old).pages, old);
        let young = it.stored().iter().filter(|page| **page < REGION_PAGES).count();
        assert_eq!(young, 50);
        assert_eq!(it.stored().len(), old + 50);
    });
}

#[test]
fn pinned_pages_have_no_age_and_stay() {
    each("pinned_pages_have_no_age", |mut it| {
        let pinned = PageRange::new(10, 20);
        it.scan(1);
        it.core.table.pins().add(pinned);
        it.scan(4);
        let ages = it.evictor.ages(Tick::new(4));
        assert_eq!(ages.at_least(0), PAGES - 10);
        let done = it.execute(4, 2, 2, usize::MAX);
        assert_eq!(done, Evicted { pages: PAGES - 10, ..Evicted::default() });
        assert!(pinned.iter().all(|page| it.state(page.0) == State::Resident));
        assert!(pinned.iter().all(|page| !it.core.table.load(page).is_in_batch()));
        it.core.table.pins().remove(pinned);
        // They count as touched when they are armed again.
        it.scan(8);
        it.scan(12);
        assert_eq!(it.execute(12, 4, 4, usize::MAX).pages, 10);
    });
}

#[test]
fn an_incompressible_page_stays_and_backs_off() {
    each_kind("an_incompressible_page_stays", |mut it| {
        let mut noise = 1u64;
        for i in 0..PAGE_SIZE / 8 {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            it.write(PageIndex(5), i, noise);
            it.write(PageIndex(6), i, 7 << 32 | 7);
        }
        it.scan(1);
        it.scan(4);
        let done = it.execute(4, 2, 2, usize::MAX);
        let expected = Evicted { pages: PAGES - 1, incompressible: 1, ..Evicted::default() };
        assert_eq!(done, expected);
        assert_eq!((it.state(5), it.state(6)), (State::Resident, State::Stored));
        assert_eq!(it.core.counters.incompressible_pages.get(), 1);
        assert_eq!(it.core.counters.same_filled_pages.get(), 1);
        assert_eq!(it.evictor.ages(Tick::new(5)).at_least(0), 0);
        assert_eq!(it.execute(11, 2, 2, usize::MAX), Evicted::default());
        assert_eq!(it.evictor.ages(Tick::new(12)).at_least(2), 1, "after eight ticks");
        assert_eq!(it.execute(12, 2, 2, usize::MAX).incompressible, 1);
    });
}

#[test]
fn a_full_store_ends_a_plan_and_the_other_pages_stay() {
    for kind in kinds("a_full_store_ends_a_plan") {
        let mut it = Fixture::new(kind, 64 << 10, false);
        it.scan(1);
        it.scan(4);
        let done = it.execute(4, 2, 1, usize::MAX);
        assert!(done.store_full && done.pages > 0 && done.pages < PAGES);
        assert_eq!(it.stored(), (0..done.pages).collect::<Vec<_>>());
        let full = it.core.counters.store_full_pages.get();
        assert!(
            full >= 1 && full <= BATCH_PAGES as u64,
            "only one batch met the full store: {full}"
        );
        let again = it.execute(4, 2, 1, usize::MAX);
        assert!(again.store_full && again.pages == 0);
        assert_eq!(it.stored().len(), done.pages);
    }
}

#[test]
fn zeal_varies_the_size_of_batches() {
    for kind in kinds("zeal_varies_the_size") {
        let mut it = Fixture::new(kind, 64 << 20, true);
        it.scan(1);
        it.scan(4);
        assert_eq!(it.execute(4, 2, 2, BATCH_PAGES + 8).pages, BATCH_PAGES + 8);
        assert_eq!(
            it.core.counters.freezes.get(),
            3,
            "of a whole batch, of one page, and of seven"
        );
        assert_eq!(it.evictor.evict_all(Tick::new(4), ALL).pages, PAGES - BATCH_PAGES - 8);
        assert_eq!(it.stored().len(), PAGES);
    }
}

#[test]
fn evict_all_takes_unarmed_and_young_pages_of_its_range_alone() {
    each_kind("evict_all_takes_unarmed_and_young_pages", |mut it| {
        let within = PageRange::new(100, REGION_PAGES + 7);
        let done = it.evictor.evict_all(Tick::new(2), within);
        assert_eq!(done, Evicted { pages: within.pages(), ..Evicted::default() });
        assert_eq!(it.core.table.now(), Tick::new(2));
        assert_eq!(it.stored(), (within.start.0..within.end.0).collect::<Vec<_>>());
    });
}

#[test]
fn hot_regions_rest_and_their_pages_have_no_age() {
    each("hot_regions_rest", |mut it| {
        let hot = REGION_PAGES as u64;
        for now in 1..4 {
            it.scan(now);
            (0..REGION_PAGES).for_each(|page| it.touch(page));
        }
        // The scans at ticks 2 and 3 found the region hot, so it rests.
        let armed = it.core.counters.armed_pages.get();
        assert_eq!(armed, PAGES as u64 + hot, "armed at ticks 1 and 2");
        assert_eq!(it.evictor.ages(Tick::new(3)).at_least(0), PAGES - REGION_PAGES);
        assert_eq!(it.execute(3, 2, 2, usize::MAX).pages, PAGES - REGION_PAGES);
        // A scan of all regions arms it all the same.
        it.evictor.scan(Tick::new(3), Reach::All).unwrap();
        assert_eq!(it.core.counters.armed_pages.get(), armed + hot);
        assert_eq!(it.evictor.ages(Tick::new(3)).at_least(0), REGION_PAGES);
    });
}

#[test]
fn progress_names_no_page_after_a_batch() {
    each_kind("progress_names_no_page", |mut it| {
        let before = it.evictor.progress().seen();
        it.scan(1);
        it.scan(4);
        it.execute(4, 2, 2, 3);
        let after = it.evictor.progress().seen();
        assert_ne!(after, before, "the evictor was at pages");
        assert_eq!(after.page(), None, "the evictor is at no page");
    });
}

#[test]
fn trim_gives_spare_memory_of_the_store_back() {
    each_kind("trim_gives_spare_memory", |mut it| {
        let spare = |it: &Fixture| {
            let bytes: Vec<u8> = (0..PAGE_SIZE / 8).flat_map(|i| (i / 8).to_ne_bytes()).collect();
            let put = it.core.store.put(&mut crate::store::Compressor::new(), &bytes, 0);
            let crate::store::Put::Compressed(handle) = put else { panic!("{put:?}") };
            it.core.store.free(handle);
            assert!(it.core.store.held_bytes() > 0);
        };
        spare(&it);
        it.evictor.trim();
        assert_eq!(it.core.store.held_bytes(), 0);
        spare(&it);
        it.evictor.evict_all(Tick::new(1), PageRange::new(0, 0));
        assert_eq!(it.core.store.held_bytes(), 0);
    });
}

#[test]
fn a_region_without_old_pages_is_not_scanned() {
    each("a_region_without_old_pages", |mut it| {
        it.scan(1);
        it.scan(3);
        let scanned = it.core.counters.scanned_pages.get();
        assert_eq!(it.execute(20, 30, 30, usize::MAX), Evicted::default());
        assert_eq!(it.core.counters.scanned_pages.get(), scanned);
    });
}

/// A fixture with accessed bits and next to no tracking budget, for each tracker.
fn each_with_accessed_bits(test: &str, run: impl Fn(Fixture)) {
    let _alone = alone();
    for kind in common::trackers(test) {
        let bytes = 3 * REGION_PAGES * PAGE_SIZE;
        let core =
            Core::new(bytes, MemoryKind::Shared, kind, 0, FaultDelivery::Messages(1), 64 << 20)
                .unwrap();
        let core = Arc::new(core);
        let references = match References::start(&core) {
            Ok(references) => references,
            Err(e) => return common::skip(test, "accessed_bits", &e.to_string()),
        };
        let options = EvictorOptions { tracking_budget: 1e-6, ..EvictorOptions::TEST };
        run(Fixture::with(core, options, Some(references)));
    }
}

#[test]
fn near_a_limit_new_regions_are_armed_at_once() {
    each_with_accessed_bits("near_a_limit_new_regions_are_armed_at_once", |mut it| {
        it.evictor.set_pressed(true);
        it.scan(1);
        assert_eq!(it.core.counters.armed_pages.get(), PAGES as u64);
    });
    each_with_accessed_bits("near_a_limit_new_regions_are_armed_at_once", |mut it| {
        it.scan(1);
        assert_eq!(it.core.counters.armed_pages.get(), 0, "without a limit they rest");
    });
}

#[test]
fn looks_for_idle_regions_exceed_the_budget_and_do_not_follow_each_other_at_once() {
    each_with_accessed_bits("looks_for_idle_regions", |it| {
        let Fixture { mut evictor, core } = it;
        let mut look = |seconds| {
            let elapsed = Duration::from_secs(seconds);
            core.backing.keeper().call(|| evictor.look_for_idle(Tick::new(1), elapsed));
            core.counters.accessed_scans.get()
        };
        assert_eq!(look(1), 1);
        assert_eq!(look(1), 1, "the first look has just ended");
        assert_eq!(look(1000), 2);
    });
}
