//! A machine of the test's own: the test may disturb all of it.

use super::TEST;
use super::common::blocks::Random;
use super::common::{expected, skip_part};
use super::scene::{Scene, part};
use std::fmt;
use std::fs;
use std::path::PathBuf;

pub fn is_ours() -> bool {
    std::env::var_os("THERMOCLINE_CHAOS_MACHINE").is_some()
}

/// The number after `name` at the start of a line of one of the kernel's tables.
fn figure(table: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(table).unwrap();
    let mut lines = text.lines().map(str::split_whitespace);
    let mut line = lines.find_map(|mut words| (words.next() == Some(name)).then_some(words))?;
    line.next()?.parse().ok()
}

/// Bytes that a process can allocate before the kernel kills one.
pub fn available_bytes() -> usize {
    figure("/proc/meminfo", "MemAvailable:").map_or(0, |kib| kib as usize) << 10
}

fn has_swap() -> bool {
    fs::read_to_string("/proc/swaps").unwrap().lines().count() > 1
}

/// `memory.reclaim` of our control group, if we have one.
fn reclaim_file() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let file = PathBuf::from("/sys/fs/cgroup").join(group).join("memory.reclaim");
    file.exists().then_some(file)
}

/// Makes the kernel reclaim, move and offline pages, mostly of the arena.
pub fn disturb(scene: Scene<'_>, random: Random) -> u64 {
    if !is_ours() {
        return 0;
    }
    let reclaim = reclaim_file();
    // Each of them takes a page away from the machine.
    let mut offlined = 0;
    scene.repeat(random, 30_000, |random| match random.below(8) {
        0 => fs::write("/proc/sys/vm/compact_memory", "1").unwrap(),
        1 => fs::write("/proc/sys/vm/drop_caches", "3").unwrap(),
        2..=5 => {
            if let Some(file) = &reclaim {
                // The write fails if the kernel finds less to reclaim.
                let _ = fs::write(file, (1 + random.below(1 << 20)).to_string());
            }
        }
        _ if offlined < 200 => {
            let (_, range) = part(random);
            // SAFETY: moves a page's bytes to another physical page.
            unsafe { libc::madvise(range.cast_mut().cast(), 4096, libc::MADV_SOFT_OFFLINE) };
            offlined += 1;
        }
        _ => {}
    })
}

/// The kernel's counts of moved and swapped pages since the machine started.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    swapped_out: u64,
    swapped_in: u64,
    migrated: u64,
    compacted: u64,
    huge: u64,
}

impl Counts {
    pub fn now() -> Self {
        let sum = |names: &[&str]| {
            names.iter().map(|name| figure("/proc/vmstat", name).unwrap_or(0)).sum()
        };
        Self {
            swapped_out: sum(&["pswpout"]),
            swapped_in: sum(&["pswpin"]),
            migrated: sum(&["pgmigrate_success"]),
            compacted: sum(&["compact_migrate_scanned"]),
            huge: sum(&["thp_fault_alloc", "thp_collapse_alloc", "thp_file_alloc"]),
        }
    }

    /// The difference between now and `self`.
    pub fn since(self) -> Self {
        let now = Self::now();
        Self {
            swapped_out: now.swapped_out - self.swapped_out,
            swapped_in: now.swapped_in - self.swapped_in,
            migrated: now.migrated - self.migrated,
            compacted: now.compacted - self.compacted,
            huge: now.huge - self.huge,
        }
    }

    fn was_swapped(self) -> bool {
        self.swapped_out > 0 && self.swapped_in > 0
    }

    fn was_moved(self) -> bool {
        self.compacted > 0 && self.migrated > 0
    }

    /// Whether the kernel moved and swapped pages, if the machine is the test's own.
    pub fn is_enough(self) -> bool {
        !is_ours() || ((self.was_swapped() || !has_swap()) && self.was_moved())
    }

    /// Panics if the machine is the test's own and the kernel moved or swapped too little.
    pub fn assert_enough(self) {
        if !is_ours() {
            return;
        }
        if has_swap() {
            assert!(self.was_swapped(), "too little was swapped: {self:?}");
        } else {
            skip_part(TEST, "swap", "the kernel has nothing to swap to");
        }
        if expected("swap") == Some(true) {
            assert!(reclaim_file().is_some(), "no control group to reclaim from");
        }
        assert!(self.was_moved(), "too little was moved: {self:?}");
        if self.huge == 0 {
            skip_part(TEST, "thp", "the kernel made no huge page");
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { swapped_out, swapped_in, migrated, compacted, huge } = self;
        write!(f, "swapped_out={swapped_out} swapped_in={swapped_in} migrated={migrated} ")?;
        write!(f, "compacted={compacted} huge={huge}")
    }
}
