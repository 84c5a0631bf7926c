//! The engine on a simulated kernel, with every injection into its calls.
//!
//! The test runs each [`Scenario`] once without deviations (the plain run), and once for every single
//! deviation: every injection into every call, and a switch to every other thread at every step. Then it
//! injects into calls that only a deviation causes. Then come pairs of deviations, and orders of steps
//! from seeds. After each run every byte must read back, all structures must be consistent, and no
//! thread may wait.
//!
//! `THERMOCLINE_SIM_DEPTH` is the number of runs with pairs and seeds per scenario, 80 by default; from
//! 1000 on, the short scenarios run with every pair. `THERMOCLINE_SIM_ONLY` is a part of the names of
//! the scenarios to run.

mod deviation;
mod report;
mod scenario;
mod world;

use crate::prim::schedule::{self, Failure, Plan, Ran};
use crate::prim::sync::thread;
use crate::sys::platform::{CallRecord, Cost, Kernel};
use deviation::{Case, Deviation, Injection, NewCalls, forgotten, pairs, samples, singles};
use report::Table;
use scenario::{Scenario, scenarios};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use world::World;

/// The result of a run.
struct Outcome {
    ran: Ran,
    calls: Vec<CallRecord>,
    /// Whether all injections took place.
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
        let other_threads: Vec<_> = scenario
            .other_threads
            .iter()
            .enumerate()
            .map(|(number, ops)| {
                let world = Arc::clone(&world);
                thread::start(format!("thread {number}"), move || {
                    world.kernel.enter();
                    ops.iter().for_each(|op| world.run(*op));
                })
            })
            .collect();
        scenario.main.iter().for_each(|op| world.run(*op));
        for thread in other_threads {
            let _ = thread.join();
        }
        kernel.stop_injecting();
        world.verify();
        if scenario.own_thread {
            world.run(scenario::Op::Stop);
            world.verify_stopped();
        }
        world.end();
        let counters = &world.engine.core.counters;
        let counted = counters.kernel_errors.get() + counters.accessed_errors.get();
        refused.store(usize::try_from(counted).unwrap_or(0), Ordering::Relaxed);
    });
    Outcome {
        ran,
        calls: kernel.calls(),
        complete: kernel.injected_all(),
        cost: kernel.cost(),
        refused: refused.into_inner() as u64,
    }
}

/// The error of a run with these injections, if it has one.
fn judge(outcome: &Outcome, deviation: &Deviation, injected: &[Injection]) -> Option<String> {
    match (&outcome.ran.failure, injected) {
        // In another order the injection may hit another call, or one that would fail anyway.
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

/// A scenario, and the injections that were new in its deviations.
struct ScenarioState {
    scenario: Scenario,
    new_calls: Mutex<NewCalls>,
}

/// Runs all cases on two threads, and returns the cases that follow from them.
fn run_all(
    work: &[(Arc<ScenarioState>, Case)],
    table: &Mutex<Table>,
) -> Vec<(Arc<ScenarioState>, Case)> {
    let (next, followed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let worker = || {
        while let Some((state, (deviation, injected))) =
            work.get(next.fetch_add(1, Ordering::Relaxed))
        {
            let outcome = run(&state.scenario, deviation, false);
            let wrong = judge(&outcome, deviation, injected);
            let mut table = table.lock().unwrap();
            table.note(injected, &outcome.ran, outcome.complete);
            if let Some(wrong) = wrong {
                let title = state.scenario.title();
                table.violation(format!("{title}: {deviation:?}: {wrong}"));
            }
            if table.is_full() {
                break;
            }
            drop(table);
            if injected.len() + deviation.switches.len() == 1 && deviation.seed.is_none() {
                let cases = state.new_calls.lock().unwrap().of(deviation, injected, &outcome);
                let cases = cases.into_iter().map(|case| (Arc::clone(state), case));
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
fn with_every_injection_all_bytes_are_right_and_no_thread_waits_for_ever() {
    /// A scenario with at most this number of deviations is short.
    const SHORT: usize = 300;
    /// The steps of a run of average length.
    const AVERAGE: usize = 500;
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
        // Short scenarios get more samples.
        let count = depth * (4 * AVERAGE / plain.ran.steps.max(1)).clamp(1, 40);
        cases.extend(samples(&scenario, &plain, count));
        let mut new_calls = NewCalls::default();
        // The single deviations contain the plain run's calls already.
        let _ = new_calls.of(&Deviation::default(), &[], &plain);
        let state = Arc::new(ScenarioState { scenario, new_calls: Mutex::new(new_calls) });
        work.extend(cases.into_iter().map(|case| (Arc::clone(&state), case)));
    }
    assert!(!work.is_empty(), "no scenario is called {only}");
    let followed = run_all(&work, &table);
    run_all(&followed, &table);
    let table = table.into_inner().unwrap();
    table.print();
    assert!(table.violations().is_empty(), "{:#?}", table.violations());
}
