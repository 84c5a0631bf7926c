//! What the kernel knows: faults, processor time, memory.

#![allow(unsafe_code)]

use crate::Trouble;
use crate::common::PAGE;
use memmap2::{Advice, MmapMut};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Minor faults of this thread since its start.
pub(crate) fn minor_faults() -> io::Result<u64> {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is valid for the one structure that the kernel writes.
    checked(unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) })?;
    // SAFETY: the structure has integers only, which were zero, or were written by the kernel.
    Ok(unsafe { usage.assume_init() }.ru_minflt.cast_unsigned())
}

/// Whether a page of an arena is in memory, mapped or not. The arena's memory is a memfd.
pub(crate) fn resident(page: &[AtomicU64]) -> io::Result<bool> {
    let mut here = 0;
    let start = page.as_ptr().cast_mut().cast();
    // SAFETY: mincore reads no memory at `start`, and writes one byte for the one page.
    checked(unsafe { libc::mincore(start, PAGE, &raw mut here) })?;
    Ok(here & 1 != 0)
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Processor time of the library's threads.
pub(crate) fn library_time() -> io::Result<Duration> {
    let mut sum = Duration::ZERO;
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        // A thread may end meanwhile.
        let Ok(name) = fs::read_to_string(task.join("comm")) else { continue };
        if name.starts_with("thermo-") {
            sum += task_time(&task).unwrap_or_default();
        }
    }
    Ok(sum)
}

/// Processor time of a task, from its folder in /proc.
pub(crate) fn task_time(task: &Path) -> io::Result<Duration> {
    if let Ok(text) = fs::read_to_string(task.join("schedstat")) {
        let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
        return nanos.map(Duration::from_nanos).ok_or_else(|| io::ErrorKind::InvalidData.into());
    }
    // The kernel has no schedstat without CONFIG_SCHED_INFO.
    let text = fs::read_to_string(task.join("stat"))?;
    let ticks = user_and_system_ticks(&text).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Duration::from_millis(10 * ticks))
}

/// The sum of utime and stime, in ticks of 10 ms, from the text of `/proc/PID/stat`.
pub(crate) fn user_and_system_ticks(stat: &str) -> Option<u64> {
    // The name in parentheses may contain spaces. The first field behind it has number 3.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(14 - 3).map(|field| field.parse().ok());
    let (user, system): (Option<u64>, Option<u64>) = (times.next()?, times.next()?);
    Some(user? + system?)
}

/// Bytes of memory that programs can get without swapping.
pub(crate) fn available_memory() -> Result<f64, Trouble> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.ok_or("/proc/meminfo has no MemAvailable")? * 1024.0)
}

/// Anonymous memory in small pages, which belongs to no arena.
pub(crate) fn foreign_memory(gib: f64) -> Result<Option<MmapMut>, Trouble> {
    if gib == 0.0 {
        return Ok(None);
    }
    let mut memory = MmapMut::map_anon((gib * f64::from(1 << 30)) as usize)?;
    match memory.advise(Advice::NoHugePage) {
        // A kernel without huge pages rejects the advice with EINVAL, and does not need it.
        Err(e) if e.raw_os_error() != Some(libc::EINVAL) => return Err(e.into()),
        _ => {}
    }
    memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    Ok(Some(memory))
}
