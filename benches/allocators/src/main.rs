//! Compares an arena with the system's allocator, mimalloc and jemalloc: the same patterns of allocating
//! and freeing, in turn in one run.
//!
//! ```text
//! cargo run --release -p thermocline-allocators
//! cargo run --release -p thermocline-allocators -- --quick --patterns pairs,mixed
//! ```
//!
//! 1. [`sides`] has the allocators, [`contestant`] their names.
//! 2. [`patterns`] uses the allocators through [`blocks`], as programs do; [`compare`] takes the times.
//! 3. [`held`] counts the memory that the allocators hold.
//!
//! The arena's threads always run, so the system's allocator takes the locks that it omits in programs of
//! one thread.
//!
//! This is a package of its own, so that tests of the library need not compile the other allocators.

mod blocks;
mod compare;
mod contestant;
mod figures;
mod held;
mod options;
mod patterns;
mod sides;
mod sizes;

use crate::compare::{Sides, compare};
use crate::options::{HELP, Options, Task};
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::panic;
use std::process::{self, ExitCode};
use std::thread;

/// Why the program failed, in words.
type Trouble = Box<dyn Error>;

fn main() -> ExitCode {
    end_on_panic();
    let out = &mut io::stdout().lock();
    let done = Task::from_env().and_then(|task| match task {
        Task::Help => Ok(out.write_all(HELP.as_bytes())?),
        Task::Hold(load, kind, checked) => Ok(out.write_all(load.hold(kind, checked)?.as_bytes())?),
        Task::Compare(options) => run(&options, out),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            // If standard error is closed, there is no other place for the message.
            let _ = writeln!(io::stderr(), "allocators: {trouble}");
            ExitCode::from(2)
        }
    }
}

/// Ends the process if a thread panics, for instance because a byte was wrong. The other threads would
/// wait for it forever.
fn end_on_panic() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        report(info);
        process::exit(101)
    }));
}

/// Measures and prints.
fn run(options: &Options, out: &mut dyn Write) -> Result<(), Trouble> {
    print_environment(options, out)?;
    let mut sides = Sides::new();
    for kind in &options.sides {
        let side = kind.start(options.check)?;
        if let Some(about) = side.about() {
            writeln!(out, "# {kind}: {about}")?;
        }
        sides.push((*kind, side));
    }
    out.flush()?;
    let figures = compare(&sides, options)?;
    writeln!(out, "{}\n", figures::table(&figures, &options.sides))?;
    figures.iter().try_for_each(|figure| writeln!(out, "{figure}"))?;
    Ok(())
}

fn print_environment(options: &Options, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# kernel {}", setting("/proc/sys/kernel/osrelease"))?;
    writeln!(out, "# cpus {}", thread::available_parallelism().map_or(0, usize::from))?;
    let huge = |file| setting(&format!("/sys/kernel/mm/transparent_hugepage/{file}"));
    writeln!(out, "# huge pages {}", huge("enabled"))?;
    writeln!(out, "# huge pages of shared memory {}", huge("shmem_enabled"))?;
    writeln!(out, "# rounds {}, {} ms each", options.rounds, options.budget.as_millis())?;
    if options.check {
        writeln!(out, "# blocks are checked, which takes time too")?;
    }
    Ok(())
}

/// The contents of a kernel file, or "absent".
fn setting(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "absent".to_owned(), |text| text.trim().to_owned())
}
