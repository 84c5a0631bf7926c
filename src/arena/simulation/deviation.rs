//! How a run may differ from the plain one.

use super::Outcome;
use super::scenario::Scenario;
use crate::prim::schedule::number_after;
use crate::sys::platform::{Call, Chance, Injected, Made, is_asked_again, outcomes};
use std::collections::BTreeMap;

/// How a run differs from the plain one.
#[derive(Clone, Debug, Default)]
pub(super) struct Deviation {
    /// At a step another thread goes on.
    pub(super) switches: Vec<(usize, usize)>,
    /// Something befalls a call.
    pub(super) injections: Vec<(Chance, Injected)>,
    pub(super) seed: Option<u64>,
}

impl Deviation {
    /// Whether the order of steps is the plain one.
    pub(super) fn is_alone(&self) -> bool {
        self.switches.is_empty() && self.seed.is_none()
    }
}

impl Misfortune {
    /// What it is, wherever in the run.
    pub(super) fn kind(&self) -> Kind {
        (self.phase, format!("{:?}", self.chance.call), self.injected.to_string())
    }

    /// Whether it has to show in the counter of what the kernel refused: all that fails on the way
    /// out and is not simply asked for again.
    pub(super) fn is_counted(&self) -> bool {
        let failed = matches!(self.injected, Injected::Errno(_));
        let failed = failed && !is_asked_again(self.chance.call, self.injected);
        failed && matches!(self.phase, "evict" | "cycle")
    }
}

/// A phase, a call and an outcome.
pub(super) type Kind = (&'static str, String, String);

/// Something that could have befallen a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Misfortune {
    pub(super) chance: Chance,
    pub(super) phase: &'static str,
    pub(super) injected: Injected,
}

/// Everything that could have befallen a run.
pub(super) fn misfortunes(outcome: &Outcome) -> Vec<Misfortune> {
    let of = |made: &Made| {
        let (chance, phase) = (made.chance, made.phase);
        let all = outcomes(chance.call, made.range).into_iter();
        all.map(move |(injected, _)| Misfortune { chance, phase, injected })
    };
    outcome.made.iter().flat_map(of).collect()
}

/// The steps of a run at which others could have gone on, with these.
fn switches(plain: &Outcome) -> Vec<(usize, usize)> {
    let noted = plain.ran.noted.iter().enumerate();
    let others = |others: u64| (0..64).filter(move |n| others >> n & 1 == 1);
    noted.flat_map(|(step, noted)| others(noted.others).map(move |other| (step, other))).collect()
}

/// A deviation, and what befalls the run in it.
pub(super) type Case = (Deviation, Vec<Misfortune>);

fn case(misfortunes: &[Misfortune], switches: &[(usize, usize)], seed: Option<u64>) -> Case {
    let injections = misfortunes.iter().map(|m| (m.chance, m.injected)).collect();
    let mut switches = switches.to_vec();
    switches.sort_unstable();
    (Deviation { switches, injections, seed }, misfortunes.to_vec())
}

/// Every deviation by one call or one step.
pub(super) fn singles(plain: &Outcome) -> Vec<Case> {
    let misfortunes = misfortunes(plain);
    let calls = misfortunes.iter().map(|m| case(&[*m], &[], None));
    calls.chain(switches(plain).iter().map(|s| case(&[], &[*s], None))).collect()
}

/// Protection that the kernel forgets while pages are on their way out, and a touch soon after: a
/// thread that goes on within so many steps.
pub(super) fn forgotten(plain: &Outcome) -> Vec<Case> {
    const SOON: usize = 16;
    let switches = switches(plain);
    let on_the_way = |made: &&Made| {
        let goes = matches!(made.phase, "evict" | "cycle");
        goes && matches!(made.chance.call, Call::Punch | Call::Scan | Call::ReadBytes)
    };
    let cases = |made: &Made| {
        let (chance, phase, at) = (made.chance, made.phase, made.step);
        let one = Misfortune { chance, phase, injected: Injected::SwapOut };
        let soon = switches.iter().filter(move |s| (at..at + SOON).contains(&s.0));
        soon.map(move |switch| case(&[one], &[*switch], None)).collect::<Vec<_>>()
    };
    plain.made.iter().filter(on_the_way).flat_map(cases).collect()
}

/// Every deviation by two.
pub(super) fn pairs(plain: &Outcome) -> Vec<Case> {
    let (misfortunes, switches) = (misfortunes(plain), switches(plain));
    let mut all = Vec::new();
    for (i, one) in misfortunes.iter().enumerate() {
        all.extend(misfortunes[i + 1..].iter().map(|other| case(&[*one, *other], &[], None)));
        all.extend(switches.iter().map(|switch| case(&[*one], &[*switch], None)));
    }
    for (i, one) in switches.iter().enumerate() {
        all.extend(switches[i + 1..].iter().map(|other| case(&[], &[*one, *other], None)));
    }
    all
}

/// So many deviations of two things, or of one and an order of steps from a seed.
pub(super) fn samples(scenario: &Scenario, plain: &Outcome, count: usize) -> Vec<Case> {
    let (misfortunes, switches) = (misfortunes(plain), switches(plain));
    let mut state = scenario.name.bytes().fold(1, |a: u64, b| a.wrapping_mul(31) + u64::from(b));
    let mut sample = |n: usize| {
        let (calls, steps, seed) =
            [(2, 0, None), (1, 0, Some(n as u64 + 1)), (1, 1, None), (0, 0, Some(n as u64 + 1))]
                [n % 4];
        let mut pick = |of: usize| number_after(&mut state) as usize % of.max(1);
        let calls: Vec<_> = (0..calls.min(misfortunes.len()))
            .map(|_| misfortunes[pick(misfortunes.len())])
            .collect();
        let steps: Vec<_> =
            (0..steps.min(switches.len())).map(|_| switches[pick(switches.len())]).collect();
        case(&calls, &steps, seed)
    };
    (0..count).map(&mut sample).collect()
}

/// What has befallen calls that are only made where something else went another way.
#[derive(Debug, Default)]
pub(super) struct Novelties {
    seen: BTreeMap<Kind, usize>,
}

impl Novelties {
    /// Cases of one kind, at most: in that many different places.
    const MOST: usize = 3;

    /// What is new in a run that went another way.
    pub(super) fn of(
        &mut self,
        deviation: &Deviation,
        taken: &[Misfortune],
        outcome: &Outcome,
    ) -> Vec<Case> {
        let mut all = Vec::new();
        for one in misfortunes(outcome) {
            let seen = self.seen.entry(one.kind()).or_default();
            if *seen < Self::MOST {
                *seen += 1;
                let both: Vec<_> = taken.iter().copied().chain([one]).collect();
                all.push(case(&both, &deviation.switches, None));
            }
        }
        all
    }
}
