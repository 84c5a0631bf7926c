//! Measures what watching memory costs a program, and how well it finds cold memory.
//!
//! ```text
//! cargo bench --bench tracking
//! cargo bench --bench tracking -- --quick --load hot,bursts
//! ```
//!
//! 1. [`watch`] lists the ways to watch, each an arena with other options. [`damon`] adds the kernel's DAMON.
//! 2. [`loads`] lists the ways in which a program touches memory. [`layout`] decides what each page holds,
//!    and [`touch`] runs a load.
//! 3. [`compare`] measures all ways to watch in turn, several times in one run. Each measurement builds an
//!    arena, fills it, runs the load and compares every word at the end.
//! 4. [`report`] prints medians. A ratio divides a throughput by that of `none` in the same alternation.
//!
//! How the benchmark measures accuracy, in the loads with a short cold age:
//!
//! - `evicted` is the figure of `Stats` at the end of the load.
//! - `again` counts the touches that brought a page back within one cold age of its eviction. In `zipf`
//!   the benchmark asks `mincore` before each touch whether the page is in memory. It counts the touch if
//!   the page is not, and the last touch is less than two cold ages ago: a page is evicted at an age of
//!   one cold age. In `one_per_region` the program touches its pages all the time, so `again` is
//!   `Stats::refaults`.
//! - `ideal_evicted` and `ideal_again` are the same two counts of a tracker with exact ages. The benchmark
//!   computes them from its own touches. Only `zipf` has them.
//! - `idle` counts the pages that the program has not touched for two cold ages. `idle_left` counts those
//!   of them that `mincore` finds in memory, which includes pages that readahead brought back.

mod checks;
#[path = "../common/mod.rs"]
mod common;
mod compare;
mod damon;
mod kernel;
mod layout;
mod loads;
mod options;
mod report;
mod touch;
mod watch;
mod zipf;

use crate::options::{HELP, Options, Task};
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

/// Why the program failed, in words.
type Trouble = Box<dyn Error>;

fn main() -> ExitCode {
    let done = Task::from_env().and_then(|task| match task {
        Task::Help => Ok(io::stdout().write_all(HELP.as_bytes()).map(|()| true)?),
        Task::SelfTest => checks::run().map(|()| true),
        Task::Compare(options) => run(&options, &mut io::stdout().lock()),
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(trouble) => {
            // If standard error is closed, there is no other place for the message.
            let _ = writeln!(io::stderr(), "tracking: {trouble}");
            ExitCode::from(2)
        }
    }
}

/// Measures and prints, and returns whether all bytes were right.
fn run(options: &Options, out: &mut dyn Write) -> Result<bool, Trouble> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let tracker = common::quiet().build()?.swapping();
    let processors = thread::available_parallelism().map_or(0, usize::from);
    writeln!(out, "# kernel {}, tracker {tracker}, processors {processors}", release.trim())?;
    if let Some(warning) = damon::disturbance() {
        writeln!(out, "# {warning}")?;
    }
    let wrong_pages = compare::compare(options, out)?;
    writeln!(out, "wrong_pages={wrong_pages}")?;
    Ok(wrong_pages == 0)
}
