//! Compares an arena with the kernel's own swap to zram: the same data and the same order of touches. It
//! measures the two sides in turn, in one run.
//!
//! ```text
//! cargo bench --bench vs_kernel
//! cargo bench --bench vs_kernel -- --quick --data pointers
//! scripts/boot --bench 7.3
//! ```
//!
//! 1. The [`sides`] are private anonymous memory that `MADV_PAGEOUT` swaps to a zram device
//!    ([`keeper`]), and arenas that `evict_now` empties. Both hold the same [`data`].
//! 2. [`compare`] evicts and touches both again and again, and [`measure`] takes the times.
//! 3. At the end the benchmark compares every byte.
//!
//! Both sides are memory of one process in pages of 4 KiB. The benchmark writes every page before each
//! eviction, so that neither side can reuse a stored copy.

#[path = "../common/mod.rs"]
mod common;
mod compare;
mod data;
mod figures;
mod keeper;
mod kernel;
mod measure;
mod options;
mod sides;

use crate::common::{MODES, PAGE};
use crate::compare::{Outcome, Sides, compare};
use crate::options::{HELP, Options, Task};
use crate::sides::{Evicting, Kernel};
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
        Task::KeepSwap(bytes) => keeper::keep(bytes).map(|()| true),
        Task::Compare(options) => run(&options, &mut io::stdout().lock()),
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(trouble) => {
            // If standard error is closed, there is no other place for the message.
            let _ = writeln!(io::stderr(), "vs_kernel: {trouble}");
            ExitCode::from(2)
        }
    }
}

/// Measures and prints, and returns whether all bytes were right.
fn run(options: &Options, out: &mut dyn Write) -> Result<bool, Trouble> {
    let pages = (options.mib << 20) / PAGE;
    print_environment(options, out)?;
    let arena = |mode| Evicting::new(pages, mode, options);
    let mut sides = Sides { kernel: None, arenas: Vec::new() };
    match kernel_side(pages, options) {
        Ok(kernel) => {
            writeln!(out, "# zram with {}, before all other swap", kernel.algorithm())?;
            sides.kernel = Some(kernel);
        }
        Err(reason) => writeln!(out, "# no comparison with zram: {reason}")?,
    }
    for mode in MODES {
        match arena(mode) {
            Ok(side) => {
                writeln!(
                    out,
                    "# arena {mode}, {}, tracker {}",
                    options.backing,
                    side.arena.swapping()
                )?;
                sides.arenas.push((mode, side));
            }
            Err(reason) => writeln!(out, "# no arena {mode}: {reason}")?,
        }
    }
    if sides.arenas.is_empty() {
        return Err("there is no arena to measure".into());
    }
    out.flush()?;
    let outcome = compare(&sides, pages, options.data, options.alternations)?;
    let Outcome { figures, wrong_pages } = outcome;
    write!(out, "{figures}")?;
    writeln!(out, "wrong_pages {wrong_pages} pages")?;
    Ok(wrong_pages == 0)
}

fn kernel_side(pages: usize, options: &Options) -> Result<Kernel, Trouble> {
    if options.no_kernel {
        return Err("--no-kernel".into());
    }
    if setting("/sys/module/zswap/parameters/enabled") == "Y" {
        return Err("zswap is on and would stand before the device".into());
    }
    Kernel::new(pages, options.data)
}

fn print_environment(options: &Options, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# kernel {}", setting("/proc/sys/kernel/osrelease"))?;
    writeln!(out, "# cpus {}", thread::available_parallelism().map_or(0, usize::from))?;
    writeln!(out, "# vm.page-cluster {}", setting("/proc/sys/vm/page-cluster"))?;
    writeln!(out, "# zswap {}", setting("/sys/module/zswap/parameters/enabled"))?;
    let huge = |file| setting(&format!("/sys/kernel/mm/transparent_hugepage/{file}"));
    writeln!(out, "# huge pages {}, refused for the memory that is swapped", huge("enabled"))?;
    writeln!(out, "# huge pages of shared memory {}", huge("shmem_enabled"))?;
    writeln!(out, "# data {}, {} MiB on each side", options.data.name(), options.mib)?;
    writeln!(out, "# alternations {}", options.alternations)?;
    writeln!(out, "# a look at the clock {:.0} ns", measure::clock_overhead())
}

/// The contents of a kernel file, or "absent".
fn setting(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "absent".to_owned(), |text| text.trim().to_owned())
}
