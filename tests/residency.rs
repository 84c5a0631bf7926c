//! Memory that is where it is needed before it is touched, and stays there: `ensure` and `pin`.

#![allow(missing_docs, unsafe_code)]

mod common;

use common::child::{child_case, forbid_userfaultfd, passes_in_child};
use common::pages::{PAGE, PAGE_BYTES, Pages, eventually, evict, rounds};
use common::{SetOnDrop, quiet, scaled, setups};
use core::ffi::c_void;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use thermocline::{Advice, Arena, ArenaError, Stats};

const OUTSIDE: Result<(), ArenaError> = Err(ArenaError::OutsideArena);

fn bytes(pages: usize) -> u64 {
    pages as u64 * PAGE_BYTES
}

/// Runs `what` while another thread evicts all that it can, over and over.
fn while_evicting(arena: &Arena, what: impl FnOnce()) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                arena.evict_now().unwrap();
            }
        });
        let _over = SetOnDrop(&over);
        what();
    });
}

/// Whether so many pages went that some must have been near those that were pinned.
fn is_enough(stats: &Stats) -> bool {
    stats.evicted_pages > 500
}

#[test]
fn what_was_ensured_faults_no_more() {
    for setup in setups("what_was_ensured") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 1000);
        evict(&arena, 1000);
        for (first, count) in [(0, 1), (10, 16), (100, 333), (990, 10), (0, 1000)] {
            arena.ensure(pages.part(first, count)).unwrap();
            let before = arena.stats();
            assert!((first..first + count).all(|page| pages.is_right(page)));
            assert_eq!(arena.stats().faults, before.faults, "{setup}, {count} at {first}");
        }
        assert_eq!(arena.stats().resident_bytes, bytes(1000), "{setup}: {}", arena.stats());
        // Bytes in the middle of pages mean the whole of those.
        evict(&arena, 1000);
        let across = std::ptr::slice_from_raw_parts(pages.word(499, 511), 2);
        arena.ensure(across).unwrap();
        let before = arena.stats();
        assert_eq!(before.resident_bytes, bytes(2));
        assert!(pages.is_right(499) && pages.is_right(500));
        assert_eq!(arena.stats().faults, before.faults);
        arena.check().unwrap();
    }
}

#[test]
fn ensuring_what_is_in_memory_changes_nothing() {
    for setup in setups("ensuring_what_is_in_memory") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 1000);
        let before = arena.stats();
        for _ in 0..10 {
            arena.ensure(pages.range()).unwrap();
        }
        assert_eq!(arena.stats(), before, "{setup}");
        // Not even its age: all of it goes.
        evict(&arena, 1000);
    }
}

#[test]
fn ensured_memory_that_was_never_written_is_given() {
    for setup in setups("ensured_memory_that_was_never_written") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::new(&arena, 4000);
        let before = arena.stats();
        arena.ensure(pages.part(1000, 3000)).unwrap();
        let stats = arena.stats();
        assert_eq!(stats.memory_bytes, before.memory_bytes + bytes(3000), "{setup}");
        assert!((1000..4000).all(|page| pages.read(page, 9) == 0));
        pages.write(2000, 0, 1);
        assert_eq!(arena.stats().faults, before.faults, "{setup}: {stats}");
        // Stored, empty and resident pages next to each other.
        pages.free();
        let pages = Pages::new(&arena, 4000);
        for page in (2000..4000).step_by(3) {
            pages.write(page, 3, page as u64);
        }
        arena.evict_now().unwrap();
        (2000..4000).step_by(6).for_each(|page| assert_eq!(pages.read(page, 3), page as u64));
        arena.ensure(pages.part(2000, 2000)).unwrap();
        let faults = arena.stats().faults;
        for page in 2000..4000 {
            let wanted = if (page - 2000) % 3 == 0 { page as u64 } else { 0 };
            assert_eq!(pages.read(page, 3), wanted);
        }
        assert_eq!(arena.stats().faults, faults, "{setup}");
        arena.check().unwrap();
    }
}

