//! A program that allocates, grows, shrinks and frees in all lanes. No two blocks share a byte, the heap
//! releases no page of a block, and clean blocks are zero. `Heap::check` finds no error after any step.
//!
//! The pages have no memory. The target only records whether they would hold bytes, so a step is fast. It
//! also evicts pages, and for a while has no memory or refuses to take memory back.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/alloc/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other targets use more of it")]
mod alloc;
#[path = "allocator/blocks.rs"]
mod blocks;
#[path = "allocator/pages.rs"]
mod pages;
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

use blocks::Blocks;
use program::Program;

/// Steps that a thread takes before it ends.
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
