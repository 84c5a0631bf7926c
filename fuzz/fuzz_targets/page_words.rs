//! Two simulated threads work on the same pages in any order. Each transition in the table of
//! `src/table/word.rs` has the outcome that the table states, and no other page changes.
//!
//! A thread reads a page word, and later acts on what it read, however old that is. It leaves a page that
//! it owns by one of the table's transitions. One of the two threads is the evictor too.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "page_words/model.rs"]
mod model;
#[path = "../../src/prim/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other targets use more of it")]
mod prim;
#[allow(dead_code, reason = "other targets use more of it")]
mod program;
#[path = "../../src/stats/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other targets use more of it")]
mod stats;
#[path = "../../src/sys/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other targets use more of it")]
mod sys;
#[path = "../../src/table/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other targets use more of it")]
mod table;
#[path = "page_words/threads.rs"]
mod threads;

use program::Program;
use threads::Threads;

fuzz_target!(|bytes: &[u8]| {
    let mut program = Program::new(bytes);
    let mut threads = Threads::new();
    while let Some(step) = program.step() {
        threads.step(step.into());
        threads.compare();
    }
    threads.end();
    threads.compare();
});
