//! The table at the end, and the line for scripts.

use crate::measure::{Usage, quantile_between};
use crate::options::MIB;
use crate::work::{Touched, Worked};
use std::fmt::{self, Display};
use std::time::Duration;
use thermocline::{DescriptorRoute, FaultMode, Swapping};

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) documents: usize,
    pub(crate) text_bytes: usize,
    /// When all text was loaded.
    pub(crate) loaded: Usage,
    pub(crate) worked: Worked,
    /// When the arena evicted no more.
    pub(crate) settled: Usage,
    pub(crate) touched: Touched,
    /// When everything had been touched.
    pub(crate) last: Usage,
    pub(crate) swapping: Swapping,
    pub(crate) route: Option<DescriptorRoute>,
    pub(crate) fault_mode: Option<FaultMode>,
}

impl Report {
    pub(crate) fn mismatches(&self) -> usize {
        self.worked.verified.mismatches + self.touched.verified.mismatches
    }

    /// The arena's memory without eviction. On a slow machine the arena evicts the first documents before
    /// the last are loaded; this counts their pages as resident.
    fn before(&self) -> Bytes {
        Bytes(self.loaded.stats.memory_bytes + self.loaded.stats.stored_bytes)
    }

    /// Memory while a tenth is in use: resident pages and the compressed store.
    fn after(&self) -> Bytes {
        Bytes(self.settled.stats.memory_bytes + self.settled.stats.store_bytes)
    }

    /// Negative if there was little to compress: the store allocates slabs.
    fn saved_mib(&self) -> f64 {
        match self.swapping {
            Swapping::On(_) => self.before().mib() - self.after().mib(),
            // The arena evicts nothing.
            _ => 0.0,
        }
    }

    fn saved_percent(&self) -> f64 {
        100.0 * self.saved_mib() / self.before().mib()
    }

    fn tracker(&self) -> String {
        match &self.swapping {
            Swapping::On(tracker) => tracker.to_string(),
            _ => "off".to_owned(),
        }
    }

    fn write_system(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = self.route.map_or_else(|| "no userfaultfd".to_owned(), |r| r.to_string());
        row(f, "kernel", thermocline::probe().kernel(), "")?;
        row(f, "tracker", self.tracker(), route)?;
        let mode = self.fault_mode.map_or_else(|| "none".to_owned(), |mode| mode.to_string());
        row(f, "faults", mode, "fault mode")
    }

    fn write_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = &self.settled.stats;
        let (before, after) = (self.before(), self.after());
        let pages = Bytes(stats.memory_bytes);
        let gone = Bytes(self.loaded.stats.stored_bytes);
        let (stored, store) = (Bytes(stats.stored_bytes), Bytes(stats.store_bytes));
        let saved = format!("{:.1} MiB", self.saved_mib());
        let ratio = stats.ratio().map(|ratio| format!("{ratio:.2}"));
        let documents = format!("in {} documents, with a map of their names", self.documents);
        let process = "RssAnon and the arena's pages, by the kernel's count";

        row(f, "text", Bytes(self.text_bytes as u64), documents)?;
        row(f, "resident before", before, format!("all loaded, {gone} of it evicted by then"))?;
        row(f, "resident after", after, format!("{pages} of pages + {store} of store"))?;
        row(f, "stored", stored, "pages, before compression")?;
        row(f, "saved", saved, format!("{:.1} % of resident before", self.saved_percent()))?;
        row(f, "ratio", or_dash(ratio), "stored / store")?;
        row(f, "process before", or_dash(self.loaded.process.map(Bytes)), process)?;
        row(f, "process after", or_dash(self.settled.process.map(Bytes)), process)
    }

    fn write_refaults(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timed = self.touched.refaults();
        row(f, "refaults", self.last.stats.refaults, format!("{timed} of them timed, below"))?;
        let (before, after) = (&self.touched.before, &self.touched.after);
        for (name, quantile) in [("refault p50", 0.5), ("refault p99", 0.99)] {
            let waited = self.touched.touches.quantile_of_slowest(timed, quantile);
            let served = quantile_between(&before.refault_time, &after.refault_time, quantile);
            let served = or_dash(served.map(Micros));
            let note = format!("by the reader's clock; {served} by the handler's");
            row(f, name, or_dash(waited.map(Micros)), note)?;
        }
        Ok(())
    }

    fn write_verified(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (worked, touched) = (&self.worked, &self.touched);
        let documents = worked.verified.documents + touched.verified.documents;
        let note = format!(
            "documents: the tenth {} times in {:.1?}, then all in {:.1?}",
            worked.rounds, worked.time, touched.time
        );
        row(f, "verified", documents, note)?;
        row(f, "mismatches", self.mismatches(), "documents")
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_system(f)?;
        self.write_memory(f)?;
        self.write_refaults(f)?;
        self.write_verified(f)?;
        writeln!(
            f,
            "\nquickstart tracker={} saved_percent={:.1} refaults={} mismatches={}",
            self.tracker(),
            self.saved_percent(),
            self.last.stats.refaults,
            self.mismatches()
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

#[derive(Clone, Copy)]
struct Bytes(u64);

impl Bytes {
    #[expect(clippy::cast_precision_loss, reason = "for display")]
    fn mib(self) -> f64 {
        self.0 as f64 / MIB as f64
    }
}

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.mib())
    }
}

struct Micros(Duration);

impl Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} us", self.0.as_secs_f64() * 1e6)
    }
}