#[test]
fn ranges_outside_of_the_arena_are_refused_and_nothing_is_pinned() {
    for setup in setups("ranges_outside") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 10);
        let start = pages.range().cast::<u64>();
        let elsewhere = [1u8, 2, 3];
        assert_eq!(arena.ensure(&elsewhere[..]), OUTSIDE);
        assert_eq!(arena.pin(&elsewhere[..]).map(drop), OUTSIDE);
        for len in [1 << 40, usize::MAX] {
            let too_long = std::ptr::slice_from_raw_parts(start, len);
            assert_eq!(arena.ensure(too_long), OUTSIDE);
            assert_eq!(arena.pin(too_long).map(drop), OUTSIDE);
        }
        assert_eq!(arena.ensure(&[0u8; 0]), Ok(()));
        assert_eq!(arena.pin(&[0u8; 0]).unwrap().bytes(), 0);
        assert_eq!(arena.stats().pinned_bytes, 0);
        evict(&arena, 10);
    }
}

/// Where nothing is ever evicted there is nothing to do, and nothing to complain about.
#[test]
fn a_stopped_arena_has_everything_in_memory_anyway() {
    for setup in setups("a_stopped_arena") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 1000);
        evict(&arena, 1000);
        let pinned = arena.pin(pages.part(0, 100)).unwrap();
        arena.stop().unwrap();
        arena.ensure(pages.range()).unwrap();
        let more = arena.pin(pages.range()).unwrap();
        assert_eq!(more.bytes(), bytes(1000));
        pages.verify();
        drop((pinned, more));
        assert_eq!(arena.stats().pinned_bytes, 0);
        pages.free();
        arena.trim();
        assert_eq!(arena.stats().memory_bytes, 0);
    }
}

#[test]
fn plain_memory_is_always_there() {
    const TEST: &str = "plain_memory_is_always_there";
    if child_case().is_none() {
        passes_in_child(TEST, "plain");
        return;
    }
    forbid_userfaultfd();
    let arena = Arena::builder().plain_memory_fallback(true).reserve(64 << 20).build().unwrap();
    assert_eq!(arena.fault_mode(), None);
    let pages = Pages::new(&arena, 100);
    (0..100).for_each(|page| pages.write(page, 3, page as u64 + 1));
    arena.ensure(pages.range()).unwrap();
    let pinned = arena.pin(pages.range()).unwrap();
    assert_eq!((pinned.bytes(), arena.stats().pinned_bytes), (bytes(100), 0));
    assert_eq!(arena.ensure(&[1u8][..]), OUTSIDE);
    drop(pinned);
    pages.verify();
}

#[test]
fn pinned_pages_stay_and_their_neighbours_go() {
    for setup in setups("pinned_pages_stay") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 1000);
        let pinned = arena.pin(pages.part(100, 37)).unwrap();
        assert_eq!((pinned.bytes(), arena.stats().pinned_bytes), (bytes(37), bytes(37)));
        evict(&arena, 1000 - 37);
        arena.advise(pages.part(100, 37), Advice::Cold).unwrap();
        arena.advise(pages.part(90, 60), Advice::Cold).unwrap();
        // On the evictor's thread, so after what was advised.
        arena.check().unwrap();
        evict(&arena, 1000 - 37);
        let before = arena.stats();
        assert_eq!(before.resident_bytes, bytes(37), "{setup}");
        assert!((100..137).all(|page| pages.is_right(page)));
        assert_eq!(arena.stats().faults, before.faults, "{setup}: {}", arena.stats());
        drop(pinned);
        assert_eq!(arena.stats().pinned_bytes, 0);
        evict(&arena, 1000);
        pages.verify();
        arena.check().unwrap();
    }
}

#[test]
fn pins_overlap_and_are_counted() {
    for setup in setups("pins_overlap") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 100);
        let outer = arena.pin(pages.part(10, 50)).unwrap();
        let inner = arena.pin(pages.part(20, 10)).unwrap();
        let across = arena.pin(pages.part(50, 20)).unwrap();
        let again = arena.pin(pages.part(50, 20)).unwrap();
        assert_eq!(arena.stats().pinned_bytes, bytes(50 + 10 + 20 + 20));
        evict(&arena, 100 - 60);
        drop(outer);
        evict(&arena, 100 - 30);
        drop(again);
        evict(&arena, 100 - 30);
        drop(across);
        evict(&arena, 100 - 10);
        drop(inner);
        evict(&arena, 100);
        assert_eq!(arena.stats().pinned_bytes, 0);
        pages.verify();
    }
}

