//! Keeps the memory of a control group and of a zram device together below one limit, because the kernel
//! accounts for them separately. `scripts/compare-redis` runs it beside a server that swaps to the device.
//!
//! ```text
//! govern LIMIT MM_STAT USAGE MAXIMUM STATISTICS
//! ```
//!
//! LIMIT is in bytes. The other arguments are kernel files: the device's `mm_stat`, of which the third
//! figure is used, and the group's usage, maximum and statistics. For each line of standard input the
//! program writes one line about the time since the previous one: the peak of both together, how long it
//! was above the limit, and the number of measurements. It ends with its input.
//!
//! The group's maximum is the limit less the device's memory, which changes as pages are swapped.
//!
//! The program reads the statistics only to update them: the kernel decides by them which pages to
//! reclaim, and updates them every two seconds or on a read. A small group with busy swap runs out of
//! inactive pages much earlier. The kernel's figures then still show inactive pages, so it deactivates
//! none, finds no page to reclaim, and kills the group's process.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

type BoxError = Box<dyn Error + Send + Sync>;

/// The time between two measurements.
const PAUSE: Duration = Duration::from_micros(500);

/// The value before the first measurement.
const UNKNOWN: u64 = u64::MAX;

/// Smaller changes do not change the group's maximum.
const TRIFLE: u64 = 64 << 10;

#[derive(Debug, Default)]
struct Seen {
    /// Of the group and the device together.
    peak: u64,
    device_peak: u64,
    over: Duration,
    looks: u64,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A failure of standard error cannot be reported.
            let _ = writeln!(io::stderr(), "govern: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [limit, device, usage, maximum, statistics] = &arguments[..] else {
        return Err("govern LIMIT MM_STAT USAGE MAXIMUM STATISTICS".into());
    };
    let limit: u64 = limit.parse()?;
    let [device, usage, statistics] = [device, usage, statistics].map(File::open);
    let (device, usage, statistics) = (device?, usage?, statistics?);
    let maximum = OpenOptions::new().write(true).open(maximum)?;
    // Memory can exceed the maximum by about a hundredth while the kernel applies it.
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
                // The write returns when the kernel has reclaimed the excess, or has given up.
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

fn answer(seen: &Mutex<Seen>) -> Result<(), BoxError> {
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

/// Reads a kernel file, whose contents are generated at each read.
fn read(file: &File) -> io::Result<String> {
    let mut bytes = [0; 4096];
    let len = file.read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
}

fn figure(file: &File, place: usize) -> Option<u64> {
    read(file).ok()?.split_whitespace().nth(place)?.parse().ok()
}
