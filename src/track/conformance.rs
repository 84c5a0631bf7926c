//! The contracts of [`Watch`] and [`Protection`], tested on each tracker.

#![allow(unsafe_code)]

use super::*;
use crate::common;
use crate::prim::{PAGE_SIZE, PageIndex};
use crate::sys::backing::{Backing, Content, FaultDelivery, MemoryKind, SharedBacking};
use crate::sys::event::{self, Event, Woken};
use crate::sys::uapi::UffdMsg;
use parking_lot::Mutex;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

const PAGES: usize = 64;
const ALL: PageRange = PageRange::new(0, PAGES);

/// Memory whose pages are all present and not armed, a tracker, and a handler thread that lifts the protection
/// of each page with a waiter.
///
/// The lock `evicting` takes the place of the page words: while the test holds it, the handler thread lifts no
/// protection. The resolver likewise lifts no protection of a claimed page before it has taken the page back.
struct Fixture {
    watch: Arc<dyn Watch>,
    protection: Arc<dyn Protection>,
    shared: SharedBacking,
    messages: Arc<AtomicUsize>,
    evicting: Arc<Mutex<()>>,
    stop: Arc<Event>,
    handler: Option<thread::JoinHandle<()>>,
}

impl Fixture {
    fn new(kind: Tracker) -> Self {
        let counters = Arc::default();
        let delivery = FaultDelivery::Messages(1);
        let bytes = PAGES * PAGE_SIZE;
        let backing =
            Backing::open(bytes, kind.abilities(MemoryKind::Shared), delivery, counters).unwrap();
        let shared = backing.shared().unwrap();
        assert_eq!(shared.fill(ALL, Content::Zeros), (PAGES, None));
        let (watch, isolation) = kind.start(&backing).unwrap();
        let protection = isolation.protection();
        let (messages, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(Event::new().unwrap()));
        let evicting = Arc::new(Mutex::new(()));
        let handler = {
            let (backing, protection) = (shared.clone(), Arc::clone(&protection));
            let (messages, stop) = (Arc::clone(&messages), Arc::clone(&stop));
            let evicting = Arc::clone(&evicting);
            thread::spawn(move || {
                while event::wait_readable(&backing.uffds()[0], &stop).unwrap() != Woken::Raised {
                    let mut buf = [UffdMsg::default(); 4];
                    let got = backing.uffds()[0].read(&mut buf).unwrap();
                    for message in &buf[..got] {
                        let page = backing.page_of(message.address).unwrap();
                        messages.fetch_add(1, Ordering::SeqCst);
                        let _not_evicting = evicting.lock();
                        protection.lift(page.only()).unwrap();
                    }
                }
            })
        };
        Self { watch, protection, shared, messages, evicting, stop, handler: Some(handler) }
    }

    fn at(&self, page: usize) -> *mut u8 {
        assert!(page < PAGES);
        self.shared.base().wrapping_add(page * PAGE_SIZE + 100)
    }

    fn read(&self, page: usize) -> u8 {
        // SAFETY: within the mapping; the tests' accesses to a page do not overlap.
        unsafe { self.at(page).read_volatile() }
    }

    fn write(&self, page: usize, value: u8) {
        // SAFETY: as in `read`.
        unsafe { self.at(page).write_volatile(value) }
    }

    /// Bytes of a page of the program's view, for system calls.
    #[allow(clippy::mut_from_ref, reason = "memory that belongs to no Rust object")]
    fn bytes(&self, page: usize) -> &mut [u8] {
        // SAFETY: within the mapping; no test accesses the page in another way meanwhile.
        unsafe { core::slice::from_raw_parts_mut(self.at(page), 64) }
    }

    fn arm(&self) {
        self.watch.arm(ALL).unwrap();
    }

    fn touched(&self) -> Vec<usize> {
        let mut pages = Vec::new();
        self.watch.touched(ALL, &mut |run| pages.extend(run.iter().map(|p| p.0))).unwrap();
        pages
    }

    fn intact(&self, range: PageRange) -> Vec<usize> {
        let mut pages = Vec::new();
        self.protection.intact(range, &mut |run| pages.extend(run.iter().map(|p| p.0))).unwrap();
        pages
    }

