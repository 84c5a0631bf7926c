//! A program that closes or replaces descriptors which it did not open.

#![allow(missing_docs, unsafe_code)]

mod common;

use common::child::{child_case, passes_in_child};
use common::pages::{PAGE, PAGE_BYTES, Pages};
use common::{Setup, quiet, scaled, setups};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::process::Command;
use thermocline::{Arena, BuildError, FaultMode};

const PAGES: usize = 200;

/// The numbers of all open files of this process, above those of the standard streams.
fn open_numbers() -> BTreeSet<RawFd> {
    let numbers: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    // Without the descriptor of the folder itself, which is closed by now.
    numbers.into_iter().filter(|number| *number > 2 && is_open(*number)).collect()
}

fn is_open(number: RawFd) -> bool {
    // SAFETY: takes and returns integers.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// An arena, and the numbers of the descriptors that it has opened.
fn arena(setup: Setup) -> (Arena, Vec<RawFd>) {
    let before = open_numbers();
    let arena = quiet(setup).build().unwrap();
    let numbers: Vec<RawFd> = open_numbers().difference(&before).copied().collect();
    assert!(numbers.len() >= 2, "{numbers:?}");
    (arena, numbers)
}

/// Evicts until at least that many pages are stored.
fn evict(arena: &Arena, pages: usize) {
    for _ in 0..50 {
        arena.evict_now().unwrap();
        if arena.stats().stored_bytes >= pages as u64 * PAGE_BYTES {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    panic!("too few pages are stored: {}", arena.stats());
}

fn close_all() {
    // SAFETY: closes the descriptors of this process, as daemonizers do.
    assert_eq!(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) }, 0);
}

/// Every operation that needs a descriptor: touches, eviction, and each way to bring pages back.
fn work(arena: &Arena, pages: Pages<'_>) {
    pages.verify();
    for round in 0..scaled(3u64, 1) {
        (0..PAGES).for_each(|page| pages.write(page, 7, round));
        evict(arena, PAGES / 2);
        pages.verify();
        evict(arena, PAGES / 2);
        arena.ensure(pages.part(0, 20)).unwrap();
        arena.prefetch(pages.part(20, 20)).unwrap();
        drop(arena.pin(pages.part(40, 20)).unwrap());
        (0..PAGES).for_each(|page| assert_eq!(pages.read(page, 7), round, "page {page}"));
    }
    // Memory that is released, used again, and released.
    let other = Pages::filled(arena, PAGES);
    evict(arena, PAGES);
    other.verify();
    other.free();
    arena.trim();
    pages.verify();
    arena.check().unwrap();
}

/// Runs `test` in a child for each setup and each case.
fn in_children(test: &str, cases: &[&str]) {
    for setup in setups(test) {
        for case in cases {
            passes_in_child(test, &format!("{setup} {case}"));
        }
    }
}

fn case() -> Option<(Setup, String)> {
    let case = child_case()?;
    let (setup, case) = case.split_once(' ').unwrap();
    Some((Setup::parse(setup), case.to_owned()))
}

/// When the last descriptor is closed, the kernel ends the registration, and evicted pages read as zeros.
#[test]
fn an_arena_works_after_the_program_closed_all_descriptors() {
    if let Some((setup, _)) = case() {
        let (arena, _) = arena(setup);
        let pages = Pages::filled(&arena, PAGES);
        evict(&arena, PAGES);
        close_all();
        work(&arena, pages);
        let calls = arena.stats().delegated_calls;
        assert!(calls > 0, "no call was delegated, with all descriptors closed");
        arena.stop().unwrap();
        pages.verify();
        return;
    }
    in_children("an_arena_works_after_the_program_closed_all_descriptors", &[""]);
}

#[test]
fn an_arena_works_after_the_program_closed_any_one_descriptor() {
    if let Some((setup, nth)) = case() {
        let (arena, numbers) = arena(setup);
        let Some(number) = numbers.get(nth.parse::<usize>().unwrap()) else { return };
        let pages = Pages::filled(&arena, PAGES);
        evict(&arena, PAGES);
        // SAFETY: closes a descriptor of this process, as a program with a bug does.
        assert_eq!(unsafe { libc::close(*number) }, 0);
        work(&arena, pages);
        return;
    }
    in_children(
        "an_arena_works_after_the_program_closed_any_one_descriptor",
        &["0", "1", "2", "3", "4"],
    );
}

/// A file at the numbers of the arena's descriptors, which must not change.
struct Foreign {
    file: File,
    numbers: Vec<RawFd>,
}

impl Foreign {
    const BYTES: usize = 16 << 20;

    fn take_numbers(numbers: Vec<RawFd>, file: File) -> Self {
        for number in &numbers {
            // SAFETY: replaces a descriptor of this process, as a double close followed by an open does.
            assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), *number) }, *number);
        }
        Self { file, numbers }
    }

    fn verify(&self) {
        let mut bytes = vec![0; Self::BYTES];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0xab), "a foreign file was changed");
        assert_eq!(self.file.metadata().unwrap().len(), Self::BYTES as u64);
        self.numbers.iter().for_each(|number| assert!(is_open(*number), "{number} was closed"));
    }
}

