//! The table at the end, and the line that scripts read.

use crate::measure::Usage;
use crate::options::MIB;
use crate::work::{Touched, Worked};
use std::fmt::{self, Display};
use std::time::Duration;
use thermocline::{DescriptorRoute, Swapping};

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) documents: usize,
    pub(crate) text_bytes: usize,
    /// When all was loaded.
    pub(crate) loaded: Usage,
    pub(crate) worked: Worked,
    /// When the arena evicted no more.
    pub(crate) settled: Usage,
    pub(crate) touched: Touched,
    /// When everything had been touched.
    pub(crate) last: Usage,
    pub(crate) swapping: Swapping,
    pub(crate) route: Option<DescriptorRoute>,
}

impl Report {
    pub(crate) fn mismatches(&self) -> usize {
        self.worked.verified.mismatches + self.touched.verified.mismatches
    }

    /// Memory that what was loaded takes if nothing is evicted. On a slow machine the first
    /// documents are cold before the last are loaded; their pages count as if they were in memory.
    fn before(&self) -> u64 {
        self.loaded.stats.memory_bytes + self.loaded.stats.stored_bytes as u64
    }

    /// Memory that is taken while a tenth is in use: pages, and those of the compressed store.
    fn after(&self) -> u64 {
        self.settled.stats.memory_bytes + self.settled.stats.store_bytes as u64
    }

    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn saved_percent(&self) -> f64 {
        match self.swapping {
            Swapping::On(_) => 100.0 * (1.0 - self.after() as f64 / self.before().max(1) as f64),
            // What is in memory stays there.
            _ => 0.0,
        }
    }

    fn tracker(&self) -> String {
        match &self.swapping {
            Swapping::On(tracker) => tracker.to_string(),
            _ => "off".to_owned(),
        }
    }

    /// Each line of the table: what it is, how much, and what there is to say about it.
    fn lines(&self) -> Vec<(&'static str, String, String)> {
        let stats = &self.settled.stats;
        let note = String::new;
        let ratio = stats.ratio().map_or(dash(), |r| format!("{r:.2}"));
        let saved = self.before().saturating_sub(self.after());
        let verified = self.worked.verified.documents + self.touched.verified.documents;
        let worked = format!(
            "documents, {} times in {:.1?}; then everything in {:.1?}",
            self.worked.rounds, self.worked.time, self.touched.time
        );
        let again = format!("{} of them when everything was touched", self.touched.refaults);
        vec![
            ("kernel", thermocline::probe().kernel().to_owned(), note()),
            ("tracker", self.tracker(), or(self.route.as_ref(), "off")),
            ("text", mib(self.text_bytes as u64), format!("in {} documents", self.documents)),
            ("resident before", mib(self.before()), "memory of the arena, all loaded".to_owned()),
            ("resident after", mib(self.after()), self.parts_after()),
            ("stored", mib(stats.stored_bytes as u64), "pages, before compression".to_owned()),
            ("saved", mib(saved), format!("{:.1} % of resident before", self.saved_percent())),
            ("ratio", ratio, "stored / store".to_owned()),
            ("process before", self.loaded.rss.map_or(dash(), mib), RSS.to_owned()),
            ("process after", self.settled.rss.map_or(dash(), mib), RSS.to_owned()),
            ("refaults", self.last.stats.refaults.to_string(), again),
            ("refault p50", self.refault(0.5), self.served(0.5)),
            ("refault p99", self.refault(0.99), self.served(0.99)),
            ("verified", verified.to_string(), worked),
        ]
    }

    fn parts_after(&self) -> String {
        let stats = &self.settled.stats;
        let (pages, store) = (mib(stats.memory_bytes), mib(stats.store_bytes as u64));
        format!("{pages} of pages + {store} of store")
    }

    /// What whoever touched a page had to wait.
    fn refault(&self, quantile: f64) -> String {
        let touched = &self.touched;
        let time = touched.touches.quantile_of_slowest(touched.refaults, quantile);
        time.map_or(dash(), micros)
    }

    /// What the handler took of that, by its own clock.
    fn served(&self, quantile: f64) -> String {
        let time = self.last.stats.refault_time.quantile(quantile);
        let time = time.map_or(dash(), micros);
        format!("as seen by the toucher; {time} of it in the handler")
    }
}

/// The kernel's count leaves out pages that the tracker has taken out of the page table: those are
/// in memory all the same, so that before is more than it seems.
const RSS: &str = "VmRSS, mapped pages alone";

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value, note) in self.lines() {
            let line = format!("{name:<16} {value:>16}  {note}");
            writeln!(f, "{}", line.trim_end())?;
        }
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

fn or(value: Option<&impl Display>, otherwise: &str) -> String {
    value.map_or_else(|| otherwise.to_owned(), |value| format!("through {value}"))
}

fn dash() -> String {
    "-".to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB as f64)
}

fn micros(time: Duration) -> String {
    format!("{:.1} us", time.as_secs_f64() * 1e6)
}
