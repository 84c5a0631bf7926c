//! The kernel's figures about this process, and its limits and free memory.

#![allow(unsafe_code)]

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;

/// Resident bytes; 0 if `/proc` is not mounted.
pub fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// The machine's memory in bytes; 0 if `/proc` is not mounted.
pub fn system_bytes() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = kibibytes.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}

/// Seconds of CPU time in user code and in the kernel.
pub fn cpu_seconds() -> (f64, f64) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may contain spaces. Fields 14 and 15 are the twelfth and thirteenth after it.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut ticks = fields.split_whitespace().skip(11).map_while(|field| field.parse::<f64>().ok());
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    let mut next = || ticks.next().unwrap_or(0.0) / per_second;
    (next(), next())
}

/// Descriptors that the server keeps for itself.
const OWN_DESCRIPTORS: u64 = 64;

/// Raises the limit of descriptors to allow `clients` connections. Returns the number that it allows.
pub fn allow_clients(clients: usize) -> usize {
    let wanted = clients as u64 + OWN_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    let (current, most) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    if current >= wanted {
        return clients;
    }
    // A privileged process can raise the hard limit too.
    let attempts = [(wanted, most.max(wanted)), (wanted.min(most), most)];
    let set = attempts.into_iter().find(|&(current, maximum)| {
        let limit = Rlimit { current: Some(current), maximum: Some(maximum) };
        setrlimit(Resource::Nofile, limit).is_ok()
    });
    let current = set.map_or(current, |(current, _)| current);
    usize::try_from(current.saturating_sub(OWN_DESCRIPTORS)).unwrap_or(clients).clamp(1, clients)
}

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    fn malloc_trim(pad: usize) -> i32;
}

/// Gives free memory of the heap back to the system. Takes some milliseconds for millions of freed blocks, in
/// which other threads that allocate wait.
pub fn trim_heap() {
    // Other C libraries give memory back by themselves.
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim(3)` has no preconditions, and glibc allows it in threads.
    unsafe {
        malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a process of its own, because other tests of this process take memory meanwhile.
    #[test]
    fn freed_blocks_are_given_back() {
        const NAME: &str = "process::tests::freed_blocks_are_given_back";
        const CHILD: &str = "THERMOCLINE_TEST_CHILD";
        if std::env::var_os(CHILD).is_none() {
            let program = std::env::current_exe().unwrap();
            let mut child = std::process::Command::new(program);
            let output = child.args(["--exact", NAME, "--nocapture"]).env(CHILD, "1").output();
            let output = output.unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
            return;
        }
        let mut blocks: Vec<Box<[u8; 64]>> = (0..1_000_000).map(|_| Box::new([1; 64])).collect();
        // The last block keeps the end of the heap in use.
        blocks.drain(..999_999);
        let before = resident_bytes();
        trim_heap();
        let after = resident_bytes();
        assert!(before > 60 << 20 && after < 40 << 20, "from {before} to {after}");
        drop(blocks);
    }

    #[test]
    fn figures_are_read() {
        assert!(resident_bytes() > 100_000 && system_bytes() > resident_bytes());
        let (user, system) = cpu_seconds();
        assert!(user >= 0.0 && system >= 0.0);
    }
}
