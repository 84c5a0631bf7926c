//! Limits of the system: address space, overcommit, and access to the process's own page table.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs, unsafe_code)]

mod common;

use allocator_api2::vec::Vec as AVec;
use common::child::{child_case, forbid_userfaultfd, passes_in_child, text};
use common::{Setup, quiet, setups, skip};
use std::fs;
use thermocline::{Arena, Backing, BuildError, CapabilityStatus, Swapping};

const DEFAULT_RESERVE: usize = 64 << 30;

/// Sets `RLIMIT_AS` of this process, which is a child.
fn limit_address_space(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: changes a limit of this process alone.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
}

/// Writes numbers, evicts them if the arena swaps, and reads them.
fn assert_works(arena: &Arena) {
    let mut numbers = AVec::new_in(arena);
    numbers.extend(0..200_000u64);
    if let Swapping::On(_) = arena.swapping() {
        arena.evict_now().unwrap();
    }
    assert!(numbers.iter().enumerate().all(|(n, number)| *number == n as u64));
}

/// The arena has a smaller reserve than the default, which leaves half of the address space to the program.
fn assert_the_default_shrinks(arena: &Arena, most: usize) {
    let reserved = arena.stats().reserved_bytes as usize;
    assert!((64 << 20..=most).contains(&reserved), "{reserved}");
    assert!(reserved.is_power_of_two(), "{reserved} is no power of two");
    let mut rest = Vec::<u8>::new();
    assert!(rest.try_reserve_exact(reserved).is_ok(), "too little is left for the program");
    drop(std::hint::black_box(rest));
    assert_works(arena);
}

/// How often an arena maps its memory.
fn views(setup: Setup) -> usize {
    if setup.backing == Backing::Private { 1 } else { 2 }
}

/// `build` failed for lack of address space, and its error names the size and the remedy.
fn assert_refused(built: Result<Arena, BuildError>, asked: usize, in_all: usize) {
    let error = built.unwrap_err();
    let BuildError::AddressSpace { reserve, bytes, error: call } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((*reserve, *bytes, call.errno()), (asked, in_all, libc::ENOMEM), "{error}");
    let text = error.to_string();
    let words = ["Builder::reserve", "RLIMIT_AS", "vm.overcommit_memory"];
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
    assert!(text.contains(&format!("{} MiB", asked >> 20)), "{text}");
}

#[test]
fn the_default_reserve_shrinks_under_a_limit_on_address_space() {
    const TEST: &str = "the_default_reserve_shrinks_under_a_limit_on_address_space";
    let Some(case) = child_case() else {
        setups(TEST).iter().for_each(|setup| drop(passes_in_child(TEST, &setup.to_string())));
        passes_in_child(TEST, "plain");
        return;
    };
    // As `ulimit -v 8000000`.
    limit_address_space(8_000_000 << 10);
    let builder = Arena::builder().plain_memory_fallback(true);
    if case == "plain" {
        forbid_userfaultfd();
        let arena = builder.build().unwrap();
        assert!(matches!(arena.swapping(), Swapping::Off(BuildError::NoUserfaultfd { .. })));
        assert_the_default_shrinks(&arena, 2 << 30);
        return;
    }
    let Setup { backing, tracker, fault_mode } = Setup::parse(&case);
    let builder = builder.backing(backing).tracker(tracker);
    let arena = builder.fault_mode(fault_mode).build().unwrap();
    assert_eq!(arena.swapping(), Swapping::On(tracker));
    assert_the_default_shrinks(&arena, 1 << 30);
    assert_eq!(arena.stats().store_limit_bytes, arena.stats().reserved_bytes);
    // A second arena gets a reserve from the rest.
    let second = Arena::builder().backing(backing).tracker(tracker).build().unwrap();
    assert_the_default_shrinks(&second, 512 << 20);
}

#[test]
fn an_explicit_reserve_is_granted_or_refused() {
    const TEST: &str = "an_explicit_reserve_is_granted_or_refused";
    const GIB: usize = 1 << 30;
    let Some(case) = child_case() else {
        setups(TEST).iter().for_each(|setup| drop(passes_in_child(TEST, &setup.to_string())));
        passes_in_child(TEST, "plain");
        return;
    };
    limit_address_space(8_000_000 << 10);
    if case == "plain" {
        forbid_userfaultfd();
        let builder = || Arena::builder().plain_memory_fallback(true);
        assert_refused(builder().reserve(4 * GIB).build(), 4 * GIB, 8 * GIB);
        let arena = builder().reserve(3 * GIB).build().unwrap();
        assert_eq!(arena.stats().reserved_bytes, 3 * GIB as u64);
        assert_works(&arena);
        return;
    }
    let setup = Setup::parse(&case);
    let builder = || quiet(setup);
    let views = views(setup);
    assert_refused(builder().reserve(4 * GIB).build(), 4 * GIB, (views + 1) * 4 * GIB);
    assert_refused(builder().reserve(GIB).store_limit(7 * GIB).build(), GIB, (views + 7) * GIB);
    let arena = builder().reserve(2 * GIB).build().unwrap();
    assert_eq!(arena.stats().reserved_bytes, 2 * GIB as u64);
    assert_works(&arena);
}

