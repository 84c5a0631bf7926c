//! The rounds: the measurements and their order.

use crate::Trouble;
use crate::contestant::{Contestant, Kind};
use crate::figures::{Figure, Unit};
use crate::held::{Change, Load};
use crate::options::{Options, Pattern};
use crate::patterns::{Case, Factor, Order};
use indicatif::ProgressBar;

const PAIRS: [usize; 8] = [16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 1 << 20];
const BATCHES: [usize; 4] = [16, 128, 1 << 10, 8 << 10];
const GROWN: [usize; 3] = [64 << 10, 1 << 20, 16 << 20];
const VECTORS: [usize; 2] = [1, 16];

pub(crate) type Sides = Vec<(Kind, Box<dyn Contestant>)>;

/// All figures, in the order of the patterns on the command line.
pub(crate) fn compare(sides: &Sides, options: &Options) -> Result<Vec<Figure>, Trouble> {
    let cases: Vec<Case> = options.patterns.iter().flat_map(|p| cases(*p, options)).collect();
    let loads = if options.patterns.contains(&Pattern::Held) { loads(options) } else { vec![] };
    let bar = ProgressBar::new((cases.len() * options.rounds + loads.len()) as u64);
    let times = cases.into_iter().map(|case| Ok(time(case, sides, options, &bar)));
    let held = loads.into_iter().map(|load| hold(load, sides, options, &bar));
    let figures = times.chain(held).collect();
    bar.finish_and_clear();
    figures
}

fn cases(pattern: Pattern, options: &Options) -> Vec<Case> {
    let threads = options.threads.iter().copied();
    match pattern {
        Pattern::Pairs => PAIRS.into_iter().map(|size| Case::Pairs { size }).collect(),
        Pattern::Batches => BATCHES
            .into_iter()
            .flat_map(|size| Order::ALL.map(|order| Case::Batches { size, order }))
            .collect(),
        Pattern::Mixed => {
            threads.map(|threads| Case::Mixed { mib: options.mib, threads }).collect()
        }
        Pattern::Handoff => threads.map(|pairs| Case::Handoff { pairs }).collect(),
        Pattern::Larson => threads.map(|threads| Case::Larson { threads }).collect(),
        Pattern::Growth => GROWN
            .into_iter()
            .flat_map(|size| VECTORS.map(|vectors| (size, vectors)))
            .flat_map(|(size, vectors)| {
                Factor::ALL.map(|factor| Case::Growth { factor, size, vectors })
            })
            .collect(),
        Pattern::Held => vec![],
    }
}

fn loads(options: &Options) -> Vec<Load> {
    let sizes = options.held_mib.iter().copied();
    let each = sizes.flat_map(|mib| options.threads.iter().map(move |threads| (mib, *threads)));
    each.flat_map(|(mib, threads)| Change::ALL.map(|change| Load { change, mib, threads }))
        .collect()
}

/// Measures all sides in turn in each round, and begins with another side each time. One round before that
/// is not counted.
fn time(case: Case, sides: &Sides, options: &Options, bar: &ProgressBar) -> Figure {
    let mut values: Vec<_> = sides.iter().map(|(kind, _)| (*kind, Vec::new())).collect();
    for (_, side) in sides {
        side.time(case, 0, options.budget / 4);
    }
    for round in 1..=options.rounds {
        for turn in 0..sides.len() {
            let n = (round + turn) % sides.len();
            values[n].1.push(sides[n].1.time(case, round as u64, options.budget));
        }
        bar.inc(1);
    }
    Figure {
        name: case.to_string(),
        of: case.operation().to_owned(),
        unit: Unit::Nanos,
        sides: values,
    }
}

fn hold(
    load: Load,
    sides: &Sides,
    options: &Options,
    bar: &ProgressBar,
) -> Result<Figure, Trouble> {
    let mut values = Vec::new();
    let mut live = 0.0;
    for (kind, _) in sides {
        let held = load.measure(*kind, options.check)?;
        live = mib(held.live);
        values.push((*kind, vec![mib(held.held)]));
    }
    bar.inc(1);
    Ok(Figure {
        name: load.to_string(),
        of: format!("held, {live:.1} MiB live"),
        unit: Unit::Mib { live },
        sides: values,
    })
}

#[expect(clippy::cast_precision_loss, reason = "far below the 53 bits that are exact")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
