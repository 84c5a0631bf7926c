//! The life of a process with an arena: programs that it runs, daemons, its end, `dlclose`, core dumps and
//! debuggers. SAFETY.md documents the results.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs, unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

mod daemon;
mod debugger;
mod dump;
mod end;
mod exec;
mod robust;
mod unload;

use common::child::{child_case, in_child, text};
use common::pages::Pages;
use common::{Setup, quiet, setups};
use std::io::Write;
use std::thread;
use std::time::Duration;
use thermocline::{Arena, Builder};

const PAGES: usize = 300;

/// Evicts every untouched page, repeatedly.
fn zeal(setup: Setup) -> Builder {
    let interval = Duration::from_millis(1);
    quiet(setup).reserve(64 << 20).scan_interval(interval).cold_age(interval).zeal(true)
}

/// An arena and its pages. Two threads touch the pages while they are evicted, until the process ends.
fn busy(setup: Setup) -> (&'static Arena, Pages<'static>) {
    let arena: &Arena = Box::leak(Box::new(zeal(setup).build().unwrap()));
    let pages = Pages::filled(arena, PAGES);
    for _ in 0..2 {
        thread::spawn(move || {
            loop {
                pages.verify();
            }
        });
    }
    common::pages::eventually(arena, "some eviction", |stats| stats.refaults > 20);
    (arena, pages)
}

/// The setup of this process, if it is a child.
fn setup_of_child() -> Option<Setup> {
    child_case().map(|case| Setup::parse(case.split(' ').next().unwrap()))
}

/// Runs `test` in a child for each setup, where it must succeed. Repeats a child's SKIPPED line, because the
/// child's output is captured.
fn in_each_setup(test: &str) {
    let mut skipped = None;
    for setup in setups(test) {
        let output = in_child(test, &setup.to_string());
        let text = text(&output);
        assert!(output.status.success(), "{setup}: {:?} {text}", output.status);
        skipped =
            skipped.or(text.lines().find(|line| line.starts_with("SKIPPED ")).map(str::to_owned));
    }
    if let Some(line) = skipped {
        std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// The rest of the child's case.
fn way_of_child() -> String {
    let case = child_case().unwrap();
    case.split_once(' ').map(|(_, way)| way.to_owned()).unwrap()
}
