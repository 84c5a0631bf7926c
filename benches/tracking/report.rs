//! Medians, tables and lines.

use crate::compare::{FIGURES, Measured};
use crate::loads::{Load, Timing};
use crate::watch::Watch;
use std::io::{self, Write};

/// Where a row was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) gib: f64,
    pub(crate) foreign: f64,
}

/// All measurements of a way to watch, one for each alternation.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) watch: Watch,
    pub(crate) measured: Vec<Measured>,
}

impl Row {
    pub(crate) fn new(watch: Watch) -> Self {
        Self { watch, measured: Vec::new() }
    }

    /// The median of what all measurements have.
    fn median(&self, of: impl Fn(&Measured) -> Option<f64>) -> Option<f64> {
        median(self.measured.iter().filter_map(of).collect())
    }

    fn count(&self, of: impl Fn(&Measured) -> Option<u64>) -> Option<f64> {
        self.median(|measured| of(measured).map(|count| count as f64))
    }

    /// Throughputs divided by those of `none` in the same alternation.
    fn ratios(&self, none: &Self) -> Vec<f64> {
        let pairs = self.measured.iter().zip(&none.measured);
        pairs.filter_map(|(own, none)| Some(own.rate()? / none.rate()?)).collect()
    }
}

/// The tables of a load.
#[derive(Debug)]
pub(crate) struct Report {
    load: Load,
    alternations: usize,
    /// Background processor time at the smallest size.
    smallest: Vec<(Watch, f64)>,
}

impl Report {
    pub(crate) fn new(load: Load, alternations: usize) -> Self {
        Self { load, alternations, smallest: Vec::new() }
    }

    pub(crate) fn print(
        &mut self,
        place: Place,
        timing: &Timing,
        rows: &[Row],
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let Place { gib, foreign } = place;
        let load = self.load.name();
        writeln!(
            out,
            "\n# load {load}, {gib} GiB, {foreign} GiB of foreign memory, {:.1?} each, \
             alternations {}, cold age {:.1?}, scan interval {:.1?}",
            timing.length, self.alternations, timing.cold_age, timing.scan_interval
        )?;
        let all: Vec<_> = rows.iter().map(|row| (row.watch, self.cells(row, &rows[0]))).collect();
        let shown = |name: &str| all.iter().any(|(_, cells)| value(cells, name).is_some());
        let names: Vec<&str> = all[0].1.iter().map(|cell| cell.0).filter(|n| shown(n)).collect();
        write!(out, "  {:<9}", "watch")?;
        names.iter().try_for_each(|name| write!(out, " {name:>w$}", w = name.len().max(9)))?;
        writeln!(out)?;
        let worst = worst(all.iter().map(|(_, cells)| value(cells, "ratio")));
        for (number, (watch, cells)) in all.iter().enumerate() {
            write!(out, "{} {:<9}", if worst == Some(number) { '*' } else { ' ' }, watch.name())?;
            for name in &names {
                write!(out, " {:>w$}", shorter(value(cells, name)), w = name.len().max(9))?;
            }
            writeln!(out, "{}", if worst == Some(number) { "  <- the worst" } else { "" })?;
        }
        for (watch, cells) in &all {
            write!(out, "tracking load={load} gib={gib} foreign={foreign} watch={}", watch.name())?;
            for (name, value) in cells {
                if *name == "ratio" || value.is_some() {
                    write!(out, " {name}={}", shorter(*value))?;
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// The figures of a row.
    fn cells(&mut self, row: &Row, none: &Row) -> Vec<(&'static str, Option<f64>)> {
        let ratios = row.ratios(none);
        let least = ratios.iter().copied().reduce(f64::min);
        let cpu = row.median(|measured| Some(measured.background * 100.0));
        let mut cells = vec![
            ("ratio", median(ratios)),
            ("least", least),
            ("per_second", row.median(Measured::rate)),
            ("cpu", cpu),
            ("cpu_vs_smallest", cpu.and_then(|cpu| self.versus_smallest(row.watch, cpu))),
            ("faults", row.count(|measured| Some(measured.faults))),
        ];
        let evicts = row.watch.scans() && self.load.evicts();
        let mut push = |name, count: &dyn Fn(&Measured) -> Option<u64>| {
            cells.push((name, evicts.then(|| row.count(count)).flatten()));
        };
        push("evicted", &|of| Some(of.evicted));
        push("again", &|of| Some(of.done.again.unwrap_or(of.refaults)));
        push("ideal_evicted", &|of| Some(of.done.ideal?.0));
        push("ideal_again", &|of| Some(of.done.ideal?.1));
        push("idle", &|of| Some(of.done.idle?.0));
        push("idle_left", &|of| Some(of.done.idle?.1));
        for (number, name) in FIGURES.into_iter().enumerate() {
            cells.push((name, row.count(|measured| measured.figures[number])));
        }
        cells
    }

    fn versus_smallest(&mut self, watch: Watch, cpu: f64) -> Option<f64> {
        if self.load != Load::Warm {
            return None;
        }
        // The sizes come in ascending order.
        match self.smallest.iter().find(|(of, _)| *of == watch) {
            Some((_, smallest)) => Some(cpu / smallest),
            None => {
                self.smallest.push((watch, cpu));
                Some(1.0)
            }
        }
    }
}

/// The row with the least value, if the values differ.
pub(crate) fn worst(values: impl Iterator<Item = Option<f64>>) -> Option<usize> {
    let known = values.enumerate().filter_map(|(number, value)| Some((number, value?)));
    let (number, least) = known.min_by(|a, b| a.1.total_cmp(&b.1))?;
    (least < 1.0).then_some(number)
}

pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values[values.len() / 2]);
    Some(f64::midpoint(*low, high))
}

fn value(cells: &[(&str, Option<f64>)], name: &str) -> Option<f64> {
    cells.iter().find(|cell| cell.0 == name)?.1
}

/// A number with three digits behind the point, unless it is large or 0.
fn shorter(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.abs() >= 100.0 || value == 0.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.3}"),
    }
}
