//! Inline arenas: how many a process can have, when `FaultMode::Auto` makes one, and several at once.

use super::common::child::{child_case, fork, passes_in_child, text};
use super::common::pages::{Pages, evict, rounds};
use super::common::{SetOnDrop, Setup, inline_setups, quiet, scaled, setups, skip};
use core::ptr;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use thermocline::{Arena, BuildError, FaultMode, Stats};

#[test]
fn the_257th_inline_arena_is_refused() {
    const TEST: &str = "arenas::the_257th_inline_arena_is_refused";
    const MOST: usize = 256;
    let Some(case) = child_case() else {
        for setup in inline_setups(TEST) {
            let output = passes_in_child(TEST, &setup.to_string());
            if let Some(line) = text(&output).lines().find(|line| line.starts_with("SKIPPED")) {
                eprintln!("{line}");
            }
        }
        return;
    };
    // SAFETY: changes a limit of this process alone.
    let files = unsafe {
        let mut limit: libc::rlimit = core::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max.min(1 << 14);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
        limit.rlim_cur
    };
    if files < 10 * MOST as u64 {
        skip(TEST, "files", &format!("only {files} files may be open at a time"));
        return;
    }
    let setup = Setup::parse(&case);
    let small = |mode| quiet(setup).reserve(2 << 20).store_limit(1 << 20).fault_mode(mode).build();
    let mut arenas: Vec<Arena> = (0..MOST).map(|_| small(FaultMode::Inline).unwrap()).collect();
    let error = small(FaultMode::Inline).unwrap_err();
    assert_eq!(error, BuildError::TooManyInline { most: MOST });
    let said = error.to_string();
    assert!(said.contains("256") && said.contains("FaultMode::Handler"), "{said}");

    let works = |arena: &Arena| {
        let pages = Pages::filled(arena, 64);
        evict(arena, 64);
        pages.verify();
        pages.free();
    };
    works(&small(FaultMode::Handler).unwrap());
    [0, 100, MOST - 1].iter().for_each(|i| works(&arenas[*i]));
    drop(arenas.swap_remove(100));
    for _ in 0..3 {
        works(&small(FaultMode::Inline).unwrap());
    }
    arenas.push(small(FaultMode::Inline).unwrap());
    works(&arenas[MOST - 1]);
    assert!(matches!(small(FaultMode::Inline), Err(BuildError::TooManyInline { .. })));
    // A forked child has none of them, and may build 256 of its own.
    let status = fork(|| {
        let own: Vec<Arena> = (0..3).map(|_| small(FaultMode::Inline).unwrap()).collect();
        own.iter().for_each(works);
        0
    });
    assert!(status.success(), "{status:?}");
    // A stopped arena serves no faults but keeps its place until it is dropped.
    arenas[7].stop().unwrap();
    drop(arenas);
    works(&small(FaultMode::Inline).unwrap());
}

#[test]
fn auto_mode_is_inline_where_only_faults_of_user_code_can_be_served() {
    const TEST: &str = "arenas::auto_mode_is_inline_where_only_faults_of_user_code_can_be_served";
    let check = |wanted: Option<FaultMode>| {
        let arena = Arena::builder().reserve(64 << 20).build().unwrap();
        let route = arena.route().unwrap();
        let privileged = route.serves_system_calls();
        let mode = if privileged { FaultMode::Handler } else { FaultMode::Inline };
        assert_eq!(arena.fault_mode(), Some(mode), "{route}");
        assert_eq!(arena.serves_system_calls(), privileged);
        if let Some(wanted) = wanted {
            assert_eq!(mode, wanted, "{route}");
        }
        let pages = Pages::filled(&arena, 300);
        evict(&arena, 300);
        pages.verify();
    };
    if setups(TEST).is_empty() {
        return;
    }
    if child_case().is_none() {
        // SAFETY: takes nothing.
        let root = unsafe { libc::geteuid() } == 0;
        check(root.then_some(FaultMode::Handler));
        passes_in_child(TEST, "nobody");
        return;
    }
    // SAFETY: changes the credentials of this process alone. After that the process may not open
    // its own pagemap until it is dumpable again.
    unsafe {
        if libc::getuid() == 0 {
            assert_eq!(libc::setgroups(0, ptr::null()), 0);
            assert_eq!(libc::setresgid(65534, 65534, 65534), 0);
            assert_eq!(libc::setresuid(65534, 65534, 65534), 0);
        }
        assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0), 0);
    }
    let open = std::fs::OpenOptions::new().read(true).write(true).open("/dev/userfaultfd").is_ok();
    let setting = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd");
    let privileged = open || setting.is_ok_and(|setting| setting.trim() == "1");
    check(Some(if privileged { FaultMode::Handler } else { FaultMode::Inline }));
}

