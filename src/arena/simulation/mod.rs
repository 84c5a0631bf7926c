//! The engine on a simulated kernel, with everything that may befall it.
//!
//! Each [`Scenario`] is run once as it is, and then once for every deviation from that: every outcome
//! of every call that was made, and every other thread going on at every step. What may befall calls
//! that are only made in one of these comes after them. Then come pairs of deviations and orders
//! of steps from seeds. After each run every byte has to read back, all structures have to be whole,
//! and nobody may be left waiting.
//!
//! `THERMOCLINE_SIM_DEPTH` is how many runs there are of pairs and seeds to each scenario, 80 by
//! default, and from 1000 on every pair of the short ones; `THERMOCLINE_SIM_ONLY` a part of the
//! names of scenarios to run.

mod deviation;
mod report;
mod scenario;
mod world;

use crate::prim::schedule::{self, Failure, Plan, Ran};
use crate::prim::sync::thread;
use crate::sys::platform::{Cost, Kernel, Made};
use deviation::{Case, Deviation, Misfortune, Novelties, forgotten, pairs, samples, singles};
use report::Table;
use scenario::{Scenario, scenarios};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use world::World;

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
    let plan = Plan {
        switches: deviation.switches.clone(),
        seed: deviation.seed,
        odds: [4, 8, 16, 32][deviation.seed.map_or(0, |seed| seed as usize / 4 % 4)],
        record,
        ..Plan::PLAIN
    };
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
        let counted = world.engine.core.counters.kernel_refused.get();
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
        (None, [one]) if deviation.is_alone() && one.is_counted() && outcome.refused == 0 => {
            Some(format!("{one:?} was not counted"))
        }
        (None, _) => None,
        (Some(Failure::Aborted(_)), _) if outcome.cost == Cost::Process => None,
        (Some(failure), _) => Some(format!("{failure:?}")),
    }
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A scenario, and what has been new in it.
struct Stage {
    scenario: Scenario,
    novelties: Mutex<Novelties>,
}

/// Runs all cases on two threads, and gives those that follow from them.
fn run_all(work: &[(Arc<Stage>, Case)], table: &Mutex<Table>) -> Vec<(Arc<Stage>, Case)> {
    let (next, followed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let worker = || {
        while let Some((stage, (deviation, taken))) = work.get(next.fetch_add(1, Ordering::Relaxed))
        {
            let outcome = run(&stage.scenario, deviation, false);
            let wrong = judge(&outcome, deviation, taken);
            let mut table = table.lock().unwrap();
            table.note(taken, &outcome.ran, outcome.complete);
            if let Some(wrong) = wrong {
                let title = stage.scenario.title();
                table.violation(format!("{title}: {deviation:?}: {wrong}"));
            }
            if table.is_full() {
                break;
            }
            drop(table);
            if taken.len() + deviation.switches.len() == 1 && deviation.seed.is_none() {
                let cases = stage.novelties.lock().unwrap().of(deviation, taken, &outcome);
                let cases = cases.into_iter().map(|case| (Arc::clone(stage), case));
                followed.lock().unwrap().extend(cases);
            }
        }
    };
    std::thread::scope(|scope| {
        (0..2).for_each(|_| drop(scope.spawn(worker)));
    });
    followed.into_inner().unwrap()
}

#[test]
fn whatever_befalls_a_run_no_byte_is_wrong_and_nobody_waits_for_ever() {
    /// Scenarios with no more deviations than this are short.
    const SHORT: usize = 300;
    /// Steps of a run.
    const MIDDLING: usize = 500;
    let depth = setting("THERMOCLINE_SIM_DEPTH").map_or(80, |n| n.parse().unwrap());
    let only = setting("THERMOCLINE_SIM_ONLY").unwrap_or_default();
    let table = Mutex::new(Table::default());
    let mut work = Vec::new();
    for scenario in scenarios().into_iter().filter(|s| s.title().contains(&only)) {
        let plain = run(&scenario, &Deviation::default(), true);
        assert_eq!(judge(&plain, &Deviation::default(), &[]), None, "{}", scenario.title());
        let mut cases = singles(&plain);
        cases.extend(forgotten(&plain));
        if depth >= 1000 && cases.len() <= SHORT {
            cases.extend(pairs(&plain));
        }
        // More of those that are soon done.
        let count = depth * (4 * MIDDLING / plain.ran.steps.max(1)).clamp(1, 40);
        cases.extend(samples(&scenario, &plain, count));
        let mut novelties = Novelties::default();
        // What is in the plain run has its turn in any case.
        let _ = novelties.of(&Deviation::default(), &[], &plain);
        let stage = Arc::new(Stage { scenario, novelties: Mutex::new(novelties) });
        work.extend(cases.into_iter().map(|case| (Arc::clone(&stage), case)));
    }
    assert!(!work.is_empty(), "no scenario is called {only}");
    let followed = run_all(&work, &table);
    run_all(&followed, &table);
    let table = table.into_inner().unwrap();
    table.print();
    assert!(table.violations().is_empty(), "{:#?}", table.violations());
}