fn foreign_file() -> File {
    let path = std::env::temp_dir().join(format!("thermocline-foreign-{}", std::process::id()));
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file.write_all(&vec![0xab; Foreign::BYTES]).unwrap();
    file
}

#[test]
fn a_file_at_the_number_of_a_closed_descriptor_is_not_changed() {
    if let Some((setup, _)) = case() {
        let (arena, numbers) = arena(setup);
        let pages = Pages::filled(&arena, PAGES);
        evict(&arena, PAGES / 2);
        let foreign = Foreign::take_numbers(numbers, foreign_file());
        work(&arena, pages);
        evict(&arena, PAGES);
        let mut buffer = Vec::new();
        let page = pages.part(5, 1);
        // SAFETY: a page of the block, which nothing writes meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts(page.cast::<u8>(), PAGE) };
        assert_eq!(arena.peek(bytes, &mut buffer).unwrap()[24..32], 6u64.to_ne_bytes());
        foreign.verify();
        arena.stop().unwrap();
        pages.verify();
        foreign.verify();
        drop(arena);
        foreign.verify();
        return;
    }
    in_children("a_file_at_the_number_of_a_closed_descriptor_is_not_changed", &[""]);
}

/// Another userfaultfd would accept the arena's calls, and wake only its own waiters.
#[test]
fn a_userfaultfd_at_the_number_of_a_closed_descriptor_is_not_used() {
    if let Some((setup, _)) = case() {
        let (arena, numbers) = arena(setup);
        let pages = Pages::filled(&arena, PAGES);
        evict(&arena, PAGES);
        // SAFETY: takes flags, gives a new descriptor.
        let other = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | 1) } as RawFd;
        assert!(other >= 0);
        let mut api = [0xaau64, 0, 0];
        // SAFETY: UFFDIO_API, with the struct that it takes.
        assert_eq!(unsafe { libc::ioctl(other, 0xc018_aa3f, api.as_mut_ptr()) }, 0);
        for number in numbers {
            // SAFETY: as in `Foreign`.
            assert_eq!(unsafe { libc::dup2(other, number) }, number);
        }
        work(&arena, pages);
        arena.stop().unwrap();
        pages.verify();
        return;
    }
    in_children("a_userfaultfd_at_the_number_of_a_closed_descriptor_is_not_used", &[""]);
}

/// Plain memory is released too.
#[test]
fn plain_memory_changes_no_foreign_file() {
    if child_case().is_some() {
        common::child::forbid_userfaultfd();
        let before = open_numbers();
        let arena = Arena::builder().reserve(1 << 30).plain_memory_fallback(true).build().unwrap();
        let numbers: Vec<RawFd> = open_numbers().difference(&before).copied().collect();
        let block = Pages::new(&arena, 4096);
        (0..4096).for_each(|page| block.write(page, 3, 1));
        let foreign = Foreign::take_numbers(numbers, foreign_file());
        block.free();
        assert!(arena.trim() > 0);
        foreign.verify();
        drop(arena);
        foreign.verify();
        return;
    }
    passes_in_child("plain_memory_changes_no_foreign_file", "child");
}

/// The reader of a pipe sees its end when the program closes the writer, although the arena's threads have a
/// descriptor table of their own.
#[test]
fn an_arena_keeps_no_file_of_the_program_open() {
    for setup in setups("an_arena_keeps_no_file_of_the_program_open") {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let arena = quiet(setup).build().unwrap();
        drop(writer);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        drop(arena);
    }
}

#[test]
fn an_arena_keeps_no_standard_stream_open() {
    if let Some((setup, _)) = case() {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, PAGES);
        // SAFETY: closes the standard streams, as a daemon does.
        (0..3).for_each(|stream| assert_eq!(unsafe { libc::close(stream) }, 0));
        evict(&arena, PAGES);
        pages.verify();
        // Until the parent has read the streams to their end and kills this process.
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
    for setup in setups("an_arena_keeps_no_standard_stream_open") {
        let test = "an_arena_keeps_no_standard_stream_open";
        let mut command = common::child::child_command(test, &format!("{setup} "));
        let (mut reader, writer) = std::io::pipe().unwrap();
        command
            .stdin(std::process::Stdio::null())
            .stdout(writer.try_clone().unwrap())
            .stderr(writer);
        let mut child = command.spawn().unwrap();
        // The command holds the writing end.
        drop(command);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        let running = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(running, "{setup}: {said}");
    }
}

