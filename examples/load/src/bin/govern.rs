//! Keeps what a control group uses and what a zram device holds for it below one limit: the kernel
//! counts the two apart. `scripts/compare-redis` runs it beside a server that swaps to the device.
//!
//! ```text
//! govern LIMIT MM_STAT USAGE MAXIMUM STATISTICS
//! ```
//!
//! LIMIT is in bytes; the others are files of the kernel: the device's figures, of which the third is
//! taken, and what the group uses, may use and does. For each line of standard input it writes one
//! line: the most that both took, for how long that was more than the limit, and how often it looked,
//! since the line before. It ends with its input.
//!
//! The group may use what the device leaves of the limit, which changes as pages come and go.
//!
//! Statistics are read, and not looked at, because the kernel decides by them what to reclaim, and
//! brings them up to date every two seconds or when they are read. A small group with busy swap has no
//! inactive pages left long before that; the kernel believes that it has, deactivates none, finds
//! nothing to reclaim, and kills.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

type Trouble = Box<dyn Error + Send + Sync>;

/// Between two looks.
const PAUSE: Duration = Duration::from_micros(500);

/// Before the first look.
const UNKNOWN: u64 = u64::MAX;

/// Less is no reason to change what the group may use.
const TRIFLE: u64 = 64 << 10;

#[derive(Debug, Default)]
struct Seen {
    /// Of group and device together.
    peak: u64,
    device_peak: u64,
    over: Duration,
    looks: u64,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            // Where this cannot be written, there is nobody to read it either.
            let _ = writeln!(io::stderr(), "govern: {trouble}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), Trouble> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [limit, device, usage, maximum, statistics] = &arguments[..] else {
        return Err("govern LIMIT MM_STAT USAGE MAXIMUM STATISTICS".into());
    };
    let limit: u64 = limit.parse()?;
    let [device, usage, statistics] = [device, usage, statistics].map(File::open);
    let (device, usage, statistics) = (device?, usage?, statistics?);
    let maximum = OpenOptions::new().write(true).open(maximum)?;
    // A change is a matter of a hundredth while the kernel is asked for it.
    let budget = limit - limit / 128;

    let seen = Mutex::new(Seen::default());
    let held = AtomicU64::new(UNKNOWN);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut before = Instant::now();
            while !over.load(Ordering::Relaxed) {
                let _ = read(&statistics);
                if let (Some(device), Some(usage)) = (figure(&device, 2), figure(&usage, 0)) {
                    held.store(device, Ordering::Relaxed);
                    let now = Instant::now();
                    note(
                        &seen,
                        device,
                        usage,
                        if device + usage > limit { now - before } else { Duration::ZERO },
                    );
                    before = now;
                }
                thread::sleep(PAUSE);
            }
        });
        scope.spawn(|| {
            let mut last = limit;
            while !over.load(Ordering::Relaxed) {
                let held = held.load(Ordering::Relaxed);
                let wanted = budget.saturating_sub(held);
                // It returns when the kernel has reclaimed what is over it, or has given up.
                if held != UNKNOWN
                    && wanted.abs_diff(last) > TRIFLE
                    && maximum.write_all_at(wanted.to_string().as_bytes(), 0).is_ok()
                {
                    last = wanted;
                }
                thread::sleep(PAUSE);
            }
        });
        let result = answer(&seen);
        over.store(true, Ordering::Relaxed);
        result
    })
}

fn answer(seen: &Mutex<Seen>) -> Result<(), Trouble> {
    for line in io::stdin().lock().lines() {
        line?;
        let seen = std::mem::take(&mut *seen.lock().map_err(|_| "a thread has panicked")?);
        let Seen { peak, device_peak, over, looks } = seen;
        let over = over.as_millis();
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "peak_bytes={peak} device_peak_bytes={device_peak} over_ms={over} looks={looks}"
        )?;
        out.flush()?;
    }
    Ok(())
}

fn note(seen: &Mutex<Seen>, device: u64, usage: u64, over: Duration) {
    if let Ok(mut seen) = seen.lock() {
        seen.peak = seen.peak.max(device + usage);
        seen.device_peak = seen.device_peak.max(device);
        seen.over += over;
        seen.looks += 1;
    }
}

/// The whole of a file that is made anew when it is read.
fn read(file: &File) -> io::Result<String> {
    let mut bytes = [0; 4096];
    let len = file.read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
}

fn figure(file: &File, place: usize) -> Option<u64> {
    read(file).ok()?.split_whitespace().nth(place)?.parse().ok()
}
