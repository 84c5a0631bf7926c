//! Makes an arena the allocator of every program that is linked with this.
//!
//! Every byte that the program allocates comes from it, and all that is not being touched is evicted
//! every millisecond. When the program ends, a line that says what the arena has done is added to
//! the file that `THERMOCLINE_SUITES_LOG` names.

use std::fs::File;
use std::io::Write;
use std::time::Duration;
use thermocline::{Arena, ArenaAlloc};

#[global_allocator]
static GLOBAL: ArenaAlloc = ArenaAlloc::lazy(1, zealous);

/// None where system calls would fail now and then, and with them tests that are none the worse for
/// the arena; the log has no line then.
fn zealous() -> Option<Arena> {
    let millisecond = Duration::from_millis(1);
    let builder = Arena::builder().scan_interval(millisecond).cold_age(millisecond).zeal();
    let arena = builder.build().ok().filter(Arena::serves_system_calls)?;
    // SAFETY: a function that may be called while the process ends.
    unsafe { libc::atexit(at_exit) };
    Some(arena)
}

extern "C" fn at_exit() {
    let (Some(arena), Some(path)) = (GLOBAL.arena(), std::env::var_os("THERMOCLINE_SUITES_LOG"))
    else {
        return;
    };
    let name = std::env::args_os().next().unwrap_or_default();
    let stats = arena.stats();
    let line = format!(
        "program={} evicted={} refaults={} lost={}\n",
        name.display(),
        stats.evicted_pages,
        stats.refaults,
        stats.lost_bytes
    );
    // A line that is missing is noticed by who reads them.
    let _ = File::options()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
}