/// A write to a closed standard stream must not reach an arena's file.
#[test]
fn no_descriptor_has_the_number_of_a_standard_stream() {
    if let Some((setup, _)) = case() {
        // SAFETY: closes the standard streams, as a daemon does.
        (0..3).for_each(|stream| assert_eq!(unsafe { libc::close(stream) }, 0));
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, PAGES);
        evict(&arena, PAGES);
        for stream in 0..3 {
            // SAFETY: writes four bytes of a live string, to what should be closed.
            let written = unsafe { libc::write(stream, c"text".as_ptr().cast(), 4) };
            assert_eq!(written, -1, "stream {stream} is a file of the arena");
        }
        pages.verify();
        return;
    }
    in_children("no_descriptor_has_the_number_of_a_standard_stream", &[""]);
}

/// `fork`, `posix_spawn` and `exec` after all descriptors were closed, and in a child.
#[test]
fn fork_and_exec_work_after_all_descriptors_are_closed() {
    if let Some((setup, _)) = case() {
        let (arena, _) = arena(setup);
        let pages = Pages::filled(&arena, PAGES);
        evict(&arena, PAGES);
        let status = common::child::fork(|| {
            close_all();
            0
        });
        assert!(status.success());
        pages.verify();
        close_all();
        evict(&arena, PAGES);
        assert!(Command::new("/bin/true").status().unwrap().success());
        let status = common::child::fork(|| {
            let (arena, _) = self::arena(setup);
            let pages = Pages::filled(&arena, PAGES);
            evict(&arena, PAGES);
            close_all();
            work(&arena, pages);
            0
        });
        assert!(status.success(), "an arena of the child's own: {status:?}");
        pages.verify();
        return;
    }
    in_children("fork_and_exec_work_after_all_descriptors_are_closed", &[""]);
}

/// The threads of all arenas share a descriptor table. It must outlive each of these threads.
#[test]
fn arenas_are_built_and_dropped_while_descriptors_are_closed() {
    if let Some((setup, _)) = case() {
        let (first, _) = arena(setup);
        let pages = Pages::filled(&first, PAGES);
        for _ in 0..scaled(20, 3) {
            let (other, _) = arena(setup);
            let others = Pages::filled(&other, PAGES);
            evict(&other, PAGES);
            close_all();
            work(&other, others);
        }
        work(&first, pages);
        return;
    }
    in_children("arenas_are_built_and_dropped_while_descriptors_are_closed", &[""]);
}

#[test]
fn too_few_descriptors_are_an_error_with_a_remedy() {
    if let Some((setup, _)) = case() {
        let limit = libc::rlimit { rlim_cur: 16, rlim_max: 16 };
        // SAFETY: sets a limit of this process.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        let before = open_numbers();
        let few = quiet(setup).handler_threads(2).build().unwrap();
        let pages = Pages::filled(&few, PAGES);
        work(&few, pages);
        drop(few);
        if setup.fault_mode == FaultMode::Handler {
            let error = quiet(setup).handler_threads(64).build().unwrap_err();
            assert!(matches!(error, BuildError::TooManyDescriptors { .. }), "{error:?}");
            let said = error.to_string();
            assert!(said.contains("RLIMIT_NOFILE") && said.contains("handler_threads"), "{said}");
        }
        assert_eq!(open_numbers(), before, "nothing is left open");
        return;
    }
    in_children("too_few_descriptors_are_an_error_with_a_remedy", &[""]);
}

/// A sandbox that forbids `close_range(2)` leaves the arena's threads in the program's table.
#[test]
fn an_arena_works_without_a_descriptor_table_of_its_own() {
    if let Some((setup, _)) = case() {
        common::child::forbid(libc::SYS_close_range);
        let probe = thermocline::probe();
        let table = probe.capabilities().into_iter().find(|c| c.name() == "descriptor table");
        assert!(!table.unwrap().is_present());
        let (arena, numbers) = arena(setup);
        let pages = Pages::filled(&arena, PAGES);
        work(&arena, pages);
        arena.stop().unwrap();
        drop(arena);
        numbers.iter().for_each(|number| assert!(!is_open(*number), "{number} was left open"));
        return;
    }
    let test = "an_arena_works_without_a_descriptor_table_of_its_own";
    in_children(test, &[""]);
    let probe = thermocline::probe();
    let table = probe.capabilities().into_iter().find(|c| c.name() == "descriptor table").unwrap();
    assert!(table.is_present(), "{table}");
}
