//! Core dumps contain nothing of an arena.

use super::common::child::{child_case, in_child, text};
use super::common::pages::{PAGE, Pages};
use super::common::{quiet, setups, skip};
use super::{in_each_setup, setup_of_child};
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use thermocline::Backing;

/// The mappings of this process, each as its lines in `smaps`.
fn mappings() -> Vec<String> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut mappings: Vec<String> = Vec::new();
    for line in smaps.lines() {
        let is_head =
            line.split(' ').next().is_some_and(|word| word.contains('-') && !word.ends_with(':'));
        if is_head {
            mappings.push(String::new());
        }
        let mapping = mappings.last_mut().unwrap();
        mapping.push_str(line);
        mapping.push('\n');
    }
    mappings
}

/// Whether the mapping has the flag of `MADV_DONTDUMP`.
fn is_left_out(mapping: &str) -> bool {
    let flags = mapping.lines().find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
    flags.split_whitespace().any(|flag| flag == "dd")
}

/// The addresses of a mapping.
fn addresses(mapping: &str) -> Range<usize> {
    let head = mapping.split(' ').next().unwrap();
    let (start, end) = head.split_once('-').unwrap();
    let number = |text| usize::from_str_radix(text, 16).unwrap();
    number(start)..number(end)
}

/// All views of the memory and the store are left out, because the store holds the program's data too.
#[test]
fn the_mappings_of_an_arena_are_left_out_of_core_dumps() {
    const TEST: &str = "dump::the_mappings_of_an_arena_are_left_out_of_core_dumps";
    if child_case().is_none() {
        in_each_setup(TEST);
        return;
    }
    let left_out = || mappings().iter().filter(|mapping| is_left_out(mapping)).count();
    let before = left_out();
    let setup = setup_of_child().unwrap();
    let arena = quiet(setup).build().unwrap();
    let of_arena = arena.addresses().start.addr()..arena.addresses().end.addr();
    let is_view = |mapping: &String| {
        let addresses = addresses(mapping);
        let overlaps = addresses.start < of_arena.end && of_arena.start < addresses.end;
        overlaps || mapping.contains("memfd:thermocline")
    };
    let views: Vec<_> = mappings().into_iter().filter(is_view).collect();
    // One of the views consists of parts with different descriptors.
    let least = if setup.backing == Backing::Private { 1 } else { 2 };
    assert!(views.len() >= least);
    let dumped: Vec<_> = views.iter().filter(|view| !is_left_out(view)).collect();
    assert!(dumped.is_empty(), "{dumped:?}");
    assert!(left_out() > before + views.len(), "the store's memory is not left out");
}

#[test]
fn a_core_dump_is_small() {
    const TEST: &str = "dump::a_core_dump_is_small";
    const MIB: usize = 64;
    if let Some(setup) = setup_of_child() {
        let most = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: changes a limit of this process alone.
        if unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const most) } != 0 {
            std::process::exit(0);
        }
        std::env::set_current_dir(super::way_of_child()).unwrap();
        let arena = quiet(setup).build().unwrap();
        let count = MIB * (1 << 20) / PAGE;
        let pages = Pages::new(&arena, count);
        let mut state = 1u64;
        for page in 0..count {
            // Half of the pages stay resident, the other half fills the store.
            (0..if page % 2 == 0 { 512 } else { 256 }).for_each(|word| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                pages.write(page, word, state ^ state >> 31);
            });
        }
        arena.evict_now().unwrap();
        std::process::abort();
    }
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if pattern.starts_with(['|', '/', '@']) || pattern.trim().is_empty() {
        skip(TEST, "core", "core dumps go elsewhere here");
        return;
    }
    for setup in setups(TEST) {
        let name = format!("thermocline-core-{}-{}", std::process::id(), setup.is_inline());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        let output = in_child(TEST, &format!("{setup} {}", folder.display()));
        let bytes = dumped(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        let Some(bytes) = bytes else {
            skip(TEST, "core", "the kernel has left no core dump");
            return;
        };
        assert!(output.status.core_dumped(), "{setup}: {:?} {}", output.status, text(&output));
        let most = (MIB / 2) << 20;
        assert!((1..most as u64).contains(&bytes), "{setup}: {bytes} bytes");
    }
}

/// The size of the file in the folder, if there is one.
fn dumped(folder: &Path) -> Option<u64> {
    let file = std::fs::read_dir(folder).unwrap().next()?.unwrap();
    Some(file.metadata().unwrap().len())
}
