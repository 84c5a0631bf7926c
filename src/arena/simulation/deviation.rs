//! The ways in which a run deviates from the plain run.

use super::Outcome;
use super::scenario::Scenario;
use crate::prim::schedule::number_after;
use crate::sys::platform::{Call, CallIndex, CallRecord, Injected, is_retried, outcomes};
use std::collections::BTreeMap;

/// The differences between a run and the plain run.
#[derive(Clone, Debug, Default)]
pub(super) struct Deviation {
    /// Steps at which the schedule switches to another thread.
    pub(super) switches: Vec<(usize, usize)>,
    /// Injections into calls.
    pub(super) injections: Vec<(CallIndex, Injected)>,
    pub(super) seed: Option<u64>,
}

impl Deviation {
    /// Whether the order of steps is the plain one.
    pub(super) fn is_alone(&self) -> bool {
        self.switches.is_empty() && self.seed.is_none()
    }
}

impl Injection {
    /// The injection's kind, independent of its place in the run.
    pub(super) fn kind(&self) -> Kind {
        (self.phase, format!("{:?}", self.index.call), self.injected.to_string())
    }

    /// Whether the engine must count it in `kernel_errors`: each failure during an eviction, except of a
    /// call that the library repeats.
    pub(super) fn is_counted(&self) -> bool {
        let failed = matches!(self.injected, Injected::Errno(_));
        let failed = failed && !is_retried(self.index.call, self.injected);
        failed && matches!(self.phase, "evict" | "cycle")
    }
}

/// A phase, a call and an outcome.
pub(super) type Kind = (&'static str, String, String);

/// An injection into one call of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Injection {
    pub(super) index: CallIndex,
    pub(super) phase: &'static str,
    pub(super) injected: Injected,
}

/// Every possible injection into the calls of a run.
pub(super) fn injections(outcome: &Outcome) -> Vec<Injection> {
    let of = |call: &CallRecord| {
        let (index, phase) = (call.index, call.phase);
        let all = outcomes(index.call, call.range).into_iter();
        all.map(move |(injected, _)| Injection { index, phase, injected })
    };
    outcome.calls.iter().flat_map(of).collect()
}

/// The steps of a run at which another thread could have run, each with that thread's number.
fn switches(plain: &Outcome) -> Vec<(usize, usize)> {
    let noted = plain.ran.noted.iter().enumerate();
    let others = |others: u64| (0..64).filter(move |n| others >> n & 1 == 1);
    noted.flat_map(|(step, noted)| others(noted.others).map(move |other| (step, other))).collect()
}

/// A deviation, and its injections with their phases.
pub(super) type Case = (Deviation, Vec<Injection>);

fn case(injections: &[Injection], switches: &[(usize, usize)], seed: Option<u64>) -> Case {
    let of_calls = injections.iter().map(|one| (one.index, one.injected)).collect();
    let mut switches = switches.to_vec();
    switches.sort_unstable();
    (Deviation { switches, injections: of_calls, seed }, injections.to_vec())
}

/// Every deviation in one call or one step.
pub(super) fn singles(plain: &Outcome) -> Vec<Case> {
    let injections = injections(plain);
    let calls = injections.iter().map(|m| case(&[*m], &[], None));
    calls.chain(switches(plain).iter().map(|s| case(&[], &[*s], None))).collect()
}

/// The kernel loses the protection of pages during their eviction, and the schedule switches to another
/// thread, which may touch them, within 16 steps.
pub(super) fn forgotten(plain: &Outcome) -> Vec<Case> {
    const SOON: usize = 16;
    let switches = switches(plain);
    let on_the_way = |call: &&CallRecord| {
        let goes = matches!(call.phase, "evict" | "cycle");
        goes && matches!(
            call.index.call,
            Call::Punch | Call::Scan | Call::ReadBytes | Call::MoveOut | Call::DiscardStaged
        )
    };
    let cases = |call: &CallRecord| {
        let (index, phase, at) = (call.index, call.phase, call.step);
        let one = Injection { index, phase, injected: Injected::SwapOut };
        let soon = switches.iter().filter(move |s| (at..at + SOON).contains(&s.0));
        soon.map(move |switch| case(&[one], &[*switch], None)).collect::<Vec<_>>()
    };
    plain.calls.iter().filter(on_the_way).flat_map(cases).collect()
}

/// Every deviation in two calls or steps.
pub(super) fn pairs(plain: &Outcome) -> Vec<Case> {
    let (injections, switches) = (injections(plain), switches(plain));
    let mut all = Vec::new();
    for (i, one) in injections.iter().enumerate() {
        all.extend(injections[i + 1..].iter().map(|other| case(&[*one, *other], &[], None)));
        all.extend(switches.iter().map(|switch| case(&[*one], &[*switch], None)));
    }
    for (i, one) in switches.iter().enumerate() {
        all.extend(switches[i + 1..].iter().map(|other| case(&[], &[*one, *other], None)));
    }
    all
}

/// `count` deviations, each in two calls or steps, or in one call and an order of steps from a seed.
pub(super) fn samples(scenario: &Scenario, plain: &Outcome, count: usize) -> Vec<Case> {
    let (injections, switches) = (injections(plain), switches(plain));
    let mut state = scenario.name.bytes().fold(1, |a: u64, b| a.wrapping_mul(31) + u64::from(b));
    let mut sample = |n: usize| {
        let (calls, steps, seed) =
            [(2, 0, None), (1, 0, Some(n as u64 + 1)), (1, 1, None), (0, 0, Some(n as u64 + 1))]
                [n % 4];
        let mut pick = |of: usize| number_after(&mut state) as usize % of.max(1);
        let calls: Vec<_> =
            (0..calls.min(injections.len())).map(|_| injections[pick(injections.len())]).collect();
        let steps: Vec<_> =
            (0..steps.min(switches.len())).map(|_| switches[pick(switches.len())]).collect();
        case(&calls, &steps, seed)
    };
    (0..count).map(&mut sample).collect()
}

/// The injections into calls that only a deviation causes.
#[derive(Debug, Default)]
pub(super) struct NewCalls {
    seen: BTreeMap<Kind, usize>,
}

impl NewCalls {
    /// The most cases of one kind, in different places.
    const MOST: usize = 3;

    /// The cases with an injection that is new in this deviation.
    pub(super) fn of(
        &mut self,
        deviation: &Deviation,
        injected: &[Injection],
        outcome: &Outcome,
    ) -> Vec<Case> {
        let mut all = Vec::new();
        for one in injections(outcome) {
            let seen = self.seen.entry(one.kind()).or_default();
            if *seen < Self::MOST {
                *seen += 1;
                let both: Vec<_> = injected.iter().copied().chain([one]).collect();
                all.push(case(&both, &deviation.switches, None));
            }
        }
        all
    }
}
