//! A program that checks every word that it reads, while many things disturb it: limits change, the
//! kernel reclaims, other work keeps the processors busy, signals arrive, the process is forked and stopped.
//!
//! `THERMOCLINE_CHAOS_SECONDS=3600 cargo test --release --test chaos -- --nocapture` runs for an hour.
//! `THERMOCLINE_CHAOS_SEED` repeats the operations of each thread, but not their timing. With
//! `THERMOCLINE_CHAOS_MACHINE` the test may disturb the whole machine.

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
