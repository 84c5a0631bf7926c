//! Calls that the kernel refuses, and touches in the middle of a batch.

use super::*;
use crate::track::{Isolation, Protection, Watch};
use std::sync::Mutex;

const REFUSED: SysError = SysError::range_gone("a test");

/// A call on a watch or a protection.
type Call = (&'static str, PageRange);
type Before = Box<dyn FnMut(Call) -> Result<(), SysError> + Send>;

/// A watch and a protection that record each call, and first run `before`, which may fail the call.
struct Scripted {
    watch: Arc<dyn Watch>,
    protection: Arc<dyn Protection>,
    calls: Mutex<Vec<Call>>,
    before: Mutex<Before>,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    fn begin(&self, name: &'static str, range: PageRange) -> Result<(), SysError> {
        self.calls.lock().unwrap().push((name, range));
        (self.before.lock().unwrap())((name, range))
    }

    /// The protection's calls since the last `take_calls`.
    fn take_calls(&self) -> Vec<Call> {
        let mut calls = std::mem::take(&mut *self.calls.lock().unwrap());
        calls.retain(|(name, _)| !matches!(*name, "arm" | "touched"));
        calls
    }
}

impl Watch for Scripted {
    fn tracker(&self) -> Tracker {
        self.watch.tracker()
    }

    fn arm(&self, range: PageRange) -> Result<(), SysError> {
        self.begin("arm", range)?;
        self.watch.arm(range)
    }

    fn touched(&self, range: PageRange, visit: &mut dyn FnMut(PageRange)) -> Result<(), SysError> {
        self.begin("touched", range)?;
        self.watch.touched(range, visit)
    }
}

impl Protection for Scripted {
    fn hold(&self, range: PageRange) -> Result<(), SysError> {
        self.begin("hold", range)?;
        self.protection.hold(range)
    }

    fn freeze(&self, within: PageRange) -> Result<(), SysError> {
        self.begin("freeze", within)?;
        self.protection.freeze(within)
    }

    fn intact(&self, range: PageRange, visit: &mut dyn FnMut(PageRange)) -> Result<(), SysError> {
        self.begin("intact", range)?;
        self.protection.intact(range, visit)
    }

    fn thaw(&self, within: PageRange) -> Result<(), SysError> {
        self.begin("thaw", within)?;
        self.protection.thaw(within)
    }

    fn release(&self, range: PageRange) -> Result<(), SysError> {
        let done = self.protection.release(range);
        self.begin("release", range).and(done)
    }

    fn lift(&self, range: PageRange) -> Result<(), SysError> {
        self.begin("lift", range)?;
        self.protection.lift(range)
    }
}

/// With each tracker: a fixture whose pages have been armed for three ticks, and its script.
fn each(test: &str, run: impl Fn(Fixture, &Scripted)) {
    for kind in common::trackers(test) {
        let bytes = 3 * REGION_PAGES * PAGE_SIZE;
        let delivery = FaultDelivery::Messages(1);
        let mut core = Core::new(bytes, MemoryKind::Shared, kind, 0, delivery, 64 << 20).unwrap();
        let script = Arc::new(Scripted {
            watch: Arc::clone(&core.watch),
            protection: core.isolation.protection(),
            calls: Mutex::default(),
            before: Mutex::new(Box::new(|_| Ok(()))),
        });
        core.watch = Arc::clone(&script) as _;
        core.isolation =
            Isolation::in_place(core.backing.shared().unwrap(), Arc::clone(&script) as _);
        let mut it = Fixture::on(core, false);
        it.scan(1);
        it.scan(4);
        run(it, &script);
    }
}

/// Runs `action` before each call of this name.
fn before(
    script: &Scripted,
    name: &'static str,
    mut action: impl FnMut(PageRange) -> Result<(), SysError> + Send + 'static,
) {
    *script.before.lock().unwrap() =
        Box::new(move |(call, range)| if call == name { action(range) } else { Ok(()) });
}

#[test]
fn a_batch_makes_its_calls_in_order() {
    each("a_batch_makes_its_calls_in_order", |mut it, script| {
        it.core.table.pins().add(PageIndex(2).only());
        it.execute(4, 2, 2, 4);
        let [low, high, first] = [(0, 2), (3, 5), (0, 1)].map(|(a, b)| PageRange::new(a, b));
        assert_eq!(
            script.take_calls(),
            [
                ("hold", low),
                ("hold", high),
                ("freeze", first),
                ("intact", low),
                ("intact", high),
                ("thaw", first),
                ("release", low),
                ("release", high),
            ]
        );
        // The next plan continues in the first region, and no batch has pages of two regions.
        it.execute(4, 2, 2, REGION_PAGES);
        let calls = script.take_calls();
        let begins = |call: &&Call| call.0 == "freeze";
        let starts: Vec<_> = calls.iter().filter(begins).map(|(_, range)| range.start.0).collect();
        assert_eq!(starts.first(), Some(&5));
        assert!(starts.contains(&REGION_PAGES), "a batch ends with its region: {starts:?}");
    });
}

/// Every page that the plan names stays, backs off, and can go later.
fn refused(name: &'static str) {
    each(name, |mut it, script| {
        before(script, name, |_| Err(REFUSED));
        let refused = it.core.counters.kernel_errors.get();
        let done = it.execute(4, 2, 2, 5);
        assert!(done.pages == 0 && done.refused >= 5, "{done:?}");
        assert_eq!(done.refusal, Some(REFUSED));
        assert_eq!(it.core.counters.kernel_errors.get() - refused, done.refused as u64);
        assert_eq!(it.stored(), [0; 0]);
        assert_eq!(it.evictor.ages(Tick::new(4)).at_least(0), PAGES - done.refused);
        assert!(it.core.table.load(PageIndex(0)).is_backing_off(Tick::new(11)));
        let held = script.take_calls().iter().filter(|call| call.0 == "release").count();
        assert_eq!(held > 0, name != "hold", "held pages are released");
        before(script, name, |_| Ok(()));
        it.scan(12);
        assert_eq!(it.execute(12, 2, 2, usize::MAX).pages, PAGES);
    });
}

#[test]
fn pages_that_the_kernel_refuses_to_hold_freeze_or_check_stay_and_back_off() {
    ["hold", "freeze", "intact"].into_iter().for_each(refused);
}

#[test]
fn a_refusal_affects_its_own_run_alone() {
    for name in ["hold", "intact"] {
        each("a_refusal_affects_its_own_run", |mut it, script| {
            let pinned = PageIndex(2);
            it.core.table.pins().add(pinned.only());
            before(
                script,
                name,
                move |range| if range.end == pinned { Err(REFUSED) } else { Ok(()) },
            );
            let done = it.execute(4, 2, 2, 8);
            assert_eq!((done.refused, done.pages), (2, 8), "{name}");
            assert_eq!(it.stored(), (3..11).collect::<Vec<_>>());
            let backs_off = |page| it.core.table.load(PageIndex(page)).is_backing_off(Tick::new(5));
            assert_eq!([0, 1, 11].map(backs_off), [true, true, false]);
        });
    }
}

#[test]
fn a_failed_release_is_reported_and_its_pages_are_evicted() {
    each("a_failed_release", |mut it, script| {
        before(script, "release", |_| Err(REFUSED));
        let done = it.execute(4, 2, 2, 5);
        assert_eq!(done, Evicted { pages: 5, refusal: Some(REFUSED), ..Evicted::default() });
        assert_eq!(it.core.counters.kernel_errors.get(), 5);
        assert_eq!(it.stored(), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn a_region_whose_scan_fails_rests() {
    each("a_region_whose_scan_fails", |mut it, script| {
        let region = PageRange::new(0, REGION_PAGES);
        before(script, "touched", move |range| if range == region { Err(REFUSED) } else { Ok(()) });
        assert_eq!(it.evictor.scan(Tick::new(5), Reach::All), Err(REFUSED));
        assert_eq!(it.core.counters.kernel_errors.get(), 1);
        assert_eq!(it.evictor.ages(Tick::new(5)).at_least(0), PAGES - REGION_PAGES);
        assert_eq!(it.execute(5, 2, 2, usize::MAX).pages, PAGES - REGION_PAGES);
        it.evictor.scan(Tick::new(6), Reach::Due).unwrap();
        assert_eq!(it.evictor.ages(Tick::new(6)).at_least(0), 0);
    });
}

/// A fault takes the page back before or after the evictor copies it.
#[test]
fn a_page_that_a_fault_takes_back_during_a_batch_stays() {
    for name in ["hold", "freeze", "intact"] {
        each("a_page_that_a_fault_takes_back", |mut it, script| {
            let (core, page) = (Arc::clone(&it.core), PageIndex(3));
            before(script, name, move |_| {
                let seen = core.table.load(page);
                if seen.state() == State::Claimed {
                    core.table.begin_unprotect(page, seen).unwrap();
                    let _ = core.table.finish_unprotect(page, seen);
                }
                Ok(())
            });
            let done = it.execute(4, 2, 2, 5);
            assert_eq!(done.touched, 1, "{name}");
            assert_eq!(it.core.counters.touched_during_eviction.get(), 1, "{name}");
            assert!(!it.stored().contains(&3), "{name}");
            assert_eq!(it.state(3), State::Resident);
            assert_eq!(it.core.table.load(page).tick(), Tick::new(4), "it counts as touched");
        });
    }
}

#[test]
fn a_page_that_is_pinned_while_it_is_armed_gets_its_access_back() {
    each("a_page_that_is_pinned_while_it_is_armed", |mut it, script| {
        let (core, pinned) = (Arc::clone(&it.core), PageRange::new(5, 7));
        before(script, "arm", move |_| {
            if !core.table.pins().any() {
                core.table.pins().add(pinned);
            }
            Ok(())
        });
        it.touch(1);
        it.scan(6);
        assert_eq!(script.take_calls(), [("lift", pinned)]);
    });
}
