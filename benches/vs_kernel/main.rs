//! An arena beside the kernel's own swap to zram: the same data, the same order of touches, taking
//! turns in one run.
//!
//! ```text
//! cargo bench --bench vs_kernel
//! cargo bench --bench vs_kernel -- --quick --data pointers
//! scripts/boot --bench 7.3
//! ```
//!
//! 1. [`sides`] are private anonymous memory that `MADV_PAGEOUT` sends to a zram device
//!    ([`keeper`]), and arenas that `evict_now` empties. Both hold the same [`data`].
//! 2. [`compare`] sends both away and touches both, again and again, and [`measure`] takes the times.
//! 3. Every byte is compared at the end.
//!
//! Both sides are one process's memory in pages of 4 KiB. Before each eviction every page is
//! written, so that neither side can get by with a copy that it still has.

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

/// What kept the program from doing its job, in words.
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
            // Where this cannot be written, there is nobody to read it either.
            let _ = writeln!(io::stderr(), "vs_kernel: {trouble}");
            ExitCode::from(2)
        }
    }
}

/// Measures, prints, and says whether all bytes were right.
fn run(options: &Options, out: &mut dyn Write) -> Result<bool, Trouble> {
    let pages = (options.mib << 20) / PAGE;
    say_what_matters(options, out)?;
    let arena = |mode| Evicting::new(pages, options.data, mode, options.tracker);
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
                writeln!(out, "# arena {mode}, tracker {}", side.arena.swapping())?;
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

fn say_what_matters(options: &Options, out: &mut dyn Write) -> io::Result<()> {
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

/// What a file of the kernel's says, or that there is none.
fn setting(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "absent".to_owned(), |text| text.trim().to_owned())
}
