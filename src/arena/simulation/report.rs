//! What was tried, and what came of it.

use super::deviation::{Kind, Misfortune};
use crate::prim::schedule::{Failure, Ran};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

#[derive(Debug, Default)]
pub(super) struct Table {
    /// Runs by phase, call and outcome, and how many of them ended as an abort.
    cells: BTreeMap<Kind, (usize, usize)>,
    runs: usize,
    injected: usize,
    switched: usize,
    aborted: usize,
    steps: usize,
    /// Runs that went another way before all that was to befall them did.
    elsewhere: usize,
    violations: Vec<String>,
}

impl Table {
    pub(super) fn note(&mut self, taken: &[Misfortune], ran: &Ran, complete: bool) {
        let aborted = usize::from(matches!(ran.failure, Some(Failure::Aborted(_))));
        self.runs += 1;
        self.steps += ran.steps;
        self.aborted += aborted;
        self.elsewhere += usize::from(!complete);
        self.injected += usize::from(!taken.is_empty());
        self.switched += usize::from(taken.is_empty());
        for one in taken {
            let key = one.kind();
            let cell = self.cells.entry(key).or_default();
            cell.0 += 1;
            cell.1 += aborted;
        }
    }

    pub(super) fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    pub(super) fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Whether there is enough to begin with.
    pub(super) fn is_full(&self) -> bool {
        self.violations.len() >= 20
    }

    /// A line per phase and call, and one for the sums.
    pub(super) fn print(&self) {
        let mut lines: BTreeMap<_, String> = BTreeMap::new();
        for ((phase, call, outcome), (runs, aborted)) in &self.cells {
            let line = lines.entry((phase, call)).or_default();
            let _ = write!(line, " {outcome}={runs}");
            if *aborted > 0 {
                let _ = write!(line, "({aborted} aborted)");
            }
        }
        let mut out = std::io::stdout().lock();
        for ((phase, call), line) in lines {
            let _ = writeln!(out, "{phase:<9} {call:<18}{line}");
        }
        let _ = writeln!(
            out,
            "runs={} steps={} injected combinations={} switches={} aborted with a reason={} \
             went another way={} violations={}",
            self.runs,
            self.steps,
            self.injected,
            self.switched,
            self.aborted,
            self.elsewhere,
            self.violations.len()
        );
    }
}
