//! The measurements and their order.

use crate::Trouble;
use crate::damon::Damon;
use crate::kernel::{available_memory, foreign_memory, library_time, minor_faults};
use crate::layout::Memory;
use crate::loads::{Load, Setup};
use crate::options::Options;
use crate::report::{Place, Report, Row};
use crate::touch::Done;
use crate::watch::Watch;
use std::io::Write;
use std::time::{Duration, Instant};
use thermocline::Arena;

const GIB: f64 = (1 << 30) as f64;

/// The figures of `Stats` that the benchmark prints. An older library lacks some.
pub(crate) const FIGURES: [&str; 3] = ["tracking_nanos", "tracking_fault_nanos", "accessed_scans"];

/// One measurement.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) done: Done,
    /// Background processor time, as a part of the whole time.
    pub(crate) background: f64,
    pub(crate) faults: u64,
    pub(crate) evicted: u64,
    pub(crate) refaults: u64,
    /// See [`FIGURES`].
    pub(crate) figures: [Option<u64>; 3],
}

impl Measured {
    /// Touches per second while the load does not rest.
    pub(crate) fn rate(&self) -> Option<f64> {
        let seconds = self.done.on_time.as_secs_f64();
        (self.done.touches > 0).then(|| self.done.touches as f64 / seconds)
    }
}

/// Measures everything, prints, and returns the number of pages with a wrong word.
pub(crate) fn compare(options: &Options, out: &mut dyn Write) -> Result<usize, Trouble> {
    let mut watches = options.watches.clone();
    if watches.contains(&Watch::Damon)
        && let Err(reason) = Damon::start()
    {
        writeln!(out, "# SKIPPED: damon: {reason}")?;
        watches.retain(|watch| *watch != Watch::Damon);
    }
    let sizes = sizes_that_fit(options, out)?;
    if sizes.is_empty() {
        return Err("no size fits into the memory of this machine".into());
    }
    let estimate = estimate(options, &sizes, watches.len());
    writeln!(out, "# this takes about {:.0} minutes", (estimate.as_secs_f64() / 60.0).ceil())?;
    out.flush()?;

    let mut wrong_pages = 0;
    for &load in &options.loads {
        for &foreign in &options.foreign {
            let sizes = sizes.iter().filter(|(_, with)| *with == foreign);
            let mut report = Report::new(load, options.alternations);
            let mut memory = None;
            for &(gib, _) in sizes {
                if memory.is_none() {
                    memory = foreign_memory(foreign)?;
                }
                let setup = Setup::new(load, gib, options);
                let place = Place { gib, foreign };
                let rows = alternate(&setup, &watches, options.alternations, &mut wrong_pages)?;
                report.print(place, &setup.timing, &rows, out)?;
                out.flush()?;
            }
        }
    }
    Ok(wrong_pages)
}

/// Measures all ways to watch in turn.
fn alternate(
    setup: &Setup,
    watches: &[Watch],
    alternations: usize,
    wrong_pages: &mut usize,
) -> Result<Vec<Row>, Trouble> {
    let mut rows: Vec<Row> = watches.iter().map(|watch| Row::new(*watch)).collect();
    for alternation in 0..alternations {
        for turn in 0..rows.len() {
            // A different way to watch comes first in each alternation.
            let place = (turn + alternation) % watches.len();
            let row = &mut rows[place];
            let (measured, wrong) = measure(setup, row.watch, alternation as u64)?;
            row.measured.push(measured);
            *wrong_pages += wrong;
        }
    }
    Ok(rows)
}

/// Builds an arena, runs the load, and counts the pages with a wrong word.
fn measure(setup: &Setup, watch: Watch, seed: u64) -> Result<(Measured, usize), Trouble> {
    let bytes = (setup.gib * GIB) as usize;
    let arena = watch.builder(&setup.timing).reserve(bytes + (1 << 30)).build()?;
    let memory = match watch {
        Watch::Huge => Memory::Huge,
        _ => Memory::Arena(arena.clone()),
    };
    let words = setup.layout.fill(memory)?;
    let damon = (watch == Watch::Damon).then(Damon::start).transpose()?;
    let background = || -> Result<Duration, Trouble> {
        let damon = damon.as_ref().map_or(Ok(Duration::ZERO), Damon::time)?;
        Ok(damon + library_time()?)
    };

    setup.settle(&words);
    let (figures, faults, time) = (figures(&arena), minor_faults()?, background()?);
    let start = Instant::now();
    let done = setup.touch(&words, seed)?;
    let whole = start.elapsed();
    let time = background()?.saturating_sub(time);
    let faults = minor_faults()? - faults;
    let stats = arena.stats();
    let figures_now = self::figures(&arena);
    drop(damon);

    let wrong = setup.wrong_pages(&words, &done);
    let measured = Measured {
        done,
        background: time.as_secs_f64() / whole.as_secs_f64(),
        faults,
        evicted: stats.evicted_pages,
        refaults: stats.refaults,
        figures: std::array::from_fn(|n| Some(figures_now[n]? - figures[n]?)),
    };
    Ok((measured, wrong))
}

fn figures(arena: &Arena) -> [Option<u64>; 3] {
    let stats = arena.stats();
    FIGURES.map(|name| {
        let figure = stats.figures().find(|figure| figure.name == name);
        figure.map(|figure| figure.value)
    })
}

/// Pairs of GiB of the arena and of foreign memory. Says which do not fit.
fn sizes_that_fit(options: &Options, out: &mut dyn Write) -> Result<Vec<(f64, f64)>, Trouble> {
    let available = available_memory()? / GIB;
    let mut fitting = Vec::new();
    for &foreign in &options.foreign {
        for &gib in &options.gib {
            if (gib + foreign) * 1.25 <= available {
                fitting.push((gib, foreign));
                continue;
            }
            writeln!(
                out,
                "# SKIPPED: {gib} GiB with {foreign} GiB of foreign memory: {available:.1} GiB \
                 are available, and a quarter is to be spare"
            )?;
        }
    }
    Ok(fitting)
}

/// About how long all measurements take.
fn estimate(options: &Options, sizes: &[(f64, f64)], watches: usize) -> Duration {
    let one = |load: Load, gib: f64| {
        let setup = crate::loads::Timing::new(load, gib, options.length, options.cold_age);
        // To fill the memory and to compare it takes a few seconds per GiB.
        setup.settle + setup.length + Duration::from_secs_f64(4.0 * gib)
    };
    let all = options.loads.iter().flat_map(|load| sizes.iter().map(|(gib, _)| one(*load, *gib)));
    all.sum::<Duration>() * (options.alternations * watches) as u32
}
