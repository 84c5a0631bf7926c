//! The engine on a simulated kernel, with everything that may befall it.
//!
//! Each [`Scenario`] is run once as it is, and then once for every deviation from that: every outcome
//! of every call that was made, and every other thread going on at every step. Then come pairs of
//! deviations and orders of steps from seeds. After each run every byte has to read back, all
//! structures have to be whole, and nobody may be left waiting.
//!
//! `THERMOCLINE_SIM_DEPTH` is how many runs there are of pairs and seeds to each scenario, 150 by
//! default; `THERMOCLINE_SIM_ONLY` a part of the names of scenarios to run.

mod report;
mod scenario;
mod world;

use crate::prim::schedule::{self, Failure, Plan, Ran, number_after};
use crate::prim::sync::thread;
use crate::sys::simulated::{Chance, Cost, Injected, Kernel, Made, is_asked_again, outcomes};
use report::Table;
use scenario::{Scenario, scenarios};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use world::World;

/// How a run differs from the plain one.
#[derive(Clone, Debug, Default)]
struct Deviation {
    /// At a step another thread goes on.
    switches: Vec<(usize, usize)>,
    /// Something befalls a call.
    injections: Vec<(Chance, Injected)>,
    seed: Option<u64>,
}

impl Deviation {
    /// Whether the order of steps is the plain one.
    fn is_alone(&self) -> bool {
        self.switches.is_empty() && self.seed.is_none()
    }
}

/// Something that could have befallen a run.
#[derive(Clone, Copy, Debug)]
struct Misfortune {
    chance: Chance,
    phase: &'static str,
    injected: Injected,
}

/// What a run left behind.
struct Outcome {
    ran: Ran,
    made: Vec<Made>,
    /// Whether everything that was to befall it did.
    complete: bool,
    cost: Cost,
    refused: u64,
}

fn run(scenario: &Scenario, deviation: &Deviation, record: bool) -> Outcome {
    let kernel = Kernel::boot();
    let plan =
        Plan { switches: deviation.switches.clone(), seed: deviation.seed, record, ..Plan::PLAIN };
    let refused = AtomicUsize::new(0);
    let ran = schedule::run(plan, || {
        let world = World::new(scenario, Arc::clone(&kernel));
        scenario.before.iter().for_each(|op| world.run(*op));
        kernel.inject(&deviation.injections);
        let strangers: Vec<_> = scenario
            .strangers
            .iter()
            .enumerate()
            .map(|(number, ops)| {
                let world = Arc::clone(&world);
                thread::start(format!("stranger {number}"), move || {
                    world.kernel.enter();
                    ops.iter().for_each(|op| world.run(*op));
                })
            })
            .collect();
        scenario.main.iter().for_each(|op| world.run(*op));
        for stranger in strangers {
            let _ = stranger.join();
        }
        kernel.be_quiet();
        world.verify();
        if scenario.own_thread {
            world.run(scenario::Op::Stop);
            world.verify_stopped();
        }
        world.end();
        let counted = world.engine.counters.kernel_refused.get();
        refused.store(usize::try_from(counted).unwrap_or(0), Ordering::Relaxed);
    });
    Outcome {
        ran,
        made: kernel.made(),
        complete: kernel.injected_all(),
        cost: kernel.cost(),
        refused: refused.into_inner() as u64,
    }
}

/// What is wrong with a run that these befell, if anything.
fn judge(outcome: &Outcome, deviation: &Deviation, taken: &[Misfortune]) -> Option<String> {
    match (&outcome.ran.failure, taken) {
        // In another order it may befall something else, or nothing that was to go.
        (None, [one]) if deviation.is_alone() && is_counted(one) && outcome.refused == 0 => {
            Some(format!("{one:?} was not counted"))
        }
        (None, _) => None,
        (Some(Failure::Aborted(_)), _) if outcome.cost == Cost::Process => None,
        (Some(failure), _) => Some(format!("{failure:?}")),
    }
}