/// With less address space than for the smallest default reserve `build` fails.
#[test]
fn too_little_address_space_for_any_default_is_an_error() {
    const TEST: &str = "too_little_address_space_for_any_default_is_an_error";
    if child_case().is_none() {
        if !setups(TEST).is_empty() {
            passes_in_child(TEST, "little");
        }
        return;
    }
    limit_address_space(320 << 20);
    assert_refused(Arena::builder().build(), 128 << 20, 384 << 20);
}

/// Sets `vm.overcommit_memory`, and resets it on drop.
struct Overcommit(String);

impl Overcommit {
    const FILE: &str = "/proc/sys/vm/overcommit_memory";

    fn never() -> Self {
        let before = fs::read_to_string(Self::FILE).unwrap();
        fs::write(Self::FILE, "2").unwrap();
        Self(before)
    }
}

impl Drop for Overcommit {
    fn drop(&mut self) {
        fs::write(Self::FILE, &self.0).unwrap();
    }
}

/// `vm.overcommit_memory=2` counts the store, which is as large as the reserve, against the machine's
/// memory. Only where the machine is the test's own.
#[test]
fn the_default_reserve_shrinks_without_overcommit() {
    const TEST: &str = "the_default_reserve_shrinks_without_overcommit";
    if std::env::var_os("THERMOCLINE_CHAOS_MACHINE").is_none() {
        skip(TEST, "", "the machine is not the test's own (THERMOCLINE_CHAOS_MACHINE)");
        return;
    }
    for setup in setups(TEST) {
        let _never = Overcommit::never();
        let Setup { backing, tracker, fault_mode } = setup;
        let builder = || Arena::builder().backing(backing).tracker(tracker).fault_mode(fault_mode);
        let arena = builder().build().unwrap();
        let reserved = arena.stats().reserved_bytes as usize;
        assert!((64 << 20..DEFAULT_RESERVE).contains(&reserved), "{setup}: {reserved}");
        assert_works(&arena);
        let in_all = (views(setup) + 1) << 40;
        assert_refused(builder().reserve(1 << 40).build(), 1 << 40, in_all);
    }
}

/// Changes this process from root to the account `nobody`. The kernel then makes it not dumpable.
fn drop_root() {
    // SAFETY: changes the credentials of this process alone.
    unsafe {
        assert_eq!(libc::setgroups(0, core::ptr::null()), 0);
        assert_eq!(libc::setresgid(65534, 65534, 65534), 0);
        assert_eq!(libc::setresuid(65534, 65534, 65534), 0);
    }
}

#[test]
fn after_a_change_of_ids_errors_name_the_remedy() {
    const TEST: &str = "after_a_change_of_ids_errors_name_the_remedy";
    // SAFETY: takes nothing and returns an integer.
    if unsafe { libc::getuid() } != 0 {
        skip(TEST, "root", "only root can change its ids");
        return;
    }
    let Some(case) = child_case() else {
        for setup in setups(TEST) {
            let output = passes_in_child(TEST, &setup.to_string());
            print!("{}", text(&output));
        }
        return;
    };
    let before = quiet(Setup::parse(&case)).build().unwrap();
    drop_root();
    let probe = thermocline::probe();
    for name in ["pagemap", "PAGEMAP_SCAN", "PAGE_IS_ACCESSED"] {
        let capabilities = probe.capabilities();
        let capability = capabilities.iter().find(|c| c.name() == name).unwrap();
        let CapabilityStatus::Missing { reason, remedy } = capability.status() else {
            panic!("{capability}")
        };
        assert!(reason.contains("not dumpable"), "{capability}");
        assert!(remedy.contains("prctl(PR_SET_DUMPABLE, 1)"), "{capability}");
        assert!(!remedy.contains("mount"), "{capability}");
    }
    let error = quiet(Setup::parse(&case)).build().unwrap_err();
    assert!(error.to_string().contains("prctl(PR_SET_DUMPABLE, 1)"), "{error}");
    // Both remedies help: an arena built before the change of ids works, and so does one after prctl.
    assert_works(&before);
    // SAFETY: changes a flag of this process alone.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0);
    assert!(thermocline::probe().can_swap());
    let builder = Arena::builder().reserve(64 << 20);
    assert_works(&builder.build().unwrap());
}
