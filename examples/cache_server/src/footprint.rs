//! The process's memory apart from its arena's pages.

use std::fs::File;
use std::io::{Read, Seek};

/// Reads `/proc/self/status` (`proc_pid_status(5)`).
#[derive(Debug, Default)]
pub struct Footprint {
    status: Option<File>,
    text: String,
}

impl Footprint {
    /// Bytes of anonymous memory, of page tables, and of the program's code. Contains the arena's store, but
    /// not its pages, which belong to a memfd. 0 if `/proc` is not mounted.
    pub fn measure(&mut self) -> usize {
        self.read().unwrap_or(0)
    }

    fn read(&mut self) -> Option<usize> {
        if self.status.is_none() {
            self.status = File::open("/proc/self/status").ok();
        }
        let status = self.status.as_mut()?;
        self.text.clear();
        status.rewind().ok()?;
        status.read_to_string(&mut self.text).ok()?;
        let of = |name| kibibytes(&self.text, name).unwrap_or(0);
        Some((of("RssAnon:") + of("VmPTE:") + of("RssFile:")) << 10)
    }
}

fn kibibytes(status: &str, name: &str) -> Option<usize> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_status_are_parsed() {
        let status = "Name:\tcache\nVmPTE:\t      44 kB\nRssAnon:\t    1280 kB\nThreads:\t3\n";
        assert_eq!(kibibytes(status, "RssAnon:"), Some(1280));
        assert_eq!(kibibytes(status, "VmPTE:"), Some(44));
        assert_eq!(kibibytes(status, "Threads:"), None);
        assert_eq!(kibibytes(status, "RssFile:"), None);
    }

    #[test]
    fn allocated_memory_is_measured() {
        let mut footprint = Footprint::default();
        let mut grows = || {
            let before = footprint.measure();
            let memory = std::hint::black_box(vec![1u8; 64 << 20]);
            let after = footprint.measure();
            drop(memory);
            after >= before + (60 << 20)
        };
        // Other tests of this process may free memory meanwhile, but not in each attempt.
        assert!((0..100).any(|_| grows()));
    }
}