#[test]
fn arenas_are_built_and_dropped_while_threads_fault_in_another() {
    for setup in inline_setups("arenas_are_built_and_dropped") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 2000);
        let (over, wrong) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for number in 0..3 {
                let (over, wrong) = (&over, &wrong);
                scope.spawn(move || {
                    let mut page = number * 501;
                    while !over.load(Ordering::Relaxed) {
                        page = (page + 7919) % 2000;
                        wrong.fetch_add(usize::from(!pages.is_right(page)), Ordering::Relaxed);
                        if page.is_multiple_of(16) {
                            // A pause, because pages that are touched all the time are never evicted.
                            thread::sleep(Duration::from_millis(scaled(1, 10)));
                        }
                    }
                });
            }
            let _over = SetOnDrop(&over);
            let is_enough = |stats: &Stats| stats.refaults > 1000;
            for round in rounds(&arena, scaled(60, 8), "refaults", is_enough) {
                let other = quiet(setup).build().unwrap();
                let others = Pages::filled(&other, 500);
                arena.evict_now().unwrap();
                evict(&other, 500);
                thread::scope(|scope| {
                    let (left, right) = (0..250, 250..500);
                    scope.spawn(|| left.for_each(|page| assert!(others.is_right(page))));
                    scope.spawn(|| right.for_each(|page| assert!(others.is_right(page))));
                    if round % 2 == 0 {
                        other.stop().unwrap();
                    }
                });
                arena.evict_now().unwrap();
            }
        });
        assert_eq!(wrong.into_inner(), 0, "{setup}");
        pages.verify();
        arena.check().unwrap();
    }
}

/// Whether this process has a mapping at an address.
fn is_mapped(address: usize) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let number = |text| usize::from_str_radix(text, 16).unwrap();
    maps.lines().any(|line| {
        let (start, rest) = line.split_once('-').unwrap();
        let end = rest.split(' ').next().unwrap();
        (number(start)..number(end)).contains(&address)
    })
}

#[test]
fn a_forked_child_serves_its_own_arena_and_gets_sigsegv_in_its_parents() {
    for setup in inline_setups("a_forked_child_serves_its_own_arena") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 500);
        evict(&arena, 500);
        for touches in [false, true] {
            let status = fork(|| {
                // Small, so that it does not fill the addresses of the parent's arena.
                let own = quiet(setup).reserve(64 << 20).store_limit(1 << 20).build().unwrap();
                let own_pages = Pages::filled(&own, 500);
                for _ in 0..5 {
                    evict(&own, 500);
                    own_pages.verify();
                }
                assert!(own.stats().refaults > 0);
                if touches {
                    assert!(!is_mapped(pages.address), "another mapping has the address");
                    pages.read(0, 3);
                    return 1;
                }
                drop(own);
                0
            });
            let wanted = if touches { (Some(libc::SIGSEGV), None) } else { (None, Some(0)) };
            assert_eq!((status.signal(), status.code()), wanted, "{setup}: {status:?}");
        }
        pages.verify();
        evict(&arena, 500);
        pages.verify();
    }
}
