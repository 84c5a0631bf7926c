//! Figures: a value for each round, and how they are printed.

use crate::contestant::Kind;
use comfy_table::{CellAlignment, Table, presets};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unit {
    /// Nanoseconds per operation.
    Nanos,
    /// MiB held, while `live` MiB were live.
    Mib { live: f64 },
}

/// One measurement on all sides.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    /// The operation, or the kind of memory.
    pub(crate) of: String,
    pub(crate) unit: Unit,
    /// Each side's values of all rounds.
    pub(crate) sides: Vec<(Kind, Vec<f64>)>,
}

/// The arena's figure divided by that of the best rival: median, least and greatest of all rounds.
#[derive(Clone, Copy, Debug)]
struct VsBest {
    best: Kind,
    median: f64,
    least: f64,
    greatest: f64,
}

impl Figure {
    fn vs_best(&self) -> Option<VsBest> {
        let (_, arena) = self.sides.iter().find(|(kind, _)| *kind == Kind::Arena)?;
        let rivals = self.sides.iter().filter(|(kind, _)| kind.is_rival());
        let (best, rival) = rivals.min_by(|(_, a), (_, b)| median(a).total_cmp(&median(b)))?;
        let ratios: Vec<f64> =
            arena.iter().zip(rival).map(|(arena, rival)| arena / rival).collect();
        Some(VsBest {
            best: *best,
            median: median(&ratios),
            least: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            greatest: ratios.iter().copied().fold(0.0, f64::max),
        })
    }

    fn cell(&self, kind: Kind) -> String {
        let Some((_, values)) = self.sides.iter().find(|(side, _)| *side == kind) else {
            return String::new();
        };
        match (self.unit, median(values)) {
            (Unit::Mib { live }, held) => format!("{held:.1} MiB ({:.2})", held / live),
            (Unit::Nanos, nanos) if nanos < 1e3 => format!("{nanos:.1} ns"),
            (Unit::Nanos, nanos) if nanos < 1e6 => format!("{:.2} us", nanos / 1e3),
            (Unit::Nanos, nanos) => format!("{:.2} ms", nanos / 1e6),
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

/// A line for scripts.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "figure={}", self.name)?;
        if let Unit::Mib { live } = self.unit {
            write!(f, " live_mib={live:.2}")?;
        }
        for (kind, values) in &self.sides {
            match self.unit {
                Unit::Nanos => write!(f, " {kind}_ns={:.1}", median(values))?,
                Unit::Mib { .. } => write!(f, " {kind}_mib={:.2}", median(values))?,
            }
        }
        let Some(VsBest { best, median, least, greatest }) = self.vs_best() else { return Ok(()) };
        write!(f, " best={best} vs_best={median:.3}")?;
        write!(f, " vs_best_min={least:.3} vs_best_max={greatest:.3}")
    }
}

/// A table for people.
pub(crate) fn table(figures: &[Figure], kinds: &[Kind]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let names = kinds.iter().map(ToString::to_string);
    let header = ["figure", "of"].map(str::to_owned).into_iter().chain(names);
    table.set_header(header.chain(["best rival", "arena / best"].map(str::to_owned)));
    for figure in figures {
        let cells = kinds.iter().map(|kind| figure.cell(*kind));
        let row = [figure.name.clone(), figure.of.clone()].into_iter().chain(cells);
        let ratio = figure
            .vs_best()
            .map_or_else(Default::default, |vs| [vs.best.to_string(), format!("{:.2}", vs.median)]);
        table.add_row(row.chain(ratio));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
