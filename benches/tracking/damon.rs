//! DAMON, the kernel's own watcher (`Documentation/admin-guide/mm/damon/usage.rst`).
//!
//! The machine may use DAMON for itself, for example to reclaim memory. So the benchmark changes nothing
//! unless DAMON's interface is empty: it begins by reading `nr_kdamonds`, and stops if that is not 0.

use crate::Trouble;
use crate::kernel::task_time;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

const KDAMONDS: &str = "/sys/kernel/mm/damon/admin/kdamonds";

/// A warning if the machine uses DAMON, which clears accessed bits too.
pub(crate) fn disturbance() -> Option<String> {
    let count = get("nr_kdamonds").ok().filter(|count| count != "0")?;
    Some(format!("WARNING: {count} kdamonds of this machine may clear accessed bits meanwhile"))
}

/// DAMON watches this process, with its default intervals, until this value is dropped.
#[derive(Debug)]
pub(crate) struct Damon {
    /// The kernel thread's folder in /proc.
    task: PathBuf,
    _switched_on: SwitchedOn,
}

impl Damon {
    pub(crate) fn start() -> Result<Self, Trouble> {
        let count = fs::read_to_string(format!("{KDAMONDS}/nr_kdamonds"));
        match count.map_err(|e| format!("DAMON's interface: {e}"))?.trim() {
            "0" => {}
            count => return Err(format!("this machine uses DAMON already ({count})").into()),
        }
        set("nr_kdamonds", "1")?;
        let switched_on = SwitchedOn;
        set("0/contexts/nr_contexts", "1")?;
        let operations = get("0/contexts/0/avail_operations")?;
        if !operations.split_whitespace().any(|name| name == "vaddr") {
            return Err(format!("DAMON has no vaddr operations, only {operations}").into());
        }
        set("0/contexts/0/operations", "vaddr")?;
        set("0/contexts/0/monitoring_attrs/intervals/sample_us", "5000")?;
        set("0/contexts/0/monitoring_attrs/intervals/aggr_us", "100000")?;
        set("0/contexts/0/targets/nr_targets", "1")?;
        set("0/contexts/0/targets/0/pid_target", &process::id().to_string())?;
        set("0/state", "on")?;
        let pid = get("0/pid")?;
        if pid.parse::<u32>().is_err() {
            return Err(format!("DAMON's thread has the number {pid}").into());
        }
        Ok(Self { task: Path::new("/proc").join(pid), _switched_on: switched_on })
    }

    /// Processor time of DAMON's thread.
    pub(crate) fn time(&self) -> Result<Duration, Trouble> {
        Ok(task_time(&self.task).map_err(|e| format!("DAMON's thread: {e}"))?)
    }
}

/// The one kdamond, which this process has made. Its drop removes the kdamond.
#[derive(Debug)]
struct SwitchedOn;

impl Drop for SwitchedOn {
    fn drop(&mut self) {
        // The kdamond may not be on.
        let _ = set("0/state", "off");
        // The kernel refuses with EBUSY until the thread has ended.
        let deadline = Instant::now() + Duration::from_secs(5);
        while set("nr_kdamonds", "0").is_err() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn get(file: &str) -> Result<String, Trouble> {
    let text = fs::read_to_string(format!("{KDAMONDS}/{file}"));
    Ok(text.map_err(|e| format!("DAMON's {file}: {e}"))?.trim().to_owned())
}

fn set(file: &str, value: &str) -> Result<(), Trouble> {
    let path = format!("{KDAMONDS}/{file}");
    fs::write(path, value).map_err(|e| format!("DAMON's {file} = {value}: {e}").into())
}