/// Whether it has to show in the counter of what the kernel refused: all that fails on the way out
/// and is not simply asked for again.
fn is_counted(one: &Misfortune) -> bool {
    let failed = matches!(one.injected, Injected::Errno(_));
    let failed = failed && !is_asked_again(one.chance.call, one.injected);
    failed && matches!(one.phase, "evict" | "cycle")
}

/// Everything that could have befallen a run.
fn misfortunes(outcome: &Outcome) -> Vec<Misfortune> {
    let of = |made: &Made| {
        let (chance, phase) = (made.chance, made.phase);
        let all = outcomes(chance.call, made.range).into_iter();
        all.map(move |(injected, _)| Misfortune { chance, phase, injected })
    };
    outcome.made.iter().flat_map(of).collect()
}

/// Every deviation of one step or call, and some of two and by chance.
fn deviations(
    scenario: &Scenario,
    plain: &Outcome,
    depth: usize,
) -> Vec<(Deviation, Vec<Misfortune>)> {
    let misfortunes = misfortunes(plain);
    let alone = |m: &Misfortune| Deviation {
        injections: vec![(m.chance, m.injected)],
        ..Deviation::default()
    };
    let mut all: Vec<_> = misfortunes.iter().map(|m| (alone(m), vec![*m])).collect();
    let mut switches = Vec::new();
    for (step, noted) in plain.ran.noted.iter().enumerate() {
        for other in (0..64).filter(|n| noted.others >> n & 1 == 1) {
            switches.push((step, other));
        }
    }
    all.extend(
        switches
            .iter()
            .map(|s| (Deviation { switches: vec![*s], ..Deviation::default() }, Vec::new())),
    );
    let mut seed = scenario.name.bytes().fold(1, |a: u64, b| a.wrapping_mul(31) + u64::from(b));
    for n in 0..depth {
        let mut pick = |of: usize| number_after(&mut seed) as usize % of.max(1);
        let mut deviation = Deviation::default();
        let mut taken = Vec::new();
        // Two injections, one and an order from a seed, one and a switch, two switches.
        let (calls, steps) = [(2, 0), (1, 0), (1, 1), (0, 2)][n % 4];
        for _ in 0..calls.min(misfortunes.len()) {
            let one = misfortunes[pick(misfortunes.len())];
            deviation.injections.push((one.chance, one.injected));
            taken.push(one);
        }
        for _ in 0..steps.min(switches.len()) {
            deviation.switches.push(switches[pick(switches.len())]);
        }
        deviation.switches.sort_unstable();
        if n % 4 == 1 {
            deviation.seed = Some(n as u64 + 1);
        }
        all.push((deviation, taken));
    }
    all
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[test]
fn whatever_befalls_a_run_no_byte_is_wrong_and_nobody_waits_for_ever() {
    let depth = setting("THERMOCLINE_SIM_DEPTH").map_or(150, |n| n.parse().unwrap());
    let only = setting("THERMOCLINE_SIM_ONLY").unwrap_or_default();
    let table = Mutex::new(Table::default());
    let mut work = Vec::new();
    for scenario in scenarios().into_iter().filter(|s| s.title().contains(&only)) {
        let plain = run(&scenario, &Deviation::default(), true);
        assert_eq!(judge(&plain, &Deviation::default(), &[]), None, "{}", scenario.title());
        let scenario = Arc::new(scenario);
        let deviations = deviations(&scenario, &plain, depth);
        work.extend(deviations.into_iter().map(|d| (Arc::clone(&scenario), d)));
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((scenario, (deviation, taken))) =
                    work.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let outcome = run(scenario, deviation, false);
                    let wrong = judge(&outcome, deviation, taken);
                    let mut table = table.lock().unwrap();
                    table.note(taken, &outcome.ran, outcome.complete);
                    if let Some(wrong) = wrong {
                        table.violation(format!("{}: {deviation:?}: {wrong}", scenario.title()));
                    }
                }
            });
        }
    });
    let table = table.into_inner().unwrap();
    table.print();
    assert!(table.violations().is_empty(), "{:#?}", table.violations());
}
