//! The table of injections and their results.

use super::deviation::{Injection, Kind};
use crate::prim::schedule::{Failure, Ran};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

#[derive(Debug, Default)]
pub(super) struct Table {
    /// The number of runs by phase, call and outcome, and the number of those that aborted.
    cells: BTreeMap<Kind, (usize, usize)>,
    runs: usize,
    injected: usize,
    switched: usize,
    aborted: usize,
    steps: usize,
    /// Runs that took another course before all their injections took place.
    diverged: usize,
    violations: Vec<String>,
}

impl Table {
    pub(super) fn note(&mut self, injected: &[Injection], ran: &Ran, complete: bool) {
        let aborted = usize::from(matches!(ran.failure, Some(Failure::Aborted(_))));
        self.runs += 1;
        self.steps += ran.steps;
        self.aborted += aborted;
        self.diverged += usize::from(!complete);
        self.injected += usize::from(!injected.is_empty());
        self.switched += usize::from(injected.is_empty());
        for one in injected {
            let key = one.kind();
            let cell = self.cells.entry(key).or_default();
            cell.0 += 1;
            cell.1 += aborted;
        }
    }

    pub(super) fn violation(&mut self, text: String) {
        self.violations.push(text);
    }

    pub(super) fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Whether the test stops, because it has found enough violations.
    pub(super) fn is_full(&self) -> bool {
        self.violations.len() >= 20
    }

    /// Prints a line per phase and call, and one for the totals.
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
             diverged={} violations={}",
            self.runs,
            self.steps,
            self.injected,
            self.switched,
            self.aborted,
            self.diverged,
            self.violations.len()
        );
    }
}
