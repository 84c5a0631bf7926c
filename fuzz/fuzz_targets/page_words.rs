//! Two threads in one meet at pages in any order: each step that the states of `src/table/word.rs`
//! allow has the outcome that they say, and all other pages stay as they are.
//!
//! A thread looks at a page and acts on what it has seen, however long ago that was. What it owns it
//! leaves by one of the edges that there are. One of the two is the evictor too.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "page_words/model.rs"]
mod model;
#[path = "../../src/prim/mod.rs"]
#[allow(dead_code, unused_imports, reason = "others use more of it")]
mod prim;
#[allow(dead_code, reason = "others use more of it")]
mod program;
#[path = "../../src/stats/mod.rs"]
#[allow(dead_code, unused_imports, reason = "others use more of it")]
mod stats;
#[path = "../../src/sys/mod.rs"]
#[allow(dead_code, unused_imports, reason = "others use more of it")]
mod sys;
#[path = "../../src/table/mod.rs"]
#[allow(dead_code, unused_imports, reason = "others use more of it")]
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