#[test]
fn pinning_evicted_memory_brings_it_back() {
    for setup in setups("pinning_evicted_memory") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 1000);
        evict(&arena, 1000);
        let pinned = arena.pin(pages.part(300, 100)).unwrap();
        assert_eq!(arena.stats().resident_bytes, bytes(100), "{setup}: {}", arena.stats());
        arena.evict_now().unwrap();
        let before = arena.stats();
        assert!((300..400).all(|page| pages.is_right(page)));
        assert_eq!(arena.stats().faults, before.faults, "{setup}");
        // Memory that was never written, too.
        let fresh = Pages::new(&arena, 2000);
        let also = arena.pin(fresh.part(1000, 1000)).unwrap();
        arena.evict_now().unwrap();
        assert_eq!(arena.stats().resident_bytes, bytes(1100), "{setup}");
        assert!((1000..2000).all(|page| fresh.read(page, 0) == 0));
        assert_eq!(arena.stats().faults, before.faults, "{setup}");
        drop((pinned, also));
        pages.verify();
        arena.check().unwrap();
    }
}

#[test]
fn memory_that_is_freed_under_a_pin_harms_nobody() {
    for setup in setups("memory_that_is_freed_under_a_pin") {
        let arena = quiet(setup).reserve(8 << 20).build().unwrap();
        let pages = Pages::filled(&arena, 1000);
        let pinned = arena.pin(pages.range()).unwrap();
        pages.free();
        arena.trim();
        assert_eq!(arena.stats().memory_bytes, 0, "{setup}");
        // The arena has room for one such block in that place.
        let others = Pages::filled(&arena, 1000);
        assert!((0..1000).all(|page| others.read(page, 4) == 0));
        arena.evict_now().unwrap();
        others.verify();
        let theirs = arena.pin(others.part(0, 500)).unwrap();
        drop(pinned);
        arena.evict_now().unwrap();
        assert!((0..500).all(|page| others.is_right(page)));
        assert_eq!(arena.stats().pinned_bytes, bytes(500));
        drop(theirs);
        evict(&arena, 1000);
        others.verify();
        others.free();
        arena.trim();
        assert_eq!((arena.stats().memory_bytes, arena.stats().stored_bytes), (0, 0));
        arena.check().unwrap();
    }
}

/// What cannot go must not be taken for what could: the rest has to make room for it.
#[test]
fn the_resident_limit_is_kept_by_what_is_not_pinned() {
    for setup in setups("the_resident_limit_is_kept") {
        let arena = quiet(setup)
            .resident_limit(2048 * PAGE)
            .scan_interval(Duration::from_millis(20))
            .cold_age(Duration::from_secs(1000))
            .build()
            .unwrap();
        let kept = Pages::filled(&arena, 1500);
        // Watched before they are pinned and touched no more, they look the oldest by far.
        eventually(&arena, "some looks", |stats| stats.scans > 5);
        let pinned = arena.pin(kept.range()).unwrap();
        let cycles = arena.stats().scans;
        eventually(&arena, "more looks", |stats| stats.scans > cycles + 20);
        let others = Pages::new(&arena, 4000);
        for page in 0..4000 {
            others.write(page, 3, page as u64 + 1);
            // Each time less has to go than is pinned.
            if page % 400 == 399 {
                eventually(&arena, "the limit", |stats| stats.resident_bytes <= bytes(2048));
            }
        }
        assert!((0..1500).all(|page| kept.is_right(page)));
        others.verify();
        eventually(&arena, "the limit again", |stats| stats.resident_bytes <= bytes(2048));
        drop(pinned);
        kept.verify();
    }
}

