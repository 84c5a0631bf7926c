//! The alternations: the measurements, their order and their names.

use crate::Trouble;
use crate::data::{Data, WORDS};
use crate::figures::Figures;
use crate::measure::{
    Pattern, Touches, number, throughput, timed, touch_after_pauses, touch_each, visits,
};
use crate::sides::{Evicting, Kernel, Side, write_all, wrong_pages};
use std::hint::black_box;
use std::sync::atomic::Ordering;
use std::time::Duration;
use thermocline::FaultMode;

const THREADS: [usize; 4] = [1, 2, 16, 64];

/// The number of touches with pauses. Each takes more than a millisecond.
const PAUSES: usize = 300;

/// The most pages that may stay resident, because touching these costs nothing: one in fifty, or as many
/// as lie in the per-processor lists of recently faulted pages, which `MADV_PAGEOUT` skips.
fn few(pages: usize) -> usize {
    (pages / 50).max(64)
}

/// The sides to measure.
#[derive(Debug)]
pub(crate) struct Sides {
    pub(crate) kernel: Option<Kernel>,
    pub(crate) arenas: Vec<(FaultMode, Evicting)>,
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) figures: Figures,
    pub(crate) wrong_pages: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Kernel,
    Arena(FaultMode),
}

impl Who {
    /// The end of a measurement's name.
    fn suffix(self) -> &'static str {
        match self {
            Self::Arena(FaultMode::Handler) => "_handler",
            Self::Kernel | Self::Arena(_) => "",
        }
    }

    fn throughput(self) -> &'static str {
        match self {
            Self::Kernel => "throughput_zram",
            Self::Arena(FaultMode::Handler) => "throughput_handler",
            Self::Arena(_) => "throughput_inline",
        }
    }
}

/// A side and its state.
struct Turn<'a> {
    who: Who,
    side: &'a dyn Side,
    data: Data,
    /// How often all pages were written.
    round: u64,
    /// Whether a write was lost.
    wrong: bool,
    /// Pages evicted in this alternation, and the processor time of that.
    gone: (usize, Duration),
}

impl<'a> Turn<'a> {
    fn new(who: Who, side: &'a dyn Side, data: Data) -> Self {
        Self { who, side, data, round: 0, wrong: false, gone: (0, Duration::ZERO) }
    }

    /// Writes all pages and evicts them.
    fn evict(&mut self) -> Result<(), Trouble> {
        self.round += 1;
        self.wrong |= !write_all(self.side, self.data, self.round);
        let gone = self.side.evict()?;
        let pages = self.side.words().len() / WORDS;
        if gone.pages + few(pages) < pages {
            return Err(format!("{:?}: of {pages} pages {} went", self.who, gone.pages).into());
        }
        self.gone.0 += gone.pages;
        self.gone.1 += gone.cpu;
        Ok(())
    }
}

/// Measures all sides in turn, `alternations` times. One round before that is not counted: it lets the
/// sides' stores grow to the size that they need.
pub(crate) fn compare(
    sides: &Sides,
    pages: usize,
    data: Data,
    alternations: usize,
) -> Result<Outcome, Trouble> {
    let kernel = sides.kernel.iter().map(|side| Turn::new(Who::Kernel, side, data));
    let arenas = sides.arenas.iter().map(|(mode, side)| Turn::new(Who::Arena(*mode), side, data));
    let mut turns: Vec<Turn<'_>> = kernel.chain(arenas).collect();

    let mut figures = Figures::default();
    refaults(&mut turns, Pattern::Random, pages, 0, &mut figures)?;
    figures = Figures::default();
    for alternation in 1..=alternations {
        let seed = alternation as u64;
        turns.iter_mut().for_each(|turn| turn.gone = (0, Duration::ZERO));
        let plain = refaults(&mut turns, Pattern::Random, pages, seed, &mut figures)?;
        refaults(&mut turns, Pattern::Clustered, pages, seed, &mut figures)?;
        refaults(&mut turns, Pattern::Sequential, pages, seed, &mut figures)?;
        asleep(&mut turns, pages, seed, &mut figures)?;
        if let Some((_, arena)) = sides.arenas.first() {
            ensure(arena, &mut turns, plain, pages, seed, &mut figures)?;
        }
        all_throughputs(&mut turns, pages, seed, &mut figures)?;
        let evictions = turns.iter().map(|turn| {
            let (pages, time) = turn.gone;
            (turn.who, time.as_secs_f64() * 1e9 / number(pages))
        });
        note(&mut figures, "evict", "", &evictions.collect::<Vec<_>>());
    }

    // A page that lost a write may hold the right words now, so `turn.wrong` counts too.
    let wrong =
        |turn: &Turn<'_>| wrong_pages(turn.side, data, turn.round).max(usize::from(turn.wrong));
    let wrong_pages = turns.iter().map(wrong).sum();
    Ok(Outcome { figures, wrong_pages })
}

