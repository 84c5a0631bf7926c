//! A program that checks every word it reads, while everything goes on around it that can: limits
//! change, the kernel reclaims, processors are busy elsewhere, signals arrive, the process is forked and
//! stopped.
//!
//! `THERMOCLINE_CHAOS_SECONDS=3600 cargo test --release --test chaos -- --nocapture` goes on for so long,
//! `THERMOCLINE_CHAOS_SEED` repeats what each piece did, though not when. With `THERMOCLINE_CHAOS_MACHINE`
//! the machine is the test's own, and is disturbed as a whole.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs, unsafe_code)]
#![allow(clippy::print_stdout, reason = "the lines at the end are the result")]

#[path = "../common/mod.rs"]
mod common;

mod advice;
mod case;
mod descriptors;
mod forks;
mod guard;
mod holes;
mod interrupts;
mod knobs;
mod machine;
mod options;
mod owners;
mod pressure;
mod run;
mod scene;
mod standing;
mod starvation;
mod tasks;
mod witness;

use case::Case;
use common::child::child_case;
use common::setups;

const TEST: &str = "no_word_is_wrong_under_disturbances";

#[test]
fn no_word_is_wrong_under_disturbances() {
    if let Some(case) = child_case() {
        return run::run(&Case::parse(&case));
    }
    let setups = setups(TEST);
    let (time, seed) = (case::time(setups.len()), case::seed());
    for setup in setups {
        println!("{}", guard::watch(&Case { setup, seed, time }));
    }
}