    fn hold(&self, range: PageRange) {
        self.protection.hold(range).unwrap();
    }

    fn messages(&self) -> usize {
        self.messages.load(Ordering::SeqCst)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.raise();
        self.handler.take().unwrap().join().unwrap();
    }
}

fn each(test: &str, run: impl Fn(Fixture)) {
    for kind in common::trackers(test) {
        println!("{test} with {kind}");
        run(Fixture::new(kind));
    }
}

#[test]
fn the_watch_sees_reads_and_writes_and_no_neighbours() {
    each("the_watch_sees_reads_and_writes", |it| {
        it.arm();
        assert_eq!(it.touched(), [0; 0]);
        it.read(5);
        it.write(9, 1);
        assert_eq!(it.touched(), [5, 9], "no neighbour, although the kernel may fault around");
        assert_eq!(it.touched(), [5, 9], "a scan changes no page");
        it.watch.arm(PageRange::new(0, 8)).unwrap();
        assert_eq!(it.touched(), [9], "a page that is not armed again stays touched");
        it.read(4);
        assert_eq!(it.touched(), [4, 9]);
        assert_eq!(it.messages(), 0, "the kernel sends no message for a touch of an armed page");
    });
}

#[test]
fn pages_that_come_in_unarmed_count_as_touched() {
    each("pages_that_come_in_unarmed", |it| {
        it.arm();
        it.shared.discard(PageRange::new(7, 9)).unwrap();
        let bytes = vec![3; 2 * PAGE_SIZE];
        assert_eq!(it.shared.fill(PageRange::new(7, 9), Content::Bytes(&bytes)), (2, None));
        assert_eq!(it.touched(), [7, 8]);
        it.arm();
        assert_eq!(it.touched(), [0; 0], "a dropped page can be armed again");
        assert_eq!(it.read(8), 3);
        assert_eq!(it.touched(), [8]);
    });
}

#[test]
fn the_watch_sees_system_calls_and_no_accesses_of_other_views() {
    each("the_watch_sees_system_calls", |it| {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        it.arm();
        writer.write_all(it.bytes(3)).unwrap();
        reader.read_exact(it.bytes(11)).unwrap();
        assert_eq!(it.touched(), [3, 11]);
        it.arm();
        let mut buf = vec![0; ALL.bytes()];
        it.shared.read(ALL, &mut buf).unwrap();
        it.shared.lock(ALL).unwrap();
        it.shared.unlock(ALL).unwrap();
        assert_eq!(it.touched(), [0; 0]);
        assert_eq!(it.messages(), 0);
    });
}

#[test]
fn a_touch_while_arming_counts_as_before_or_after_and_loses_nothing() {
    each("a_touch_while_arming", |it| {
        let rounds = common::scaled(2000u32, 200);
        let page = |round: u32| round as usize % PAGES;
        thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..rounds {
                    it.write(page(round), round as u8);
                    assert_eq!(it.read(page(round)), round as u8);
                }
            });
            for _ in 0..rounds / 4 {
                it.arm();
            }
        });
        for round in rounds - PAGES as u32..rounds {
            assert_eq!(it.read(page(round)), round as u8);
        }
        it.arm();
        it.read(1);
        assert_eq!(it.touched(), [1]);
    });
}

#[test]
fn held_pages_stay_intact_until_they_are_touched() {
    each("held_pages_stay_intact", |it| {
        let range = PageRange::new(10, 20);
        it.arm();
        it.read(12);
        it.hold(range);
        it.protection.freeze(ALL).unwrap();
        assert_eq!(it.intact(range), [10, 11, 13, 14, 15, 16, 17, 18, 19]);
        it.write(17, 9);
        assert_eq!(it.messages(), 1, "a writer of a held page waits for a handler thread");
        assert!(!it.intact(range).contains(&17));
        it.protection.thaw(ALL).unwrap();
        it.protection.release(range).unwrap();
        it.write(18, 8);
        it.write(10, 8);
        assert_eq!(it.messages(), 1, "after release no thread waits");
        assert_eq!((it.read(17), it.read(18)), (9, 8));
    });
}