/// Touches every page once in this order. Returns the kernel's figures.
fn refaults(
    turns: &mut [Turn<'_>],
    pattern: Pattern,
    pages: usize,
    seed: u64,
    figures: &mut Figures,
) -> Result<Option<Touches>, Trouble> {
    let visits = visits(pattern, pages, seed);
    let mut touches = Vec::new();
    for turn in turns {
        turn.evict()?;
        if pattern == Pattern::Random
            && let Some(times) = turn.side.compression()?
        {
            let name = if turn.who == Who::Kernel { "zram" } else { "arena" };
            let name = format!("compression{}_{name}", turn.who.suffix());
            figures.add(name, times, "times");
        }
        touches.push((turn.who, touch_each(turn.side.words(), &visits)));
    }
    match pattern {
        Pattern::Random => note_touches(figures, "refault_random", &touches),
        Pattern::Clustered => note(figures, "refault_clustered", "", &each(&touches, |t| t.mean)),
        Pattern::Sequential => note(figures, "refault_sequential", "", &each(&touches, |t| t.mean)),
    }
    Ok(touches.iter().find(|(who, _)| *who == Who::Kernel).map(|(_, touches)| *touches))
}

fn asleep(
    turns: &mut [Turn<'_>],
    pages: usize,
    seed: u64,
    figures: &mut Figures,
) -> Result<(), Trouble> {
    let visits = visits(Pattern::Random, pages, seed);
    let some = &visits[..PAUSES.min(visits.len())];
    let mut touches = Vec::new();
    for turn in turns {
        turn.evict()?;
        touches.push((turn.who, touch_after_pauses(turn.side.words(), some)));
    }
    note(figures, "refault_random", "_asleep", &each(&touches, |t| t.median));
    note(figures, "refault_random", "_asleep_p99", &each(&touches, |t| t.p99));
    Ok(())
}

/// `Arena::ensure` before each read, compared with the kernel's plain touches.
fn ensure(
    arena: &Evicting,
    turns: &mut [Turn<'_>],
    plain: Option<Touches>,
    pages: usize,
    seed: u64,
    figures: &mut Figures,
) -> Result<(), Trouble> {
    let Some(turn) = turns.iter_mut().find(|turn| turn.who != Who::Kernel) else { return Ok(()) };
    turn.evict()?;
    let words = turn.side.words();
    let touches = timed(&visits(Pattern::Random, pages, seed), |visit| {
        arena.ensure(visit / WORDS)?;
        black_box(words[visit].load(Ordering::Relaxed));
        Ok(())
    })?;
    let kernel = plain.map(|touches| (Who::Kernel, touches));
    let both: Vec<_> =
        kernel.into_iter().chain([(Who::Arena(FaultMode::Inline), touches)]).collect();
    note_touches(figures, "restore_ensure", &both);
    Ok(())
}

fn all_throughputs(
    turns: &mut [Turn<'_>],
    pages: usize,
    seed: u64,
    figures: &mut Figures,
) -> Result<(), Trouble> {
    let visits = visits(Pattern::Random, pages, seed);
    let mut kernel = Vec::new();
    for turn in turns {
        let name = turn.who.throughput();
        let mut own = Vec::new();
        for threads in THREADS {
            turn.evict()?;
            let rate = throughput(turn.side.words(), &visits, threads);
            figures.add(format!("{name}_{threads}_threads"), rate, "pages/s");
            own.push(rate);
        }
        for (many, threads) in THREADS.iter().enumerate().skip(2) {
            figures.add(format!("{name}_{threads}_vs_2"), own[many] / own[1], "ratio");
        }
        for ((rate, kernel), threads) in own.iter().zip(&kernel).zip(THREADS) {
            figures.add(format!("{name}_{threads}_vs_zram"), rate / kernel, "ratio");
        }
        if turn.who == Who::Kernel {
            kernel = own;
        }
    }
    Ok(())
}

fn note_touches(figures: &mut Figures, name: &str, touches: &[(Who, Touches)]) {
    note(figures, name, "", &each(touches, |t| t.median));
    note(figures, name, "_mean", &each(touches, |t| t.mean));
    note(figures, name, "_p99", &each(touches, |t| t.p99));
    note(figures, name, "_cpu", &each(touches, |t| t.cpu));
}

fn each(touches: &[(Who, Touches)], of: impl Fn(&Touches) -> f64) -> Vec<(Who, f64)> {
    touches.iter().map(|(who, touches)| (*who, of(touches))).collect()
}

/// Records a time of each side, and the arenas' divided by the kernel's.
fn note(figures: &mut Figures, name: &str, statistic: &str, nanos: &[(Who, f64)]) {
    let kernel = nanos.iter().find(|(who, _)| *who == Who::Kernel).map(|(_, nanos)| *nanos);
    for (who, nanos) in nanos {
        let name = format!("{name}{}{statistic}", who.suffix());
        match who {
            Who::Kernel => figures.add(format!("{name}_zram"), *nanos, "ns"),
            Who::Arena(_) => {
                figures.add(format!("{name}_arena"), *nanos, "ns");
                if let Some(kernel) = kernel {
                    figures.add(format!("{name}_vs_zram"), nanos / kernel, "ratio");
                }
            }
        }
    }
}
