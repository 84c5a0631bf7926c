//! Rules for the source: imports between rooms, files with `unsafe`, lengths of files, names of tests.

#![allow(missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms in order: each may use the rooms before it and none after it.
const ROOMS: [&str; 11] = [
    "prim", "stats", "policy", "sys", "table", "store", "alloc", "track", "evict", "fault", "arena",
];

/// Pairs of rooms that must not use each other.
const STRANGERS: [(&str, &str); 8] = [
    ("evict", "fault"),
    ("store", "table"),
    ("alloc", "table"),
    ("alloc", "store"),
    ("policy", "sys"),
    ("policy", "table"),
    ("policy", "store"),
    ("policy", "alloc"),
];

/// Files that may contain `unsafe`, and why.
const UNSAFE: [&str; 33] = [
    // The kernel's calls.
    "sys/linux/accessed.rs",
    "sys/linux/cpu.rs",
    "sys/linux/descriptor.rs",
    "sys/dumpable.rs",
    "sys/error.rs",
    "sys/linux/event.rs",
    "sys/fork.rs",
    "sys/linux/futex.rs",
    "sys/linux/keeper.rs",
    "sys/linux/lazy.rs",
    "sys/linux/memory.rs",
    "sys/linux/pagemap.rs",
    "sys/linux/private.rs",
    "sys/unload.rs",
    "sys/linux/service_stack.rs",
    "sys/linux/sigbus.rs",
    "sys/linux/signals.rs",
    "sys/linux/stderr.rs",
    "sys/linux/thread.rs",
    "sys/linux/touch_meter.rs",
    "sys/linux/uffd.rs",
    "sys/linux/view.rs",
    // A thread's cache, found by an address that is known to that thread alone.
    "alloc/cache.rs",
    // Raw memory for the program, and traits with promises about it.
    "arena/allocate.rs",
    "arena/allocator_api.rs",
    "arena/global.rs",
    "arena/lanes.rs",
    "arena/mod.rs",
    // Tests that touch arena memory.
    "arena/tests.rs",
    "evict/tests.rs",
    "fault/fixture.rs",
    "sys/behaviour.rs",
    "track/conformance.rs",
];

/// The source files of a folder, with their paths below it. None if the source is not on this machine.
fn files_of(folder: &str, test: &str) -> Vec<(String, String)> {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    if fs::read_dir(&root).is_err() {
        common::skip(test, "source", "the source is not on this machine, or may not be read");
        return Vec::new();
    }
    let mut files = Vec::new();
    collect(&root, &mut files);
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), text)
        })
        .collect()
}

fn sources(test: &str) -> Vec<(String, String)> {
    files_of("src", test)
}

/// The lines with code, without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap()).filter(|line| !line.trim().is_empty())
}

/// The rooms that a file of `room` names.
fn uses<'a>(text: &'a str) -> impl Iterator<Item = &'static str> + 'a {
    ROOMS.into_iter().filter(|room| {
        let inner = format!("crate::{room}::");
        let whole = format!("crate::{room};");
        code(text).any(|line| line.contains(&inner) || line.contains(&whole))
    })
}

#[test]
fn rooms_use_only_rooms_before_them() {
    let rank = |room: &str| ROOMS.iter().position(|r| *r == room).unwrap();
    for (path, text) in sources("rooms_use_only_rooms_before_them") {
        let Some((room, _)) = path.split_once('/') else { continue };
        assert!(ROOMS.contains(&room), "{path} lies in no known room");
        for used in uses(&text) {
            assert!(used == room || rank(used) < rank(room), "{path}: {room} may not use {used}");
            let pair = |a, b| (room, used) == (a, b) || (room, used) == (b, a);
            assert!(!STRANGERS.iter().any(|(a, b)| pair(*a, *b)), "{path}: {room} uses {used}");
        }
        // The checks above do not see grouped imports.
        assert!(!text.contains("use crate::{"), "{path}: import each room by itself");
        assert!(!text.contains("super::super::"), "{path}: name the room");
    }
}

#[test]
fn the_checker_of_imports_sees_imports() {
    let text = "use crate::table::Word;\n// crate::evict::x\nfn f() { crate::sys::g() }";
    assert_eq!(uses(text).collect::<Vec<_>>(), ["sys", "table"]);
}

#[test]
fn unsafe_stands_where_it_is_allowed() {
    for (path, text) in sources("unsafe_stands_where_it_is_allowed") {
        let opted_in = code(&text).any(|line| line.contains("allow(unsafe_code)"));
        assert_eq!(opted_in, UNSAFE.contains(&path.as_str()), "{path}");
    }
}

#[test]
fn only_the_kernel_room_names_libc() {
    for (path, text) in sources("only_the_kernel_room_names_libc") {
        let names_it = code(&text).any(|line| line.contains("libc::"));
        assert!(!names_it || path.starts_with("sys/"), "{path} names libc");
    }
}

#[test]
fn files_are_short() {
    let mut lengths: Vec<(usize, String)> = sources("files_are_short")
        .into_iter()
        .map(|(path, text)| {
            let own = text.split("#[cfg(test)]").next().unwrap().to_owned();
            (code(&own).count(), path)
        })
        .collect();
    lengths.sort();
    if let Some((lines, path)) = lengths.last() {
        assert!(*lines <= 500, "{path} has {lines} lines of code");
        assert!(lengths[lengths.len() / 2].0 <= 160, "the median file is too long");
    }
}

/// The tests that a page names in backquotes: `program::test`, or `module::test`.
fn named_tests(page: &str) -> impl Iterator<Item = (&str, &str)> {
    let quoted = page.split('`').skip(1).step_by(2);
    let tests = quoted.filter_map(|name| name.rsplit_once("::"));
    // A method's name comes after a type, which begins with a capital letter.
    tests.filter(|(place, test)| place.starts_with(char::is_lowercase) && test.contains('_'))
}

#[test]
fn the_tests_that_safety_names_exist() {
    const TEST: &str = "the_tests_that_safety_names_exist";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("SAFETY.md");
    let Ok(page) = fs::read_to_string(path) else {
        common::skip(TEST, "source", "the source is not on this machine, or may not be read");
        return;
    };
    let files: Vec<_> = [files_of("src", TEST), files_of("tests", TEST)].concat();
    let mut count = 0;
    for (place, test) in named_tests(&page) {
        let place = place.replace("::", "/");
        let head = format!("fn {test}(");
        assert!(
            files.iter().any(|(path, text)| path.starts_with(&place) && text.contains(&head)),
            "SAFETY.md names {place}::{test}, which does not exist"
        );
        count += 1;
    }
    assert!(count > 50, "only {count} tests are named: is the page still read as it is written?");
}

#[test]
fn every_test_program_is_in_the_index() {
    const TEST: &str = "every_test_program_is_in_the_index";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/README.md");
    let Ok(index) = fs::read_to_string(path) else {
        common::skip(TEST, "source", "the source is not on this machine, or may not be read");
        return;
    };
    for (path, _) in files_of("tests", TEST) {
        let Some(program) = path.strip_suffix("/main.rs").or(path.strip_suffix(".rs")) else {
            continue;
        };
        // Other files of a folder are modules.
        if !program.contains('/') {
            assert!(index.contains(&format!("\n| `{program}` | ")), "no line for {program}");
        }
    }
}