#[test]
fn pins_hold_while_everything_else_is_evicted_all_the_time() {
    for setup in setups("pins_hold_while") {
        let interval = Duration::from_millis(1);
        let builder = quiet(setup).scan_interval(interval).cold_age(interval).zeal(true);
        let arena = builder.build().unwrap();
        let pages = Pages::filled(&arena, 1000);
        thread::scope(|scope| {
            for number in 0..4 {
                let arena = &arena;
                scope.spawn(move || {
                    // A machine with other things to do gets more rounds.
                    let goes_on = |round| round < scaled(600, 40) || !is_enough(&arena.stats());
                    for round in (0..60_000usize).take_while(|round| goes_on(*round)) {
                        let first = (number * 217 + round * 31) % 900;
                        let pinned = arena.pin(pages.part(first, 100)).unwrap();
                        // Each word has one writer.
                        for page in (first..first + 100).step_by(7) {
                            pages.write(page, 100 + number, round as u64);
                            assert!(pages.is_right(page), "{setup}, page {page}");
                            assert_eq!(pages.read(page, 100 + number), round as u64);
                        }
                        drop(pinned);
                        assert!(pages.is_right((first + 500) % 1000));
                    }
                });
            }
        });
        let stats = arena.stats();
        assert!(is_enough(&stats) && stats.pinned_bytes == 0, "{setup}: {stats}");
        pages.verify();
        // Pinned pages raise no fault however often the evictor comes by.
        let pinned = arena.pin(pages.range()).unwrap();
        // The evictor counts what it has dropped a moment later.
        arena.check().unwrap();
        let before = arena.stats();
        while arena.stats().scans < before.scans + 20 {
            pages.verify();
        }
        let stats = arena.stats();
        assert_eq!(
            (stats.faults, stats.evicted_pages),
            (before.faults, before.evicted_pages),
            "{setup}"
        );
        drop(pinned);
        eventually(&arena, "the eviction", |stats| stats.resident_bytes == 0);
        arena.check().unwrap();
    }
}

#[test]
fn a_guard_may_outlive_the_arena() {
    for setup in setups("a_guard_may_outlive") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 100);
        evict(&arena, 100);
        let (address, range) = (pages.address, pages.part(10, 10));
        let pinned = arena.pin(range).unwrap();
        drop(arena);
        for page in 0..100u64 {
            let at = address + page as usize * PAGE + 24;
            // SAFETY: the guard keeps the arena's memory alive, and nobody has freed the block.
            let read = unsafe { std::ptr::with_exposed_provenance::<u64>(at).read_volatile() };
            assert_eq!(read, page + 1, "{setup}");
        }
        assert_eq!(pinned.bytes(), bytes(10));
        thread::spawn(move || drop(pinned)).join().unwrap();
    }
}

/// What a system call is given: a part of a page that is not at its start, so that it reaches
/// over into others.
fn buffer(pages: Pages<'_>, first: usize, len: usize) -> *mut c_void {
    assert!(len + 100 <= (pages.count - first) * PAGE);
    std::ptr::with_exposed_provenance_mut(pages.address + first * PAGE + 100)
}

#[test]
fn system_calls_on_pinned_memory_never_fail() {
    const LEN: usize = 5 * PAGE;
    for setup in setups("system_calls_on_pinned_memory") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 512);
        let pipe = std::io::pipe().unwrap();
        let (reader, writer) = (pipe.0.as_raw_fd(), pipe.1.as_raw_fd());
        while_evicting(&arena, || {
            for round in rounds(&arena, scaled(2000, 100), "eviction", is_enough) {
                let (from, to) = (round * 13 % 250, 256 + round * 7 % 250);
                let source = arena.pin(pages.part(from, 6)).unwrap();
                let written = write_to(writer, buffer(pages, from, LEN), LEN);
                assert_eq!(written, Ok(LEN), "{setup}, {round}");
                drop(source);
                let target = arena.pin(pages.part(to, 6)).unwrap();
                let read = read_from(reader, buffer(pages, to, LEN), LEN);
                assert_eq!(read, Ok(LEN), "{setup}, {round}");
                drop(target);
                // Some of it has been evicted again by now.
                let wrong = (0..LEN / 8).filter(|i| {
                    let at = |first| buffer(pages, first, LEN).addr() + i * 8;
                    // SAFETY: words of the block, which no other thread writes to.
                    let word = |address| unsafe {
                        std::ptr::with_exposed_provenance::<u64>(address).read_unaligned()
                    };
                    word(at(from)) != word(at(to))
                });
                assert_eq!(wrong.count(), 0, "{setup}, {round}");
                pages.write(from, 200, round as u64);
            }
        });
        assert!((0..250).all(|page| pages.is_right(page)));
    }
}

