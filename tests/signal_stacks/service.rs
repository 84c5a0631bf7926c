//! How much serving takes of the library's service stacks.

use super::common::child::{child_case, passes_in_child, text};
use super::common::pages::{PAGE, Pages, rounds};
use super::common::signals::{Foreign, install};
use super::common::stacks::Stack;
use super::common::{SetOnDrop, Setup, inline_setups, quiet, scaled};
use super::touch_on;
use core::ffi::c_int;
use core::ptr;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use thermocline::Stats;

/// Bytes of a service stack.
const SIZE: usize = 64 << 10;

/// The addresses of accessible mappings of that size above an inaccessible page.
fn above_guards() -> Vec<usize> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let number = |text| usize::from_str_radix(text, 16).unwrap();
    let mappings: Vec<(usize, usize, &str)> = maps
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            let (start, end) = words.next().unwrap().split_once('-').unwrap();
            (number(start), number(end), words.next().unwrap())
        })
        .collect();
    let is_pair = |pair: &&[(usize, usize, &str)]| {
        let ((start, end, access), above) = (pair[0], pair[1]);
        (end - start, access, above.2) == (PAGE, "---p", "rw-p")
            && (above.0, above.1) == (end, end + SIZE)
    };
    mappings.windows(2).filter(is_pair).map(|pair| pair[1].0).collect()
}

extern "C" fn lengthen(_: c_int) {
    Foreign::lengthen();
}

#[test]
fn service_stacks_have_room_to_spare() {
    const TEST: &str = "service::service_stacks_have_room_to_spare";
    let Some(case) = child_case() else {
        for setup in inline_setups(TEST) {
            let output = passes_in_child(TEST, &setup.to_string());
            println!("{}", text(&output).lines().find(|l| l.contains("service stack")).unwrap());
        }
        return;
    };
    install(libc::SIGBUS, lengthen as extern "C" fn(_) as usize, 0, &[]);
    let before = above_guards();
    let arena = quiet(Setup::parse(&case)).build().unwrap();
    let new = above_guards().into_iter().filter(|start| !before.contains(start));
    let stacks: Vec<Stack> =
        new.map(|start| Stack::at(ptr::with_exposed_provenance_mut(start), SIZE)).collect();
    assert!(stacks.len() >= 32, "only {} service stacks are found", stacks.len());
    // No thread uses these stacks now, because none faults.
    stacks.iter().for_each(Stack::paint);

    touch_on(&Stack::new(1 << 20), None, Setup::parse(&case));
    Foreign::new().touch(3);
    let used = stacks.iter().map(Stack::used).max().unwrap();
    drop(arena);
    println!("\n{case}: {used} of {SIZE} bytes of a service stack");
    assert!(used > 500, "faults are served on other stacks");
    assert!(used <= SIZE / 2, "{used} of {SIZE} bytes");
}

/// A thread keeps its service stack while it waits for a page that the evictor owns.
#[test]
fn more_threads_than_service_stacks_touch_pages_that_are_being_evicted() {
    const PAGES: usize = 1000;
    // SAFETY: takes a number.
    let processors = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    // There are at least 64 stacks, and four to a processor.
    let threads = (5 * usize::try_from(processors).unwrap()).clamp(100, 600);
    for setup in inline_setups("more_threads_than_service_stacks") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, PAGES);
        let (over, wrong) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    arena.evict_now().unwrap();
                }
            });
            let _over = SetOnDrop(&over);
            let is_enough = |stats: &Stats| stats.refaults > scaled(2000, 200);
            for round in rounds(&arena, 3, "refaults", is_enough) {
                arena.evict_now().unwrap();
                thread::scope(|scope| {
                    for number in 0..threads {
                        let wrong = &wrong;
                        scope.spawn(move || {
                            for i in 0..20 {
                                let page = (round + number * 31 + i * 37) % PAGES;
                                let is_wrong = !pages.is_right(page);
                                wrong.fetch_add(usize::from(is_wrong), Ordering::Relaxed);
                            }
                        });
                    }
                });
            }
        });
        assert_eq!(wrong.into_inner(), 0, "{setup}");
        pages.verify();
    }
}