/// A page whose bytes were read under `hold` and that is intact under `freeze` has not changed.
#[test]
fn a_touch_during_freeze_is_never_missed() {
    each("a_touch_during_freeze", |it| {
        let range = PageRange::new(0, 16);
        let rounds = common::scaled(300, 30);
        let (stop, pause) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut state = 1u32;
                while !stop.load(Ordering::Relaxed) {
                    if pause.load(Ordering::Relaxed) {
                        thread::sleep(std::time::Duration::from_millis(1));
                        continue;
                    }
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let page = (state >> 16) as usize % range.pages();
                    it.write(page, (state >> 8) as u8);
                    if state.is_multiple_of(8) {
                        thread::yield_now();
                    }
                }
            });
            let _stop = common::SetOnDrop(&stop);
            let mut before = vec![0; range.bytes()];
            let mut after = vec![0; range.bytes()];
            let mut checked = 0;
            for round in 0..rounds {
                let evicting = it.evicting.lock();
                // In every second round the writer pauses, so that pages are intact.
                pause.store(round % 2 == 0, Ordering::Relaxed);
                it.arm();
                it.hold(range);
                it.shared.read(range, &mut before).unwrap();
                it.protection.freeze(ALL).unwrap();
                for page in it.intact(range) {
                    let at = page * PAGE_SIZE..(page + 1) * PAGE_SIZE;
                    let one = PageIndex(page).only();
                    it.shared.read(one, &mut after[at.clone()]).unwrap();
                    assert!(before[at.clone()] == after[at], "page {page} changed unseen");
                    checked += 1;
                }
                it.protection.thaw(ALL).unwrap();
                it.protection.release(range).unwrap();
                drop(evicting);
            }
            assert!(checked > 0, "no page was ever intact, so the test has checked none");
        });
    });
}

/// A page that leaves the page table, by the kernel's reclaim for example, loses the mark in its entry. It must
/// not count as untouched while the program can change it unseen.
#[test]
fn a_lost_mark_is_never_taken_for_an_untouched_page() {
    each("a_lost_mark", |it| {
        let range = PageRange::new(0, 8);
        it.arm();
        it.shared.empty_page_table(PageRange::new(2, 4)).unwrap();
        it.write(3, 7);
        assert_eq!(it.touched(), [3]);
        // `hold` gives a page without a mark a new one.
        it.arm();
        it.shared.empty_page_table(PageRange::new(2, 4)).unwrap();
        it.hold(range);
        it.protection.freeze(ALL).unwrap();
        assert_eq!(it.intact(range), [0, 1, 2, 3, 4, 5, 6, 7]);
        let before = it.messages();
        it.write(2, 1);
        assert_eq!(it.messages(), before + 1);
        it.protection.thaw(ALL).unwrap();
        it.protection.release(range).unwrap();
        // A page that loses its mark while it is held and is then written is not intact.
        it.arm();
        it.hold(range);
        it.shared.empty_page_table(PageRange::new(5, 6)).unwrap();
        it.write(5, 2);
        it.protection.freeze(ALL).unwrap();
        assert!(!it.intact(range).contains(&5));
        it.protection.thaw(ALL).unwrap();
        it.protection.release(range).unwrap();
    });
}

#[test]
fn release_of_dropped_pages_leaves_ordinary_missing_pages() {
    each("release_of_dropped_pages", |it| {
        let range = PageRange::new(0, 4);
        it.arm();
        it.hold(range);
        it.protection.freeze(ALL).unwrap();
        it.shared.discard(range).unwrap();
        it.protection.thaw(ALL).unwrap();
        it.protection.release(range).unwrap();
        assert_eq!(it.shared.memory_bytes(ALL).unwrap(), ((PAGES - 4) * PAGE_SIZE) as u64);
        let bytes = vec![5; range.bytes()];
        assert_eq!(it.shared.fill(range, Content::Bytes(&bytes)), (4, None));
        it.write(1, 6);
        assert_eq!((it.read(0), it.read(1), it.messages()), (5, 6, 0));
    });
}
