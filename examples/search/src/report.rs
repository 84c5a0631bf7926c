//! The table at the end, and the line for scripts.

use crate::engine::Answers;
use std::fmt::{self, Display};
use std::fs;
use std::time::Duration;
use thermocline::{Arena, Stats, Swapping};

/// The memory in use at one time.
pub(crate) struct Usage {
    stats: Stats,
    /// Bytes of the heap, the stacks, and the arena's compressed store, if `/proc` has them.
    anonymous: Option<u64>,
}

impl Usage {
    pub(crate) fn of(arena: &Arena) -> Self {
        Self { anonymous: anonymous_bytes(), stats: arena.stats() }
    }

    /// Bytes of the arena's resident pages.
    fn pages(&self) -> u64 {
        self.stats.memory_bytes
    }

    /// Bytes of the arena.
    fn arena(&self) -> u64 {
        self.pages() + self.stats.store_bytes
    }

    /// Bytes of the process. The resident set (`VmRSS`) lacks pages that are in memory but not in the page
    /// table, such as those that the zap tracker has armed.
    fn process(&self) -> Option<u64> {
        self.anonymous.map(|anonymous| anonymous + self.pages())
    }
}

fn anonymous_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// The times of one run of all queries.
pub(crate) struct Asked {
    queries: usize,
    matches: usize,
    half: Duration,
    longest: Duration,
}

impl Asked {
    pub(crate) fn of(answers: &Answers) -> Self {
        let times = answers.times();
        Self {
            queries: times.len(),
            matches: answers.matches(),
            half: times[times.len() / 2],
            longest: times[times.len() - 1],
        }
    }
}

pub(crate) struct Report {
    pub(crate) documents: u64,
    pub(crate) text_bytes: usize,
    pub(crate) index_bytes: usize,
    pub(crate) indexing: Duration,
    /// The number of repeated queries whose answer differed.
    pub(crate) wrong: usize,
    /// Before the eviction, and the first and second time after it.
    pub(crate) asked: [Asked; 3],
    /// During the first time after it.
    pub(crate) refaults: u64,
    pub(crate) before: Usage,
    pub(crate) after: Usage,
    pub(crate) last: Usage,
    pub(crate) swapping: Swapping,
}

impl Report {
    /// The arena's memory without eviction. On a slow machine the arena evicts the first parts of the index
    /// before the last are written; this counts their pages as resident.
    fn arena_before(&self) -> u64 {
        self.before.pages() + self.before.stats.stored_bytes
    }

    fn process_before(&self) -> Option<u64> {
        let stats = &self.before.stats;
        let process = self.before.process()? + stats.stored_bytes;
        Some(process - stats.store_bytes)
    }

    fn tracker(&self) -> String {
        match &self.swapping {
            Swapping::On(tracker) => tracker.to_string(),
            other => other.to_string(),
        }
    }

    fn write_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = &self.after.stats;
        let (was, is) = (self.arena_before(), self.after.arena());
        let pages = Bytes(self.after.pages());
        let parts = format!("{pages} of pages + {} of store", Bytes(stats.store_bytes));
        let saved = format!("{} of {}", percent(was, is), Bytes(was));
        let process = "RssAnon and the arena's pages, by the kernel's count";
        let saved_of_process = match (self.process_before(), self.after.process()) {
            (Some(was), Some(is)) => percent(was, is),
            _ => "-".to_owned(),
        };
        row(f, "arena before", Bytes(was), "the index, and what else is large")?;
        row(f, "arena after", Bytes(is), parts)?;
        row(f, "saved", Bytes(was.saturating_sub(is)), saved)?;
        row(f, "process before", or_dash(self.process_before().map(Bytes)), process)?;
        row(f, "process after", or_dash(self.after.process().map(Bytes)), saved_of_process)?;
        row(f, "asked again", or_dash(self.last.process().map(Bytes)), "the process at the end")
    }

    fn write_answers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["queries before", "first after", "second after"];
        for (name, asked) in names.iter().zip(&self.asked) {
            let note = format!("p50; the longest {:.1?}; {} queries", asked.longest, asked.queries);
            row(f, name, format!("{:.1?}", asked.half), note)?;
        }
        let matches = self.asked[0].matches;
        row(f, "refaults", self.refaults, "pages brought back by the first time after")?;
        row(f, "answers", 2 * self.asked[0].queries, format!("asked again, of {matches} matches"))?;
        row(f, "wrong answers", self.wrong, "")
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Bytes(self.text_bytes as u64);
        row(f, "tracker", self.tracker(), "")?;
        row(f, "documents", self.documents, format!("{text} of text, in {:.1?}", self.indexing))?;
        row(f, "index", Bytes(self.index_bytes as u64), "by the engine's count, texts included")?;
        self.write_memory(f)?;
        self.write_answers(f)?;
        writeln!(
            f,
            "\nsearch tracker={} documents={} index_bytes={} saved_percent={} refaults={} wrong={}",
            self.tracker(),
            self.documents,
            self.index_bytes,
            percent(self.arena_before(), self.after.arena()).trim_end_matches(" %"),
            self.refaults,
            self.wrong
        )
    }
}

/// A row: a name, a value, and a note.
fn row(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    value: impl Display,
    note: impl Display,
) -> fmt::Result {
    let line = format!("{name:<16} {:>16}  {note}", value.to_string());
    writeln!(f, "{}", line.trim_end())
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// The reduction in percent, negative for an increase.
#[expect(clippy::cast_precision_loss, reason = "for display")]
fn percent(was: u64, is: u64) -> String {
    format!("{:.1} %", 100.0 * (was as f64 - is as f64) / was as f64)
}

struct Bytes(u64);

impl Display for Bytes {
    #[expect(clippy::cast_precision_loss, reason = "for display")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}