fn write_to(fd: i32, from: *const c_void, len: usize) -> Result<usize, std::io::ErrorKind> {
    // SAFETY: the caller passes memory of the arena, wherever it is.
    let done = unsafe { libc::write(fd, from, len) };
    usize::try_from(done).map_err(|_| std::io::Error::last_os_error().kind())
}

fn read_from(fd: i32, to: *mut c_void, len: usize) -> Result<usize, std::io::ErrorKind> {
    // SAFETY: as above; nobody else uses the memory meanwhile.
    let done = unsafe { libc::read(fd, to, len) };
    usize::try_from(done).map_err(|_| std::io::Error::last_os_error().kind())
}

/// A file for one test, which is gone when this is dropped.
struct Scrap(std::path::PathBuf);

impl Scrap {
    const PAGES: usize = 256;

    /// Each word tells its place.
    fn word(at: usize) -> u64 {
        (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn new(folder: &std::path::Path, name: &str) -> std::io::Result<Self> {
        let this = Self(folder.join(format!("thermocline-{name}-{}", std::process::id())));
        let words = (0..Self::PAGES * PAGE / 8).flat_map(|at| Self::word(at).to_ne_bytes());
        std::fs::write(&this.0, words.collect::<Vec<_>>())?;
        File::open(&this.0)?.sync_all()?;
        Ok(this)
    }

    /// The file, if its file system reads past the page cache.
    fn open_direct(&self) -> std::io::Result<File> {
        let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(&self.0)?;
        // Some say so only now.
        #[repr(align(4096))]
        struct Page([u8; PAGE]);
        file.read_exact_at(&mut Page([0; PAGE]).0, 0)?;
        Ok(file)
    }
}

impl Drop for Scrap {
    fn drop(&mut self) {
        // If it does not go, it is no part of what is tested.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A scrap in the first folder that lets itself be read directly.
fn direct_file(test: &str) -> Option<(Scrap, File)> {
    let folders = [env!("CARGO_TARGET_TMPDIR").into(), std::env::temp_dir()];
    let open = |folder: &std::path::PathBuf| {
        let scrap = Scrap::new(folder, test)?;
        let file = scrap.open_direct()?;
        Ok::<_, std::io::Error>((scrap, file))
    };
    let mut refusals = Vec::new();
    for folder in &folders {
        match open(folder) {
            Ok(opened) => return Some(opened),
            Err(e) => refusals.push(format!("{}: {e}", folder.display())),
        }
    }
    common::skip(test, "o_direct", &format!("no O_DIRECT here: {}", refusals.join("; ")));
    None
}

/// A device writes to the pages by their addresses in memory, whatever the page table says.
#[test]
fn direct_reads_into_pinned_memory_arrive() {
    const TEST: &str = "direct_reads_into_pinned_memory";
    const RUN: usize = 8;
    let Some((_scrap, file)) = direct_file(TEST) else { return };
    for setup in setups(TEST) {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 512);
        while_evicting(&arena, || {
            for round in rounds(&arena, scaled(1500, 60), "eviction", is_enough) {
                let (to, from) = (round * 29 % (512 - RUN), round * 17 % (Scrap::PAGES - RUN));
                let pinned = arena.pin(pages.part(to, RUN)).unwrap();
                let address = pages.address + to * PAGE;
                // SAFETY: pages of the block, which no other thread writes to.
                let target = unsafe {
                    let start = std::ptr::with_exposed_provenance_mut::<u8>(address);
                    std::slice::from_raw_parts_mut(start, RUN * PAGE)
                };
                file.read_exact_at(target, bytes(from)).unwrap();
                // Half of the time what arrived is looked at after it was evicted.
                let pinned = (round % 2 == 0).then_some(pinned);
                if pinned.is_none() {
                    arena.advise(pages.part(to, RUN), Advice::Cold).unwrap();
                }
                for at in 0..RUN * PAGE / 8 {
                    let read = pages.read(to + at / 512, at % 512);
                    let wanted = Scrap::word(from * PAGE / 8 + at);
                    assert_eq!(read, wanted, "{setup}, {round}, word {at}");
                }
                // What compresses is evicted; what came from the file does not.
                (to..to + RUN).for_each(|page| {
                    (0..512).for_each(|word| pages.write(page, word, round as u64));
                });
            }
        });
        arena.check().unwrap();
    }
}
