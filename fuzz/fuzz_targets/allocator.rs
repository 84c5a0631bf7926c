//! A program that allocates, grows, shrinks and frees in all lanes: no two blocks share a byte, no page
//! of a block is taken from under it, what is said to be zero is, and the heap's walk through itself
//! finds nothing wrong after any step.
//!
//! There is no memory, only what the pages would hold, so that a step is soon done. Pages that are
//! free are evicted meanwhile, and there may be no memory for a while, or none may be taken back.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/alloc/mod.rs"]
#[allow(dead_code, unused_imports, reason = "others use more of it")]
mod alloc;
#[path = "allocator/blocks.rs"]
mod blocks;
#[path = "allocator/pages.rs"]
mod pages;
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

use blocks::Blocks;
use program::Program;

/// Steps that are taken in a thread that ends thereafter.
const ELSEWHERE: usize = 8;

fuzz_target!(|bytes: &[u8]| {
    let mut program = Program::new(bytes);
    let mut blocks = Blocks::new(program.byte());
    while let Some(step) = program.step() {
        if step != u8::MAX {
            blocks.step(step, &mut program);
            continue;
        }
        let mut go_on = || {
            for _ in 0..ELSEWHERE {
                let Some(step) = program.step() else { return };
                blocks.step(step, &mut program);
            }
        };
        std::thread::scope(|scope| scope.spawn(&mut go_on).join().unwrap());
    }
    blocks.end();
});
